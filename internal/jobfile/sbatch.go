package jobfile

import (
	"fmt"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// word is one argument of a directive line.
type word struct {
	text string
	line int
}

// directiveWords returns the words of a script's #SBATCH lines exactly as
// Slurm's sbatch (22.05) reads them: a directive stands at the very beginning
// of a line, needs no space behind #SBATCH, and counts until the first line
// that is neither blank nor a comment. file names the script in errors.
func directiveWords(file, script string) ([]word, error) {
	if !strings.HasPrefix(script, "#!") {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "a batch script begins with #! and the path of its interpreter, such as #!/bin/bash.").At(file + ":1")
	}
	for _, bad := range []struct{ bytes, what string }{{"\r\n", "DOS line ends"}, {"\x00", "NUL characters"}} {
		if before, _, found := strings.Cut(script, bad.bytes); found {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "the script has %s; sbatch refuses it too.", bad.what).
				At(fmt.Sprintf("%s:%d", file, strings.Count(before, "\n")+1)).Hint("Convert it, for instance with dos2unix.")
		}
	}
	var words []word
	number := 0
	for line := range strings.Lines(script) {
		number++
		line = strings.TrimSuffix(line, "\n")
		at := fmt.Sprintf("%s:%d", file, number)
		rest, ok := strings.CutPrefix(line, "#SBATCH")
		if !ok {
			switch trimmed := strings.TrimLeft(line, " \t\v\f"); {
			case trimmed != "" && trimmed[0] != '#':
				return words, nil
			case strings.HasPrefix(line, "#SLURM"):
				return nil, hpcsera.Errorf(hpcsera.InvalidField, "#SLURM is an old form of #SBATCH.").At(at).Hint("Write #SBATCH.")
			case foreignDirective(line):
				return nil, hpcsera.Errorf(hpcsera.InvalidField, "a directive of another batch system; sbatch would obey it as well.").At(at).
					Hint("Keep the directives of one system.")
			}
			continue
		}
		found, err := splitWords(rest)
		if err != nil {
			return nil, err.At(at)
		}
		for _, text := range found {
			words = append(words, word{text, number})
		}
	}
	return words, nil
}

// foreignDirective reports whether sbatch reads a line that is none of its own.
func foreignDirective(line string) bool {
	return strings.HasPrefix(line, "#PBS ") || strings.HasPrefix(line, "#BSUB ")
}

// hasSlurmDirectives reports whether the leading block of a script has one.
func hasSlurmDirectives(script string) bool {
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "#SBATCH") {
			return true
		}
		if t := strings.TrimLeft(line, " \t\v\f\n"); t != "" && t[0] != '#' {
			return false
		}
	}
	return false
}

// splitWords takes a directive's line apart as sbatch does. Quotes group and
// a backslash keeps a quote or a #, but, other than in a shell, a backslash
// keeps no space outside quotes. An unquoted # ends the line.
func splitWords(line string) ([]string, *hpcsera.Error) {
	var words []string
	isSpace := func(c byte) bool { return strings.IndexByte(" \t\v\f", c) >= 0 }
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		var text []byte
		var quote byte
		escaped := false
	word:
		for ; i < len(line) && (quote != 0 || !isSpace(line[i])); i++ {
			switch c := line[i]; {
			case escaped:
				escaped = false
				text = append(text, c)
			case c == '\\':
				escaped = true
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote == 0 && c == '#':
				break word
			default:
				text = append(text, c)
			}
		}
		if quote != 0 {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "a %c is opened and not closed.", quote)
		}
		if len(text) == 0 {
			return words, nil
		}
		words = append(words, string(text))
	}
}

// directive is an option with its value, as given in a script.
type directive struct {
	option *option
	given  string // as written, for messages: -N, --nodes
	value  string
	has    bool // has a value
	line   int
}

// parseDirectives turns words into options as getopt_long does, with unique
// abbreviations, clustered short options and values in the next word.
func parseDirectives(file string, words []word) ([]directive, error) {
	var all []directive
	for i := 0; i < len(words); i++ {
		w := words[i]
		at := fmt.Sprintf("%s:%d", file, w.line)
		next := func() (string, bool) {
			if i+1 >= len(words) {
				return "", false
			}
			i++
			return words[i].text, true
		}
		var err *hpcsera.Error
		switch {
		case w.text == "hetjob" || w.text == "packjob":
			err = hpcsera.Errorf(hpcsera.NotSupportedYet, "heterogeneous jobs are not supported by this version.").Hint("Leave it out; nothing was submitted.")
		case strings.HasPrefix(w.text, "--") && w.text != "--":
			var d directive
			if d, err = longOption(w, next); err == nil {
				all = append(all, d)
			}
		case strings.HasPrefix(w.text, "-") && len(w.text) > 1 && w.text != "--":
			var some []directive
			some, err = shortOptions(w, next)
			all = append(all, some...)
		default:
			err = hpcsera.Errorf(hpcsera.InvalidField, "%q is no option; sbatch refuses it too.", w.text).Hint("A value with spaces needs quotes.")
		}
		if err != nil {
			return nil, err.At(at + " #SBATCH")
		}
	}
	return all, nil
}

func longOption(w word, next func() (string, bool)) (directive, *hpcsera.Error) {
	name, value, has := strings.Cut(w.text[2:], "=")
	o, err := findOption(name)
	if err != nil {
		return directive{}, err
	}
	d := directive{option: o, given: "--" + o.name, value: value, has: has, line: w.line}
	switch {
	case has && o.takes == nothing:
		return d, hpcsera.Errorf(hpcsera.InvalidField, "--%s takes no value.", o.name)
	case !has && o.takes == required:
		if d.value, d.has = next(); !d.has {
			return d, hpcsera.Errorf(hpcsera.InvalidField, "--%s needs a value.", o.name)
		}
	}
	return d, nil
}

func shortOptions(w word, next func() (string, bool)) ([]directive, *hpcsera.Error) {
	var all []directive
	for rest := w.text[1:]; rest != ""; {
		o := findShort(rest[0])
		if o == nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "-%c is not an option of sbatch.", rest[0])
		}
		d := directive{option: o, given: "-" + rest[:1], line: w.line}
		rest = rest[1:]
		if o.takes != nothing {
			d.value, d.has, rest = rest, rest != "", ""
			if !d.has && o.takes == required {
				if d.value, d.has = next(); !d.has {
					return nil, hpcsera.Errorf(hpcsera.InvalidField, "%s needs a value.", d.given)
				}
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// findOption finds an option by its name or a unique beginning of it.
func findOption(name string) (*option, *hpcsera.Error) {
	var found []*option
	var names []string
	for i := range sbatchOptions {
		o := &sbatchOptions[i]
		if o.name == name {
			return o, nil
		}
		if strings.HasPrefix(o.name, name) {
			found, names = append(found, o), append(names, "--"+o.name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "--%s is not an option of sbatch.", name)
	}
	return nil, hpcsera.Errorf(hpcsera.InvalidField, "--%s can mean %s.", name, strings.Join(names, ", "))
}

func findShort(letter byte) *option {
	for i := range sbatchOptions {
		if sbatchOptions[i].letter == letter {
			return &sbatchOptions[i]
		}
	}
	return nil
}
