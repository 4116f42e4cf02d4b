package policy

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// The status lists of a pinned Auth app are files beside the trust file, in
// status-lists/ISSUER'S HASH/NUMBER.jws. The highest number counts. A file is
// written whole and never changed, and only lower ones are removed: so the
// number cannot go back, whichever instance writes, and whenever it dies.
func statusDir(trust, issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return filepath.Join(filepath.Dir(trust), "status-lists", hex.EncodeToString(sum[:8]))
}

const listSuffix = ".jws"

// ErrUnpinned says that the trust file pins no Auth app.
var ErrUnpinned = errors.New("no Auth app is pinned")

// TakeStatus keeps the list that the server sent, if the trust file at path pins
// the Auth app that signed it. Where none is pinned no list counts, and the error
// is [ErrUnpinned]: one may be pinned later. A [Refusal] says that the list is
// forged, or older than one that was seen, so the server hides withdrawals; other
// errors are this host's troubles.
func TakeStatus(path, jws string) error {
	t, err := Load(path)
	if err != nil {
		return err
	}
	if t.AuthApp == nil {
		return ErrUnpinned
	}
	list, err := t.AuthApp.verify(jws)
	if err != nil {
		return forgedBy(err)
	}
	dir := statusDir(path, list.Issuer)
	highest, known, err := highestStatus(dir)
	if err != nil {
		return err
	}
	switch {
	case list.Number < highest:
		return forged("the server sent status list %d of %s after it had sent %d, so it hides withdrawals.", list.Number, list.Issuer, highest)
	case list.Number == highest && known == jws:
		return nil
	case list.Number == highest && t.AuthApp.signed(known):
		return forged("there are two status lists %d of %s.", list.Number, list.Issuer)
	}
	return keepStatus(dir, list.Number, jws)
}

// keys are the pinned keys: one, or two while they rotate.
func (a AuthApp) keys() []string {
	if a.Other == "" {
		return []string{a.Key}
	}
	return []string{a.Key, a.Other}
}

func (a AuthApp) verify(jws string) (list approval.StatusList, err error) {
	for _, line := range a.keys() {
		key, parseErr := approval.ParseAuthKey(line)
		if parseErr != nil {
			return approval.StatusList{}, parseErr
		}
		if list, err = approval.VerifyStatus(ed25519.PublicKey(key), jws); err == nil {
			break
		}
	}
	if err == nil && list.Issuer != a.Issuer {
		err = hpcsera.Errorf(hpcsera.ApprovalRefused, "the status list is of %s; pinned is %s.", list.Issuer, a.Issuer)
	}
	return list, err
}

// signed reports whether a pinned key signed a list: after the old key was
// unpinned, the number of the last list under it holds, its text not.
func (a AuthApp) signed(jws string) bool {
	_, err := a.verify(jws)
	return err == nil
}

// highestStatus returns the newest list in dir; number 0 where there is none.
func highestStatus(dir string) (number int64, jws string, err error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", unavailable(err)
	}
	for _, entry := range names {
		if n, ok := listNumber(entry.Name()); ok {
			number = max(number, n)
		}
	}
	if number == 0 {
		return 0, "", nil
	}
	text, err := readOwned(filepath.Join(dir, listName(number)))
	if err == nil && text == nil {
		err = fmt.Errorf("status list %d is gone", number) // another instance is ahead
	}
	if err != nil {
		return 0, "", unavailable(err)
	}
	return number, string(text), nil
}

func listName(number int64) string { return strconv.FormatInt(number, 10) + listSuffix }

func listNumber(name string) (int64, bool) {
	text, ok := strings.CutSuffix(name, listSuffix)
	n, err := strconv.ParseInt(text, 10, 64)
	return n, ok && err == nil && n > 0
}

// keepStatus makes a list durable, and then forgets the older ones.
func keepStatus(dir string, number int64, jws string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unavailable(err)
	}
	if err := replaceFile(filepath.Join(dir, listName(number)), []byte(jws)); err != nil {
		return unavailable(err)
	}
	if err := syncDirectory(filepath.Dir(dir)); err != nil {
		return unavailable(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return unavailable(err)
	}
	for _, entry := range names {
		if n, ok := listNumber(entry.Name()); ok && n < number {
			_ = os.Remove(filepath.Join(dir, entry.Name())) // it counts no more; the next list tries again
		}
	}
	return nil
}

// currentStatus returns the list that holds now. Without one the job waits:
// whoever keeps the list from the agent could keep a withdrawal from it.
func currentStatus(trust string, app AuthApp, now time.Time, seen *Memory) (approval.StatusList, error) {
	number, jws, err := highestStatus(statusDir(trust, app.Issuer))
	if err != nil {
		return approval.StatusList{}, err
	}
	if number == 0 {
		return approval.StatusList{}, wait(hpcsera.WaitingForApproval,
			"the server sent no status list of %s yet, so nobody can say whether the approval still stands. Nothing starts without.", app.Issuer)
	}
	list, err := remembered(seen, "status list", func() (approval.StatusList, error) { return app.verify(jws) },
		[]byte(app.Issuer), []byte(app.Key), []byte(app.Other), []byte(jws))
	switch {
	case err != nil:
		return list, wait(hpcsera.WaitingForApproval, "no status list by the pinned key of %s came yet. Nothing starts without.", app.Issuer)
	case !now.Before(list.NextUpdate):
		return list, wait(hpcsera.WaitingForApproval, "the status list of %s ended at %s, and the server sent no newer one. Nothing starts without.",
			app.Issuer, list.NextUpdate.Format(time.RFC3339))
	case now.Add(clockTolerance).Before(list.Issued):
		return list, wait(hpcsera.WaitingForApproval, "the status list of %s was issued at %s; it is %s here. Nothing starts before.",
			app.Issuer, list.Issued.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return list, nil
}
