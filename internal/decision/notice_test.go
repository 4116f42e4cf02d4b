package decision_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

func TestANoticeIsShortAndPrintable(t *testing.T) {
	good := decision.Notice{User: "alice", Subject: "Your agent", Text: "It ends.\n\nType this.\n"}
	if err := good.Validate(); err != nil {
		t.Errorf("a good one: %v", err)
	}
	asked := false
	c := client(newKey(t), func(http.ResponseWriter, *http.Request) { asked = true })
	for name, change := range map[string]func(*decision.Notice){
		"nobody":              func(n *decision.Notice) { n.User = "" },
		"an address":          func(n *decision.Notice) { n.User = "mallory@example.org" },
		"no subject":          func(n *decision.Notice) { n.Subject = "" },
		"a long subject":      func(n *decision.Notice) { n.Subject = strings.Repeat("x", decision.MaxSubject+1) },
		"a header":            func(n *decision.Notice) { n.Subject = "x\r\nBcc: y@example.org" },
		"no text":             func(n *decision.Notice) { n.Text = " \n" },
		"a long text":         func(n *decision.Notice) { n.Text = strings.Repeat("x", decision.MaxNotice+1) },
		"a control":           func(n *decision.Notice) { n.Text = "x\x1b[2Jy" },
		"a carriage return":   func(n *decision.Notice) { n.Text = "x\ry" },
		"a turned direction":  func(n *decision.Notice) { n.Text = "x\u202ey" },
		"bytes that are none": func(n *decision.Notice) { n.Text = "\xff" },
	} {
		n := good
		change(&n)
		if err := c.Mail(t.Context(), n.User, n.Subject, n.Text); hpcsera.CodeOf(err) != hpcsera.InvalidField || asked {
			t.Errorf("%s: got %v (asked: %t), want it refused before it is sent", name, err, asked)
		}
	}
}
