package sge

import (
	"bytes"
	"errors"
	"html"
	"strings"
)

var errXML = errors.New("not the XML of a listing")

// scanner reads the XML that qstat prints: elements, attributes, text and the
// usual entities, without comments, CDATA or declarations inside. encoding/xml
// takes four times as long as a listing of 10 000 jobs may.
type scanner struct {
	rest []byte
}

// tag is <name …>, </name> or <name …/>.
type tag struct {
	name       string
	attributes []byte
	end, empty bool
}

// next returns the next tag and the text before it.
func (s *scanner) next() (text []byte, t tag, err error) {
	open := bytes.IndexByte(s.rest, '<')
	if open < 0 {
		return nil, tag{}, errXML
	}
	length := bytes.IndexByte(s.rest[open:], '>')
	if length < 0 {
		return nil, tag{}, errXML
	}
	text, inside := s.rest[:open], s.rest[open+1:open+length]
	s.rest = s.rest[open+length+1:]
	if t.end = bytes.HasPrefix(inside, []byte("/")); t.end {
		inside = inside[1:]
	} else if t.empty = bytes.HasSuffix(inside, []byte("/")); t.empty {
		inside = inside[:len(inside)-1]
	}
	name := inside
	if i := bytes.IndexAny(inside, " \t\r\n"); i >= 0 {
		name, t.attributes = inside[:i], inside[i+1:]
	}
	if t.name = intern(name); t.name == "" || strings.ContainsAny(t.name, "<!?") {
		return nil, tag{}, errXML
	}
	return text, t, nil
}

// intern spares the memory of the names that stand in every row.
func intern(name []byte) string {
	switch string(name) {
	case "job_list":
		return "job_list"
	case "JB_job_number":
		return "JB_job_number"
	case "JAT_prio":
		return "JAT_prio"
	case "JB_name":
		return "JB_name"
	case "JB_owner":
		return "JB_owner"
	case "state":
		return "state"
	case "JB_submission_time":
		return "JB_submission_time"
	case "JAT_start_time":
		return "JAT_start_time"
	case "queue_name":
		return "queue_name"
	case "slots":
		return "slots"
	case "tasks":
		return "tasks"
	}
	return string(name)
}

// skip reads to the end of the element that began with t.
func (s *scanner) skip(t tag) error {
	if t.empty {
		return nil
	}
	open := []string{t.name}
	for len(open) > 0 {
		_, t, err := s.next()
		switch {
		case err != nil:
			return err
		case t.end && t.name != open[len(open)-1]:
			return errXML
		case t.end:
			open = open[:len(open)-1]
		case !t.empty:
			open = append(open, t.name)
		}
	}
	return nil
}

// leaf reads the text of the element that began with t. ok is false for one
// that holds others.
func (s *scanner) leaf(t tag) (text string, ok bool, err error) {
	if t.empty {
		return "", true, nil
	}
	raw, end, err := s.next()
	switch {
	case err != nil:
		return "", false, err
	case end.end && end.name == t.name:
		return unescape(raw), true, nil
	case end.end:
		return "", false, errXML
	}
	if err := s.skip(end); err != nil {
		return "", false, err
	}
	return "", false, s.skip(t)
}

func unescape(text []byte) string {
	if bytes.IndexByte(text, '&') < 0 {
		return string(text)
	}
	return html.UnescapeString(string(text))
}

// document finds the one document that starts on a line of its own, after
// whatever a site's wrapper or a warning printed, and is the last thing there.
func document(text []byte) (*scanner, bool) {
	head := []byte("<?xml ")
	at := bytes.Index(text, head)
	if at < 0 || at > 0 && text[at-1] != '\n' {
		return nil, false
	}
	end := bytes.Index(text[at:], []byte("?>"))
	if end < 0 {
		return nil, false
	}
	return &scanner{text[at+end+2:]}, true
}
