package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// keepImages is how long an image stays after the last job that was prepared
// with it; a job may wait in a queue for long.
const keepImages = 90 * 24 * time.Hour

// image brings the image of a code part to this site; nil where it has none.
func (a *Agent) image(ctx context.Context, m hpcsera.Manifest) (*container.Image, error) {
	if m.Container == nil {
		return nil, nil
	}
	var login container.Login
	if name := m.Container.Credential; name != "" {
		host, _, _ := m.Container.Parts()
		c, err := a.credential("container.credential", name, host)
		if err != nil {
			return nil, err
		}
		login = container.Login{Username: c.Username, Password: c.Password}
	}
	image, err := a.images.Get(ctx, *m.Container, login)
	if trouble, ok := errors.AsType[*container.HostTrouble](err); ok {
		return nil, local(trouble)
	}
	return &image, err
}

// contain puts a task into an image. Of the node the program sees the job's
// folder, the step's, and what was signed.
func (a *Agent) contain(t *spool.Task, image container.Image, c hpcsera.Container, step string) {
	t.Argv = append(a.config.Container.Command(image, c, t.Directory, step), t.Argv...)
	if _, err := os.Stat(image.Path); err == nil { // else the tool keeps it itself
		t.Present = append(t.Present, spool.Present{Field: "container.image", Path: image.Path})
	}
	for i, b := range c.Binds() {
		t.Present = append(t.Present, spool.Present{Field: hpcsera.MountField(i), Path: b.Source})
	}
}
