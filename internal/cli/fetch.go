package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) fetchCommand() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "fetch JOB [ARTIFACT...]",
		Short: "Fetch a job's results",
		Long: `Fetch the results that a job left on the server, all of them or those named
(* and ? match within one path element). They go to ./NAME-JOB/ or to
--output-dir, never outside of it. A file that is there already with the same
content is left as it is; one with other content is not overwritten without
--force.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	outputDirFlags(cmd, &dir, &force)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		job, err := s.Job(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		list, err := s.Artifacts(cmd.Context(), job.ID)
		if err != nil {
			return err
		}
		if list, err = choose(list, args[1:]); err != nil {
			return err
		}
		if len(list) == 0 {
			a.screen.say("%s has left no artifacts on the server.", job.ID)
			return nil
		}
		return a.fetch(cmd.Context(), s, job, list, dir, force)
	}
	return cmd
}

func outputDirFlags(cmd *cobra.Command, dir *string, force *bool) {
	cmd.Flags().StringVarP(dir, "output-dir", "d", "", "directory for the results (./NAME-JOB)")
	cmd.Flags().BoolVar(force, "force", false, "overwrite files that are there with other content")
	_ = cmd.MarkFlagDirname("output-dir") // fails only for a flag that does not exist
}

// choose returns the artifacts that match one of the patterns; without
// patterns all.
func choose(list []hpcsera.Artifact, patterns []string) ([]hpcsera.Artifact, error) {
	if len(patterns) == 0 {
		return list, nil
	}
	var chosen []hpcsera.Artifact
	for _, p := range patterns {
		before := len(chosen)
		for _, artifact := range list {
			match, err := path.Match(p, artifact.Path)
			if err != nil {
				return nil, usageError{fmt.Errorf("%q is not a pattern", p)}
			}
			if match {
				chosen = append(chosen, artifact)
			}
		}
		if len(chosen) == before {
			return nil, hpcsera.Errorf(hpcsera.NotFound, "no artifact is called %q.", p).Hint("hpcsera status shows those there are.")
		}
	}
	return chosen, nil
}

// fetch brings artifacts into a directory, "" being the job's own.
func (a *app) fetch(ctx context.Context, s *session, job hpcsera.Job, list []hpcsera.Artifact, dir string, force bool) error {
	if dir == "" {
		// Both come from the server: neither may lead elsewhere.
		if !hpcsera.ValidName(job.Name) || !hpcsera.ValidID("j", job.ID) {
			return hpcsera.Errorf(hpcsera.InvalidField, "the job's name and id cannot name a directory.").Hint("Give one: --output-dir.")
		}
		dir = job.Name + "-" + job.ID
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f := &fetcher{root: root, dir: dir, force: force}
	wanted, err := f.plan(list)
	if err != nil {
		return err
	}
	var total int64
	for _, w := range wanted {
		total += w.artifact.Size
	}
	bar := a.startProgress(ctx, "fetching ", total)
	defer bar.finish()
	for _, w := range wanted {
		err := f.write(w.name, func(to io.Writer) error { return s.FetchArtifact(ctx, job.ID, w.artifact, io.MultiWriter(to, bar)) })
		if err != nil {
			return err
		}
	}
	bar.finish()
	here := ""
	if n := len(list) - len(wanted); n > 0 {
		here = fmt.Sprintf("; %s there already", plural(n, "file"))
	}
	a.screen.say("fetched %s (%s) into %s%s", plural(len(wanted), "file"), size(total), clean(dir)+string(filepath.Separator), here)
	return nil
}

// fetcher writes artifacts below one directory and nowhere else.
type fetcher struct {
	root  *os.Root
	dir   string
	force bool
}

// wantedFile is an artifact with the name it gets.
type wantedFile struct {
	artifact hpcsera.Artifact
	name     string
}

// plan decides before the first byte is fetched which artifacts to fetch: not
// those that are there already. It refuses names that lead outside and files
// that would be overwritten.
func (f *fetcher) plan(list []hpcsera.Artifact) ([]wantedFile, error) {
	var wanted []wantedFile
	var inTheWay []string
	taken := map[string]string{}
	for _, artifact := range list {
		name, err := localName(artifact.Path)
		if err != nil {
			return nil, err
		}
		if other, twice := taken[name]; twice {
			return nil, fmt.Errorf("the artifacts %q and %q would get the same name here; fetch them one by one", artifact.Path, other)
		}
		taken[name] = artifact.Path
		same, exists, err := f.compare(name, artifact)
		switch {
		case err != nil:
			return nil, err
		case same:
			continue
		case exists && !f.force:
			inTheWay = append(inTheWay, name)
		}
		wanted = append(wanted, wantedFile{artifact, name})
	}
	if len(inTheWay) > 0 {
		return nil, fmt.Errorf("nothing was fetched: %s would overwrite what is there with other content (%s). Use --output-dir for another directory, or --force",
			plural(len(inTheWay), "file"), clean(strings.Join(inTheWay, ", ")))
	}
	return wanted, nil
}

// compare says whether a file of that name exists, and whether it has the
// artifact's bytes.
func (f *fetcher) compare(name string, artifact hpcsera.Artifact) (same, exists bool, err error) {
	info, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if !info.Mode().IsRegular() {
		return false, true, fmt.Errorf("%s is no file; nothing was fetched", clean(filepath.Join(f.dir, name)))
	}
	if info.Size() != artifact.Size {
		return false, true, nil
	}
	file, err := f.root.Open(name)
	if err != nil {
		return false, true, err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return false, true, err
	}
	return "sha256:"+hex.EncodeToString(sum.Sum(nil)) == artifact.Digest, true, nil
}

// write makes a file whole or not at all.
func (f *fetcher) write(name string, content func(io.Writer) error) error {
	if err := f.root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	part := name + ".part-" + hpcsera.NewID("f")
	file, err := f.root.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer f.root.Remove(part) //nolint:errcheck // it is gone when all went well
	err = content(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f.root.Rename(part, name)
}

// localName returns the name that an artifact gets here: its path, with
// control and other dangerous characters as %XX. A path that leads outside is
// refused, whatever a server says.
func localName(p string) (string, error) {
	elements := strings.Split(p, "/")
	for i, e := range elements {
		if e == "" || e == "." || e == ".." {
			return "", hpcsera.Errorf(hpcsera.InvalidField, "the artifact %q leads out of its directory. It is not fetched.", p)
		}
		elements[i] = safeElement(e)
	}
	return filepath.Join(elements...), nil
}

func safeElement(e string) string {
	var b strings.Builder
	for i := 0; i < len(e); {
		r, n := utf8.DecodeRuneInString(e[i:])
		bad := dangerous(r) || r == utf8.RuneError && n == 1 || r == '\\' || r == ':' && filepath.Separator == '\\'
		if !bad {
			b.WriteString(e[i : i+n])
		}
		for k := i; bad && k < i+n; k++ {
			fmt.Fprintf(&b, "%%%02X", e[k])
		}
		i += n
	}
	return b.String()
}
