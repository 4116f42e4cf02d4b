package consent

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// maxForm is far above what any form of ours holds.
const maxForm = 64 << 10

// form reads a posted form. Fields in the address are none of ours: a link
// fills in nothing.
func form(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	var limit *http.MaxBytesError
	switch err := r.ParseForm(); {
	case errors.As(err, &limit):
		return nil, hpcsera.Errorf(hpcsera.BodyTooLarge, "The form is longer than %d bytes.", limit.Limit)
	case err != nil:
		return nil, hpcsera.Errorf(hpcsera.MalformedRequest, "The form cannot be read: %w.", err)
	}
	return r.PostForm, nil
}

// inboxView is what waits for a user.
type inboxView struct {
	Open  []pending
	Mutes []mute
}

func (s *Service) inbox(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, false)
	if !ok {
		return
	}
	var v inboxView
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) (err error) {
		if v.Open, err = list[pending](rd, kindRequest, who.User); err != nil {
			return err
		}
		v.Mutes, err = list[mute](rd, kindMute, who.User)
		return err
	})
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	slices.SortFunc(v.Open, func(a, b pending) int { return b.Posted.Compare(a.Posted) })
	s.pages.Render(w, r, http.StatusOK, "inbox", page.View{User: who.User, Operator: who.Operator, Data: v})
}

func (s *Service) unmute(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, false)
	if !ok {
		return
	}
	f, err := form(w, r)
	if err == nil {
		err = s.Unmute(r.Context(), who.User, f.Get("deployment"), f.Get("client"))
	}
	s.after(w, r, who, err, "unmuted", "/")
}

// after ends a form: on the next page, or on an error's.
func (s *Service) after(w http.ResponseWriter, r *http.Request, who Person, err error, notice, to string) {
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	s.cfg.Frame.Flash(w, notice)
	s.cfg.Frame.Redirect(w, r, to)
}

// codeForm asks for a code. Whatever the address says, the field is empty: a
// link that filled it in would make one click of what has to be two persons
// looking at two screens.
func (s *Service) codeForm(w http.ResponseWriter, r *http.Request) {
	if who, ok := s.cfg.Sessions.Require(w, r, false); ok {
		s.pages.Render(w, r, http.StatusOK, "code", page.View{User: who.User, Operator: who.Operator})
	}
}

func (s *Service) typeCode(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, false)
	if !ok {
		return
	}
	f, err := form(w, r)
	var key string
	if err == nil {
		key, err = s.Type(r.Context(), who.User, f.Get("code"))
	}
	var told *hpcsera.Error
	switch {
	case err == nil:
		s.cfg.Frame.Redirect(w, r, "/requests/"+key)
	case errors.As(err, &told) && told.Field == "code":
		status := http.StatusUnprocessableEntity
		if told.Code == hpcsera.QuotaExceeded {
			status = http.StatusTooManyRequests
		}
		s.pages.Render(w, r, status, "code", page.View{User: who.User, Operator: who.Operator, Problem: told})
	default:
		s.cfg.Frame.Fail(w, r, who.User, err)
	}
}

// requestView is one request as its user sees it.
type requestView struct {
	pending
	Deployment Deployment
	Roles      []roleView
	Ends       []endView
	Code       *codeView
}

type roleView struct {
	Number int
	Name   string
	Means  string
}

type endView struct{ Value, Label string }

// meanings say what a role does, for people.
var meanings = map[hpcsera.Role]string{
	hpcsera.GetJobStatus:    "read jobs, their logs and results",
	hpcsera.UpdateJobStatus: "write notes and progress at jobs",
	hpcsera.GetJob:          "fetch work, as agents do",
	hpcsera.PostCode:        "hand in new code, which runs only after you approved it",
	hpcsera.GetCode:         "read code",
	hpcsera.PostJob:         "start jobs of code that you approved",
	hpcsera.UpdateJob:       "hold, release and change jobs",
	hpcsera.DeleteJob:       "cancel jobs, and erase those that ended",
}

// choose fills in what the user can choose: all of what was asked for, or less.
func (v *requestView) choose(now time.Time) {
	for _, r := range v.Request.Roles.List() {
		v.Roles = append(v.Roles, roleView{int(r), r.String(), meanings[r]})
	}
	v.Ends = []endView{{"asked", "as asked: " + v.Request.Until.UTC().Format("2 Jan 2006, 15:04")}}
	for _, c := range []struct {
		length time.Duration
		label  string
	}{{time.Hour, "1 hour"}, {8 * time.Hour, "8 hours"}, {24 * time.Hour, "1 day"}, {7 * 24 * time.Hour, "7 days"}, {30 * 24 * time.Hour, "30 days"}} {
		if now.Add(c.length).Before(v.Request.Until) {
			v.Ends = append(v.Ends, endView{strconv.Itoa(int(c.length / time.Second)), c.label})
		}
	}
}

func (s *Service) showRequest(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, true)
	if !ok {
		return
	}
	s.renderRequest(w, r, who, http.StatusOK, nil)
}

