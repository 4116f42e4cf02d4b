package pbs

import (
	"bytes"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// parseListing reads the JSON of qstat -f: anything before the document, what a
// site's wrapper or a warning prints, and one whole document of PBS. Jobs of
// other users are left out. A document without Jobs says that there is none,
// but not beside other text, which could be the jobs for people.
func (d Driver) parseListing(out scheduler.Output) ([]scheduler.Status, error) {
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	text := out.Stdout
	at := 0
	if !bytes.HasPrefix(text, []byte("{")) {
		if at = bytes.Index(text, []byte("\n{")) + 1; at == 0 {
			return nil, product.Garbled("without its document", text)
		}
	}
	s := scanner{text: text, at: at}
	rows, known, jobs, err := s.document(d.User)
	switch {
	case err != nil:
		return nil, product.Garbled("that cannot be read ("+err.Error()+" at byte "+strconv.Itoa(s.at)+")", text[min(s.at, len(text)):])
	case !known || !jobs && len(bytes.TrimSpace(text[:at])) > 0:
		return nil, product.Garbled("that is none of jobs", text)
	}
	return statuses(rows)
}

// scanner reads the JSON that PBS prints, and nothing it does not need: a
// decoder that looks at every variable of every user takes five times as long.
// It also takes what older versions print and JSON forbids: numbers such as 005
// and escapes such as \' in other users' variables.
type scanner struct {
	text []byte
	at   int
}

var (
	errBroken = errors.New("it breaks off")
	errForm   = errors.New("it is no JSON")
	errDeep   = errors.New("it is nested too deeply")
	errID     = errors.New("a job has no id")
	errTwice  = errors.New("a job stands there twice")
	errState  = errors.New("a job has no name, state or owner")
)

// next skips white space and returns the byte it stands at, 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// want skips white space and one given byte.
func (s *scanner) want(c byte) error {
	switch s.next() {
	case c:
		s.at++
		return nil
	case 0:
		return errBroken
	}
	return errForm
}

// quoted reads a string and returns what stands between its quotes.
func (s *scanner) quoted() ([]byte, error) {
	if err := s.want('"'); err != nil {
		return nil, err
	}
	start := s.at
	for {
		i := bytes.IndexByte(s.text[s.at:], '"')
		if i < 0 {
			return nil, errBroken
		}
		end := s.at + i
		slashes := 0
		for end-slashes > start && s.text[end-slashes-1] == '\\' {
			slashes++
		}
		s.at = end + 1
		if slashes%2 == 0 {
			return s.text[start:end], nil
		}
	}
}

// each calls do for every key of an object, with the scanner at its value.
func (s *scanner) each(do func(key []byte) error) error {
	if err := s.want('{'); err != nil {
		return err
	}
	if s.next() == '}' {
		s.at++
		return nil
	}
	for {
		key, err := s.quoted()
		if err == nil {
			err = s.want(':')
		}
		if err == nil {
			err = do(key)
		}
		if err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case '}':
			s.at++
			return nil
		case 0:
			return errBroken
		default:
			return errForm
		}
	}
}

// value reads any value and returns the text of a string or a number, nil of
// others.
func (s *scanner) value(depth int) ([]byte, error) {
	if depth > 32 {
		return nil, errDeep
	}
	switch s.next() {
	case 0:
		return nil, errBroken
	case '"':
		return s.quoted()
	case '{':
		return nil, s.each(func([]byte) error { _, err := s.value(depth + 1); return err })
	case '[':
		return nil, s.list(depth)
	}
	start := s.at
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ',', '}', ']', '\n', '\r':
			if s.at == start {
				return nil, errForm
			}
			return bytes.TrimSpace(s.text[start:s.at]), nil
		case '"', '{', '[', ':':
			return nil, errForm
		}
		s.at++
	}
	return nil, errBroken
}

func (s *scanner) list(depth int) error {
	s.at++
	if s.next() == ']' {
		s.at++
		return nil
	}
	for {
		if _, err := s.value(depth + 1); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.at++
		case ']':
			s.at++
			return nil
		case 0:
			return errBroken
		default:
			return errForm
		}
	}
}

// document reads the whole listing. known is whether it is PBS's, jobs whether
// it has jobs at all.
func (s *scanner) document(owner string) (rows []row, known, jobs bool, err error) {
	seen := map[string]bool{}
	err = s.each(func(key []byte) error {
		switch string(key) {
		case "pbs_version":
			known = true
		case "Jobs":
			jobs = true
			return s.each(func(id []byte) error {
				r, err := s.job(id)
				if err != nil {
					return err
				}
				if seen[r.id] {
					return errTwice
				}
				seen[r.id] = true
				if owner == "" || user(r.owner) == owner {
					rows = append(rows, r)
				}
				return nil
			})
		}
		_, err := s.value(0)
		return err
	})
	if err == nil && s.next() != 0 {
		err = errForm
	}
	if err != nil {
		return nil, false, false, err
	}
	return rows, known, jobs, nil
}

// job reads one job. Of its own attributes only the plain ones count, and of
// those within others only the estimated start.
func (s *scanner) job(id []byte) (row, error) {
	r := row{id: string(id)}
	if !jobID.Match(id) {
		return r, errID
	}
	err := s.each(func(key []byte) error {
		if string(key) == "estimated" && s.next() == '{' {
			return s.each(func(inner []byte) error {
				text, err := s.value(1)
				if string(inner) == "start_time" && err == nil {
					r.estimated = unescape(text)
				}
				return err
			})
		}
		text, err := s.value(1)
		if err != nil || text == nil {
			return err
		}
		if string(key) == "array" || r.field(string(key)) != nil {
			r.set(string(key), unescape(text))
		}
		return nil
	})
	if err == nil && !r.complete() {
		err = errState
	}
	return r, err
}

func (r *row) complete() bool { return r.name != "" && r.owner != "" && r.state != "" }

// unescape resolves the escapes of a string. Those it does not know stand for
// the character that follows, as older versions of PBS mean them.
func unescape(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(bytes.ToValidUTF8(text, []byte("?")))
	}
	var b []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '\\' || i+1 == len(text) {
			b = append(b, c)
			continue
		}
		i++
		switch c = text[i]; c {
		case 'n', 't', 'r', 'f', 'b':
			b = append(b, ' ')
		case 'u':
			n, err := strconv.ParseUint(string(text[i+1:min(i+5, len(text))]), 16, 16)
			if err == nil {
				b = utf8.AppendRune(b, rune(n))
				i += 4
			}
		default:
			b = append(b, c)
		}
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}
