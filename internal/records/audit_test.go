package records_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// log is a log as somebody left it.
type log struct {
	records.Reader
	lines []records.AuditLine
}

func (l log) Audit(after int64, limit int) ([]records.AuditLine, error) {
	var page []records.AuditLine
	for _, line := range l.lines {
		if line.Number > after && len(page) < limit {
			page = append(page, line)
		}
	}
	return page, nil
}

func newLog(t *testing.T, n int) log {
	t.Helper()
	var l log
	var head records.Head
	for range n {
		line, err := records.AuditLine{At: time.Unix(1, 0), Actor: "alice", Action: "session.begin", User: "alice"}.Chain(head)
		if err != nil {
			t.Fatal(err)
		}
		head = records.Head{Number: line.Number, Hash: line.Hash}
		l.lines = append(l.lines, line)
	}
	return l
}

func TestEveryChangeOfTheLogIsFound(t *testing.T) {
	for name, change := range map[string]func(l *log){
		"a word":          func(l *log) { l.lines[1].Detail = "x" },
		"a refusal":       func(l *log) { l.lines[1].Refused = true },
		"a time":          func(l *log) { l.lines[1].At = time.Unix(2, 0) },
		"a hash":          func(l *log) { l.lines[1].Hash = strings.Repeat("0", 64) },
		"a missing line":  func(l *log) { l.lines = append(l.lines[:1:1], l.lines[2:]...) },
		"a missing start": func(l *log) { l.lines = l.lines[1:] },
		"a new number":    func(l *log) { l.lines[2].Number = 4 },
		"a line that was made anew": func(l *log) {
			line := l.lines[1]
			line.Actor = "mallory"
			l.lines[1], _ = line.Chain(records.Head{Number: 1, Hash: l.lines[0].Hash})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, 3)
			change(&l)
			if _, err := records.Verify(l); hpcsera.CodeOf(err) != hpcsera.Conflict {
				t.Errorf("got %v, want a conflict", err)
			}
		})
	}
}

func TestALogThatWasCutOffIsFoundByWhoeverKeptItsHead(t *testing.T) {
	l := newLog(t, 2500)
	head, err := records.Verify(l)
	if err != nil || head.Number != 2500 {
		t.Fatalf("got %v, %v, want line 2500", head, err)
	}
	kept, err := records.ParseHead(head.String())
	if err != nil || kept != head {
		t.Fatalf("got %v, %v, want %v", kept, err, head)
	}
	l.lines = l.lines[:2000]
	if _, err := records.Verify(l); err != nil {
		t.Errorf("without a head: got %v, want nothing to notice", err)
	}
	if _, err := records.Verify(l, kept); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("with the head: got %v, want a conflict", err)
	}
}

func TestWhatIsNoHeadIsRefused(t *testing.T) {
	for _, s := range []string{"", "1", "1:", "0:" + strings.Repeat("0", 64), "x:" + strings.Repeat("0", 64), "1:" + strings.Repeat("0", 62), "1:" + strings.Repeat("x", 64)} {
		if _, err := records.ParseHead(s); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%q: got %v, want %s", s, err, hpcsera.InvalidField)
		}
	}
}