// renderRequest shows a request, with what was wrong with a form.
func (s *Service) renderRequest(w http.ResponseWriter, r *http.Request, who Person, status int, problem *hpcsera.Error) {
	var v requestView
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) (err error) {
		if v.pending, err = s.requestOf(rd, who.User, r.PathValue("deployment"), r.PathValue("id")); err != nil {
			return err
		}
		if v.Deployment, _, err = get[Deployment](rd, kindDeployment, v.pending.Deployment); err != nil || v.Request.Code == nil {
			return err
		}
		v.Code, err = s.codeView(rd, v.pending, r.URL.Query().Get("step") == "sign")
		return err
	})
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	name := "request"
	if v.Code != nil {
		name = "review"
		if v.Code.Statement != nil {
			name = "sign"
		}
	}
	if v.Code == nil {
		v.choose(s.cfg.Now())
	}
	s.pages.Render(w, r, status, name, page.View{User: who.User, Operator: who.Operator, Problem: problem, Data: v})
}

// decideRequest takes the form of a request's page.
func (s *Service) decideRequest(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, true)
	if !ok {
		return
	}
	f, err := form(w, r)
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	deployment, id := r.PathValue("deployment"), r.PathValue("id")
	here, to, notice := "/requests/"+url.PathEscape(deployment)+"/"+url.PathEscape(id), "/", ""
	switch f.Get("action") {
	case "allow":
		var c Choice
		if c, err = s.choice(r, who, f); err == nil {
			notice, err = "allowed", s.Decide(r.Context(), who.User, deployment, id, c)
		}
	case "deny":
		notice, err = "denied", s.Decide(r.Context(), who.User, deployment, id, Choice{})
	case "mute":
		days, _ := strconv.Atoi(f.Get("days")) // 0 is refused below
		if days < 1 {
			days = 1
		}
		notice, err = "muted", s.Decide(r.Context(), who.User, deployment, id, Choice{Mute: time.Duration(days) * 24 * time.Hour})
	case "review":
		var n Narrowed
		if n, err = readNarrowed(f); err == nil {
			err = s.Draft(r.Context(), who.User, deployment, id, f.Get("shown"), n)
		}
		to = here + "?step=sign"
	case "sign":
		notice, err = "signed", s.signForm(r, who, f)
	default:
		err = hpcsera.Errorf(hpcsera.MalformedRequest, "The form says neither allow nor deny.")
	}
	var told *hpcsera.Error
	switch {
	case err == nil && notice != "":
		s.after(w, r, who, nil, notice, to)
	case err == nil:
		s.cfg.Frame.Redirect(w, r, to)
	case errors.As(err, &told) && told.Code != hpcsera.NotFound && told.Code != hpcsera.Internal:
		s.renderRequest(w, r, who, http.StatusUnprocessableEntity, told)
	default:
		s.cfg.Frame.Fail(w, r, who.User, err)
	}
}

func (s *Service) signForm(r *http.Request, who Person, f url.Values) error {
	a, err := readAssertion(f.Get("credential"))
	if err != nil {
		return err
	}
	return s.Sign(r.Context(), who.User, r.PathValue("deployment"), r.PathValue("id"), f.Get("shown"), a)
}

// choice reads what a user grants.
func (s *Service) choice(r *http.Request, who Person, f url.Values) (Choice, error) {
	c := Choice{Allow: true, Shown: f.Get("shown")}
	var p pending
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) (err error) {
		p, err = s.requestOf(rd, who.User, r.PathValue("deployment"), r.PathValue("id"))
		return err
	})
	if err != nil {
		return c, err
	}
	if len(f["roles"]) > 0 {
		if c.Roles, err = hpcsera.ParseRoles(strings.Join(f["roles"], ",")); err != nil {
			return c, err
		}
	}
	c.Until = p.Request.Until
	if until := f.Get("until"); until != "asked" && p.Request.Kind != decision.Code {
		seconds, err := strconv.Atoi(until)
		if err != nil || seconds < 1 || seconds > 366*24*3600 {
			return c, hpcsera.Errorf(hpcsera.InvalidField, "Choose when it ends.").At("until")
		}
		c.Until = s.cfg.Now().Add(time.Duration(seconds) * time.Second)
	}
	return c, nil
}

// activityView is a part of what concerns a user.
type activityView struct {
	Lines []records.AuditLine
	Older int64 // the number before which there is more, 0 for none
}

// activityPage is how many lines a page has.
const activityPage = 50

func (s *Service) activity(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, false)
	if !ok {
		return
	}
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // anything else is the newest
	var v activityView
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) (err error) {
		v.Lines, err = rd.AuditOf(who.User, max(0, before), activityPage)
		return err
	})
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	if len(v.Lines) == activityPage {
		v.Older = v.Lines[len(v.Lines)-1].Number
	}
	s.pages.Render(w, r, http.StatusOK, "activity", page.View{User: who.User, Operator: who.Operator, Data: v})
}
