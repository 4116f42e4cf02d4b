package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// collected is what a job left behind.
type collected struct {
	artifacts []hpcsera.Artifact
	result    json.RawMessage
	warning   string
	failed    string // why it could not be brought to the server for good
}

// maxResult bounds the result file: it becomes part of the job itself.
const maxResult = 64 << 10

// maxArtifacts is how many the server keeps of a job.
const maxArtifacts = 10_000

// collect sends the rest of the log, uploads the artifacts and reads the
// result. It is repeated until the server has all of it; a job that never ran
// leaves nothing.
func (e *engine) collect(ctx context.Context, j *job) func() func() {
	a, id, spec, state, streams := e.agent, j.id, j.spec, j.outcome.State, e.allStreams(j)
	return func() func() {
		select {
		case a.collectSlots <- struct{}{}:
			defer func() { <-a.collectSlots }()
		case <-ctx.Done():
			return nil
		}
		c, err := a.gather(ctx, id, spec, state, streams)
		return func() { e.gathered(j, c, err) }
	}
}

// gathered learns what a job left behind, or that it is not at the server yet.
func (e *engine) gathered(j *job, c *collected, err error) {
	switch {
	case err == nil:
		j.collected, j.tries = c, 0
	case !passing(err) && hpcsera.CodeOf(err) != hpcsera.WrongOffset:
		j.collected = &collected{failed: err.Error()}
	default:
		j.tries++
		delay := retryDelay(j.tries, time.Second, time.Minute)
		j.retryAt = time.Now().Add(delay)
		e.log.Warn("results not delivered", "job", j.id, "error", err, "again_in", delay.String())
	}
}

func (a *Agent) gather(ctx context.Context, job string, spec *hpcsera.OrderSpec, state hpcsera.State, streams []*stream) (*collected, error) {
	c := &collected{}
	if len(streams) == 0 {
		return c, nil // it never ran
	}
	for _, s := range streams {
		if _, err := s.send(ctx, a); err != nil {
			return nil, err
		}
	}
	var m hpcsera.Manifest
	if err := json.Unmarshal(spec.Manifest, &m); err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the manifest cannot be read: %w", err)
	}
	root, err := os.OpenRoot(a.jobDir(job))
	if err != nil {
		c.warning = "The job's directory cannot be opened: " + err.Error()
		return c, nil
	}
	defer root.Close()
	var warnings []string
	if m.Result != "" && state == hpcsera.Succeeded {
		result, err := readResult(root, m.Result)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("result %s: %v", m.Result, err))
		}
		c.result = result
	}
	for _, pattern := range m.Artifacts {
		if state != hpcsera.Succeeded && !pattern.Always {
			continue
		}
		names, err := match(root, pattern.Path)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("artifact %s: %v", pattern.Path, err))
		} else if len(names) == 0 {
			warnings = append(warnings, fmt.Sprintf("No file matches the artifact %s.", pattern.Path))
		}
		whole := len(names)
		names = slices.DeleteFunc(names, func(name string) bool { return hpcsera.CheckPath(name) != nil })
		if left := whole - len(names); left > 0 {
			warnings = append(warnings, fmt.Sprintf("%d files that match the artifact %s have names that no artifact can have.", left, pattern.Path))
		}
		if room := maxArtifacts - len(c.artifacts); len(names) > room {
			names = names[:room]
			warnings = append(warnings, fmt.Sprintf("More than %d artifacts were left out.", maxArtifacts))
		}
		for _, name := range names {
			if slices.ContainsFunc(c.artifacts, func(b hpcsera.Artifact) bool { return b.Path == name }) {
				continue
			}
			artifact, err := a.upload(ctx, job, root, name)
			if err != nil {
				return nil, err
			}
			c.artifacts = append(c.artifacts, artifact)
		}
	}
	c.warning = strings.Join(warnings, " ")
	return c, nil
}

// upload sends one file under its digest. A file that changes meanwhile is
// refused by the server, whose copy must have that digest, and is read again.
func (a *Agent) upload(ctx context.Context, job string, root *os.Root, name string) (hpcsera.Artifact, error) {
	f, err := root.Open(name)
	if err != nil {
		return hpcsera.Artifact{}, hpcsera.Errorf(hpcsera.InvalidField, "artifact %s: %w", name, err)
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return hpcsera.Artifact{}, hpcsera.Errorf(hpcsera.Internal, "artifact %s: %w", name, err)
	}
	digest := "sha256:" + hex.EncodeToString(hash.Sum(nil))
	err = a.api.PutBlob(ctx, job, digest, size, f)
	if hpcsera.CodeOf(err) == hpcsera.DigestMismatch {
		err = hpcsera.Errorf(hpcsera.Unavailable, "artifact %s changed while it was sent: %w", name, err)
	}
	return hpcsera.Artifact{Path: name, Size: size, Digest: digest}, err
}

func readResult(root *os.Root, name string) (json.RawMessage, error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the job did not write it")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResult+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxResult {
		return nil, fmt.Errorf("it is larger than %d KiB", maxResult>>10)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, errors.New("it does not hold a JSON object")
	}
	return json.Marshal(object)
}

// match lists the regular files that a pattern selects, inside root only.
// Links are not followed.
func match(root *os.Root, pattern string) ([]string, error) {
	names := []string{"."}
	for _, element := range strings.Split(pattern, "/") {
		var next []string
		for _, dir := range names {
			entries, err := fs.ReadDir(root.FS(), dir)
			if err != nil {
				continue // not a directory
			}
			for _, entry := range entries {
				ok, err := path.Match(element, entry.Name())
				if err != nil {
					return nil, err
				}
				hidden := strings.HasPrefix(entry.Name(), ".") && !strings.HasPrefix(element, ".")
				if ok && !hidden && entry.Type()&fs.ModeSymlink == 0 {
					next = append(next, path.Join(dir, entry.Name()))
				}
			}
		}
		names = next
	}
	var files []string
	for _, name := range names {
		if info, err := fs.Stat(root.FS(), name); err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	return files, nil
}
