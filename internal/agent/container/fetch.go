package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/hpcsera/hpcsera"
)

// fetchTimeout bounds one try to fetch an image.
const fetchTimeout = time.Hour

// Login is what a registry may be told. The zero value is nobody.
type Login struct{ Username, Password string }

type reference struct{ host, repository, digest string }

// fetch copies an image from its registry into an OCI layout in a new folder,
// every byte held against the digest before anything is looked into.
func fetch(ctx context.Context, ref reference, login Login, dir string) (v1.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	digest, err := name.NewDigest(ref.host + "/" + ref.repository + "@" + ref.digest)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%w", err).At("container.image")
	}
	auth := authn.Anonymous
	if login != (Login{}) {
		auth = &authn.Basic{Username: login.Username, Password: login.Password}
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.ResponseHeaderTimeout = time.Minute
	img, err := remote.Image(digest, remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(unreadable{base}), remote.WithJobs(2),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}), remote.WithRetryBackoff(remote.Backoff{Duration: time.Second, Factor: 2, Steps: 2}))
	if err != nil {
		return nil, explain(ref, err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, &HostTrouble{err}
	}
	// Layers are read to their end here: a checksum that is looked at only where a
	// tar file ends would come too late.
	if err := path.AppendImage(img); err != nil {
		return nil, explain(ref, err)
	}
	hash, err := img.Digest()
	if err != nil {
		return nil, explain(ref, err)
	}
	if img, err = path.Image(hash); err != nil {
		return nil, &HostTrouble{err}
	}
	return img, nil
}

// unreadable refuses to send anything that could be read on its way; without TLS a
// registry must be on this host.
type unreadable struct{ http.RoundTripper }

var errReadable = errors.New("without TLS a registry must be on this host")

// RoundTrip implements http.RoundTripper.
func (u unreadable) RoundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	if req.URL.Scheme != "https" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, errReadable)
	}
	return u.RoundTripper.RoundTrip(req)
}

// explain says what an error of a fetch means for the job: wait, or end.
func explain(ref reference, err error) error {
	var answer *transport.Error
	var path *os.PathError
	at := func(code hpcsera.Code, format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(code, format, args...).At("container.image")
	}
	switch text := err.Error(); {
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return at(hpcsera.InvalidField, "the registry %s does not give out %s: %w.", ref.host, ref.repository, err).
			Hint("Name a credential that may read it: container.credential in job.yaml, and credentials.yaml beside the agent's settings.")
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return at(hpcsera.InvalidField, "the registry %s has no %s@%s.", ref.host, ref.repository, ref.digest).Hint("Check the name and the digest.")
	case errors.As(err, &answer) && answer.StatusCode >= 400 && answer.StatusCode < 500 && answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusRequestTimeout:
		return at(hpcsera.InvalidField, "the registry %s refuses: %w.", ref.host, err)
	case strings.Contains(text, "error verifying") || strings.Contains(text, "does not match requested digest"):
		return at(hpcsera.DigestMismatch, "the registry %s sent something else than was signed: %w.", ref.host, err)
	case errors.Is(err, errReadable):
		return at(hpcsera.InvalidField, "%w.", err)
	case errors.As(err, &path):
		return &HostTrouble{err}
	case strings.Contains(text, "no child with platform"):
		return at(hpcsera.NotSupportedBySite, "the image has nothing for linux/%s: %w.", runtime.GOARCH, err)
	}
	return at(hpcsera.Unavailable, "the registry %s does not answer: %w.", ref.host, err)
}

// writeArchive writes an image as `docker save` does.
func writeArchive(img v1.Image, image, file string) error {
	tag, err := name.NewTag("localhost/" + image + ":latest")
	if err == nil {
		err = tarball.WriteToFile(file, tag, img)
	}
	if err != nil {
		return &HostTrouble{err}
	}
	return nil
}

// writeRootfs writes an image's file system as one tar file.
func writeRootfs(img v1.Image, file string) error {
	f, err := os.OpenFile(filepath.Clean(file), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return &HostTrouble{err}
	}
	r := mutate.Extract(img)
	_, err = io.Copy(f, r)
	var path *os.PathError
	switch err = errors.Join(err, r.Close(), f.Close()); {
	case errors.As(err, &path):
		return &HostTrouble{err}
	case err != nil:
		return hpcsera.Errorf(hpcsera.InvalidField, "the image cannot be unpacked: %w.", err).At("container.image")
	}
	return nil
}
