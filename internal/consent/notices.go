package consent

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The limits of what a deployment can send to one user.
const (
	maxNotices   = 10
	noticeWindow = time.Hour
	maxPostedOne = 64 << 10 // bytes of a notice's body
)

// postNotice mails a user what a deployment says. A deployment that somebody
// took over could write what it likes, so its words are marked line by line:
// no text of its can look as if the Auth app said it.
func (s *Service) postNotice(w http.ResponseWriter, r *http.Request, d Deployment) error {
	var n decision.Notice
	if err := read(w, r, maxPostedOne, &n); err != nil {
		return err
	}
	if err := n.Validate(); err != nil {
		return err
	}
	if err := s.cfg.Store.Write(r.Context(), func(tx records.Tx) error { return s.admitNotice(tx, d, n.User) }); err != nil {
		return err
	}
	text := fmt.Sprintf("%s (%s) has something to tell you. Its words:\n\n> %s\n\nAccount: %s\nNobody here checked these words. Follow no link in them; type the address that you know.\n",
		d.Name, d.URL, strings.ReplaceAll(strings.TrimSpace(n.Text), "\n", "\n> "), n.User)
	if err := s.cfg.Sessions.Mail(r.Context(), n.User, d.Name+": "+n.Subject, text); err != nil {
		return err
	}
	err := s.cfg.Store.Write(r.Context(), func(tx records.Tx) error { return s.note(tx, d.Name, "notice.mail", n.User, "", n.Subject) })
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// admitNotice refuses what would be too much for a user, or for the database.
func (s *Service) admitNotice(tx records.Tx, d Deployment, user string) error {
	ok, err := s.count(tx, "all/"+d.Name, maxAll, postWindow)
	if err == nil && ok {
		ok, err = s.count(tx, "notice/"+d.Name+"/"+user, maxNotices, noticeWindow)
	}
	if err == nil && !ok {
		err = hpcsera.Errorf(hpcsera.QuotaExceeded, "%s sends too many mails to %s.", d.Name, user).Hint("Try again in an hour.")
	}
	return err
}
