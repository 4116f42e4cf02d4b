package hpcsera

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Container is the image that every step of a code part runs in. Image and
// mounts are code: what is signed says which bytes run and what they see.
type Container struct {
	Image      string   `json:"image"`                // docker://HOST/REPOSITORY[:TAG]@sha256:…; the digest alone counts
	Mounts     []string `json:"mounts,omitempty"`     // SOURCE:TARGET[:ro], absolute paths of node and container
	Credential string   `json:"credential,omitempty"` // a name in the agent's own file
}

// Bind is one mount: a path of the node seen in a container.
type Bind struct {
	Source, Target string
	ReadOnly       bool
}

// The host is written out, so that no registry is meant that nobody named.
var imagePattern = regexp.MustCompile(`^docker://((?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9.-]+:[0-9]{1,5})(?::[0-9]{1,5})?)/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@(sha256:[0-9a-f]{64})$`)

// Parts returns the registry's host, the repository and the digest of an image
// that was validated.
func (c Container) Parts() (host, repository, digest string) {
	m := imagePattern.FindStringSubmatch(c.Image)
	if m == nil {
		return "", "", ""
	}
	return m[1], m[2], m[3]
}

// Binds returns the mounts of a container that was validated.
func (c Container) Binds() []Bind {
	list := make([]Bind, 0, len(c.Mounts))
	for _, m := range c.Mounts {
		parts := strings.Split(m, ":")
		list = append(list, Bind{Source: parts[0], Target: parts[1], ReadOnly: len(parts) == 3})
	}
	return list
}

// MountField names a mount in errors.
func MountField(i int) string { return fmt.Sprintf("container.mounts[%d]", i) }

// takenTargets are folders of a container that the runtime or the agent fills.
var takenTargets = []string{"/proc", "/sys", "/dev", "/hpcsera"}

// validate checks a container that may be nil.
func (c *Container) validate() error {
	if c == nil {
		return nil
	}
	if !imagePattern.MatchString(c.Image) || len(c.Image) > 1024 {
		return Errorf(InvalidField, "%q does not name an image by its digest.", c.Image).At("container.image").
			Hint("Write docker://HOST/NAME@sha256:DIGEST, such as skopeo inspect prints it.")
	}
	if c.Credential != "" && !ValidName(c.Credential) {
		return Errorf(InvalidField, "%q is not a credential's name.", c.Credential).At("container.credential").Hint("Use 1 to 63 of a-z, 0-9 and the hyphen.")
	}
	if len(c.Mounts) > 100 {
		return Errorf(InvalidField, "%d mounts are too many; 100 can be given.", len(c.Mounts)).At("container.mounts")
	}
	targets := map[string]bool{}
	for i, m := range c.Mounts {
		parts := strings.Split(m, ":")
		bad := len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "ro"
		for _, p := range parts[:min(2, len(parts))] {
			bad = bad || !path.IsAbs(p) || path.Clean(p) != p || len(p) > 1024 || strings.ContainsFunc(p, func(r rune) bool {
				return r < ' ' || r == 0x7f || strings.ContainsRune(`,"'\{}`, r)
			})
		}
		if bad {
			return Errorf(InvalidField, "%q is not a mount.", m).At(MountField(i)).Hint("Write SOURCE:TARGET or SOURCE:TARGET:ro with absolute, clean paths.")
		}
		target := parts[1]
		taken := target == "/" || slices.ContainsFunc(takenTargets, func(t string) bool { return target == t || strings.HasPrefix(target, t+"/") })
		if taken || targets[target] {
			return Errorf(InvalidField, "nothing can be mounted at %s, or something is already.", target).At(MountField(i)).Hint("Choose another target.")
		}
		targets[target] = true
	}
	return nil
}
