package inquiry_test

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/inquiry"
)

func TestFilesAreShownWithinBounds(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	m, part := hello("echo\n"), strings.Repeat("x", inquiry.ShownBytes)
	m = with(with(m, "empty", ""), "long", part+"x")
	w.upload(alice, "")
	w.upload(alice, part+"x")
	paths := strings.Split("abcdefgh", "")
	for _, path := range paths {
		text := path + part[1:]
		m = with(m, path, text)
		w.upload(alice, text)
	}
	job := w.wait(alice, m)
	w.look()
	shown, total := w.request(job).Code.Contents, 0
	for path, text := range shown {
		total += len(text)
		if !strings.HasPrefix(string(text), path) && path != "empty" {
			t.Errorf("%s is shown as %.10q…", path, text)
		}
	}
	if _, long := shown["long"]; long || shown["empty"] == nil {
		t.Errorf("long is shown: %t, empty is shown: %t; want the second alone", long, shown["empty"] != nil)
	}
	if total > decision.MaxContents/2 || len(shown) != 5 {
		t.Errorf("%d files of %d bytes are shown, want 5 with what fits into %d", len(shown), total, decision.MaxContents/2)
	}
}

func TestAFileOfAnotherSizeThanItsManifestSaysIsNotShown(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	text := strings.Repeat("x", 1000)
	m := with(hello("echo\n"), "data", text)
	m.Files[0].Size = 1
	w.upload(alice, text)
	job := w.wait(alice, m)
	w.look()
	if got := w.request(job).Code.Contents; len(got) != 0 {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestTheLastApprovedVersionIsShown(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	first, second := with(hello("echo 1\n"), "case", "one"), with(hello("echo 2\n"), "case", "two")
	w.upload(alice, "one")
	w.upload(alice, "two")
	job := w.wait(alice, first)
	w.look()
	if last := w.request(job).Code.Last; last != nil {
		t.Errorf("before anything was approved: got %+v, want none", last)
	}
	w.decided(w.inbox.decide(t, w.request(job), withPasskey))
	job = w.wait(alice, second)
	w.look()
	r := w.request(job)
	if string(r.Code.Contents["case"]) != "two" || r.Code.Manifest.Script != second.Script {
		t.Errorf("got %q and %q, want the second version", r.Code.Manifest.Script, r.Code.Contents["case"])
	}
	switch last := r.Code.Last; {
	case last == nil:
		t.Fatal("got no last version, want the first")
	case last.Manifest.Script != first.Script || string(last.Contents["case"]) != "one":
		t.Errorf("got %q and %q, want the first version", last.Manifest.Script, last.Contents["case"])
	case last.Approval == "":
		t.Error("the first version's approval is not named")
	}
}

func TestTheSameCodeIsNoVersionBeforeItself(t *testing.T) {
	w := newWorld(t)
	w.enrol("alice", "hlrs", "cfd")
	alice := w.token("alice", "cfd")
	w.wait(alice, hello("echo\n"))
	w.approve(alice, hello("echo\n")) // for gwdg alone
	job := w.wait(alice, hello("echo\n"), at("hlrs"))
	w.look()
	if r := w.request(job); r.Code.Last != nil || len(r.Code.Sites) != 1 || r.Code.Sites[0] != "hlrs" {
		t.Errorf("got sites %v and last %+v, want hlrs and none", r.Code.Sites, r.Code.Last)
	}
}

func TestBytesOfOtherProjectsAreNotShown(t *testing.T) {
	w := newWorld(t)
	alice, secret := w.token("alice", "cfd"), "what melt keeps to itself"
	w.upload(w.token("bob", "melt"), secret)
	// Jobs need all files, but a version before needs none to be approved.
	before := with(hello("echo 1\n"), "secret", secret)
	if _, _, err := w.code.Put(t.Context(), alice, before); err != nil {
		t.Fatal(err)
	}
	w.approve(alice, before)
	job := w.wait(alice, hello("echo 0\n"))
	w.look()
	if last := w.request(job).Code.Last; last != nil {
		t.Errorf("approved by what a client filed itself: got %+v, want none", last)
	}
	alice.Token.Scope = hpcsera.ProjectScope
	w.approve(alice, before)
	job = w.wait(alice, hello("echo 2\n"))
	w.look()
	last := w.request(job).Code.Last
	if last == nil || last.Manifest.Script != before.Script {
		t.Fatalf("got %+v, want the version before", last)
	}
	if got := last.Contents["secret"]; got != nil {
		t.Errorf("got %q of another project", got)
	}
}

func TestTheAuthAppHearsOfApprovalsThatWereSignedElsewhere(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.look()
	w.decided(w.inbox.decide(t, w.request(job), withPasskey)) // it knows this one
	w.wait(alice, hello("echo 2\n"))
	a := w.approve(alice, hello("echo 2\n"))
	w.inbox.away = true
	if _, err := w.asks.Look(t.Context()); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	w.inbox.away, w.inbox.lost = false, true
	if _, err := w.asks.Look(t.Context()); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	w.inbox.lost = false
	w.look()
	w.look()
	if len(w.inbox.filed) != 1 || w.inbox.filed[a.ID] != 2 {
		t.Errorf("it heard of %v, want %s twice: once without an answer", w.inbox.filed, a.ID)
	}
}
