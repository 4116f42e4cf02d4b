package jobfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// maxFiles bounds what patterns may match.
const maxFiles = 10_000

// addFiles resolves the patterns of files, relative to the job file's
// directory, and adds the scripts that the code names. The list is ordered by
// path, so that the order of patterns does not change the code's digest.
func (f *File) addFiles(patterns []string) error {
	if f.Spec.Code != "" && len(patterns) == 0 {
		return nil
	}
	root, err := os.OpenRoot(filepath.Dir(f.Path))
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the job's directory cannot be opened: %w.", err).At(f.Path)
	}
	defer root.Close()
	found := map[string]bool{}
	for i, pattern := range patterns {
		if err := (matcher{root.FS(), filepath.Base(f.Path), found}).add(pattern); err != nil {
			return err.At(fmt.Sprintf("files[%d]", i))
		}
	}
	scripts := map[string]*string{"script_file": &f.Spec.ScriptFile}
	for i := range f.Spec.Steps {
		scripts[fmt.Sprintf("steps[%d].script_file", i)] = &f.Spec.Steps[i].ScriptFile
	}
	for field, script := range scripts {
		*script = strings.TrimPrefix(*script, "./")
		if *script == "" {
			continue
		}
		if err := (matcher{root.FS(), "", found}).literal(*script); err != nil {
			return err.At(field)
		}
	}
	paths := make([]string, 0, len(found))
	for p := range found {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	f.Blobs = map[string]string{}
	for _, p := range paths {
		file, err := digest(root, p)
		if err != nil {
			return err
		}
		f.Spec.Files = append(f.Spec.Files, file)
		f.Blobs["sha256:"+file.SHA256] = filepath.Join(filepath.Dir(f.Path), filepath.FromSlash(p))
	}
	for field, script := range scripts {
		if err := inertDirectives(root, *script, f.Spec.Directives); err != nil {
			return err.At(field)
		}
	}
	return nil
}

// inertDirectives refuses a script whose lines for a batch system nobody has
// mapped: they would be silently lost.
func inertDirectives(root *os.Root, script, directives string) *hpcsera.Error {
	if script == "" || directives != "" {
		return nil
	}
	text, err := root.ReadFile(filepath.FromSlash(script))
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the file cannot be read: %w.", err)
	}
	if !hpcsera.HasDirectives(string(text)) {
		return nil
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "%s has batch directives, which are inert here.", script).
		Hint("See what they mean with hpcsera convert %s; write it here and add directives: converted.", script)
}

// matcher finds files below the job's directory. It never follows a link.
type matcher struct {
	fsys  fs.FS
	self  string // the job file, which a pattern does not match: a label in it is no code
	found map[string]bool
}

// add finds what one pattern of files means: a path, or a pattern in which *,
// ? and […] match within one path element and ** any number of directories.
// As in a shell they match no leading dot; directories are passed over.
func (m matcher) add(pattern string) *hpcsera.Error {
	pattern = strings.TrimPrefix(pattern, "./")
	if !strings.ContainsAny(pattern, "*?[") {
		return m.literal(pattern)
	}
	if _, err := fs.Lstat(m.fsys, pattern); err == nil {
		return m.literal(pattern) // a file with such a name
	}
	if err := hpcsera.CheckPath(pattern); err != nil {
		return err
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a pattern.", pattern)
	}
	before := len(m.found)
	matched, err := m.walk(".", strings.Split(pattern, "/"))
	if err != nil {
		return err
	}
	if matched == 0 && len(m.found) == before {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q matches no file beside the job file.", pattern)
	}
	return nil
}

// literal adds one file by its path.
func (m matcher) literal(p string) *hpcsera.Error {
	if err := hpcsera.CheckPath(p); err != nil {
		return err
	}
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if info, err := fs.Lstat(m.fsys, dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is a link; links are not followed.", dir)
		}
	}
	info, err := fs.Lstat(m.fsys, p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return hpcsera.Errorf(hpcsera.InvalidField, "there is no file %q beside the job file.", p)
	case err != nil:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be read: %w.", p, err)
	case info.IsDir():
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is a directory.", p).Hint("Write %s/* for its files, or %s/** for all below.", p, p)
	}
	return m.take(p, info)
}

func (m matcher) take(p string, info fs.FileInfo) *hpcsera.Error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is a link; links are not followed.", p).Hint("Name the file it points to, or copy it here.")
	}
	if !info.Mode().IsRegular() {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is no plain file.", p)
	}
	if err := hpcsera.CheckPath(p); err != nil {
		return err
	}
	if len(m.found) >= maxFiles {
		return hpcsera.Errorf(hpcsera.InvalidField, "more than %d files match.", maxFiles)
	}
	m.found[p] = true
	return nil
}

// walk adds what the elements match below dir and returns how many files that
// were.
func (m matcher) walk(dir string, elements []string) (int, *hpcsera.Error) {
	entries, err := fs.ReadDir(m.fsys, dir)
	if err != nil {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be read: %w.", dir, err)
	}
	matched := 0
	element, rest := elements[0], elements[1:]
	for _, entry := range entries {
		p := path.Join(dir, entry.Name())
		hidden := strings.HasPrefix(entry.Name(), ".") && !strings.HasPrefix(element, ".")
		ok, _ := path.Match(element, entry.Name()) // the pattern was checked
		deep := element == "**"
		if hidden || !ok && !deep {
			continue
		}
		var n int
		var err *hpcsera.Error
		switch {
		case entry.IsDir() && deep:
			n, err = m.walk(p, elements)
		case entry.IsDir() && len(rest) > 0:
			n, err = m.walk(p, rest)
		case entry.IsDir(), len(rest) > 0 && !deep, p == m.self:
		case deep && len(rest) > 0: // its file part is matched below
		default:
			info, statErr := entry.Info()
			if statErr != nil {
				return 0, hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be read: %w.", p, statErr)
			}
			n, err = 1, m.take(p, info)
		}
		if err != nil {
			return 0, err
		}
		matched += n
	}
	if element == "**" && len(rest) > 0 {
		n, err := m.walk(dir, rest)
		return matched + n, err
	}
	return matched, nil
}

// digest reads a file once: what is digested is what its size and mode say.
func digest(root *os.Root, p string) (hpcsera.File, error) {
	in, err := root.Open(filepath.FromSlash(p))
	if err != nil {
		return hpcsera.File{}, hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be read: %w.", p, err).At("files")
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return hpcsera.File{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is no plain file.", p).At("files")
	}
	h := sha256.New()
	size, err := io.Copy(h, in)
	if err != nil {
		return hpcsera.File{}, hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be read: %w.", p, err).At("files")
	}
	mode := "0644"
	if info.Mode().Perm()&0o100 != 0 {
		mode = "0755"
	}
	return hpcsera.File{Path: p, Mode: mode, Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}
