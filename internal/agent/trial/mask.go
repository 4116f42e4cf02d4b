package trial

import (
	"cmp"
	"os"
	"os/user"
	"slices"
	"strings"
)

// Mask puts stand-ins in place of names, the same one everywhere, so that a
// report or recording can be given to others and is still consistent. It knows
// the names of the user and of this host only: whoever sends it has to look for
// others.
type Mask struct{ pairs [][2]string } // name and stand-in, longest names first

// NewMask returns a Mask for names and their stand-ins, in that order.
func NewMask(pairs ...[2]string) Mask {
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p [2]string) bool { return p[0] == "" || p[0] == "localhost" || p[0] == "/" })
	slices.SortStableFunc(pairs, func(a, b [2]string) int { return cmp.Compare(len(b[0]), len(a[0])) })
	return Mask{pairs}
}

// Names returns what stands for whom on this host, where the user's account is
// so called.
func Names(account string) [][2]string {
	pairs := [][2]string{{account, "alice"}}
	if me, err := user.Current(); err == nil {
		pairs = append(pairs, [2]string{me.HomeDir, "/home/alice"}, [2]string{me.Username, "alice"})
	}
	if host, err := os.Hostname(); err == nil {
		short, domain, _ := strings.Cut(host, ".")
		pairs = append(pairs, [2]string{host, "login1.example.org"}, [2]string{short, "login1"}, [2]string{domain, "example.org"})
	}
	return pairs
}

// Text replaces the names where they stand as whole words.
func (m Mask) Text(s string) string {
	if !slices.ContainsFunc(m.pairs, func(p [2]string) bool { return strings.Contains(s, p[0]) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		name, standIn := m.at(s, i)
		if name == "" {
			b.WriteByte(s[i])
			i++
			continue
		}
		b.WriteString(standIn)
		i += len(name)
	}
	return b.String()
}

// at returns the name that begins at s[i], "" for none.
func (m Mask) at(s string, i int) (name, standIn string) {
	for _, p := range m.pairs {
		end := i + len(p[0])
		if strings.HasPrefix(s[i:], p[0]) && (i == 0 || !inWord(s[i-1])) && (end == len(s) || !inWord(s[end])) {
			return p[0], p[1]
		}
	}
	return "", ""
}

func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
