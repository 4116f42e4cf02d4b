package sqlstore

import (
	"encoding/json"
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Code returns a code part.
func (r *reader) Code(project, digest string) (*store.Code, error) {
	row, err := r.q.Code(r.ctx, gen.CodeParams{Project: project, Digest: digest})
	if err != nil {
		return nil, r.failed(err, "code %s in %s", digest, project)
	}
	return r.decodeCode(row)
}

// Code returns a code part. Jobs that arrive together often run the same one,
// so it is read once per transaction; its manifest is everybody's to read.
func (t *tx) Code(project, digest string) (*store.Code, error) {
	key := [2]string{project, digest}
	c, known := t.codes[key]
	if !known {
		var err error
		if c, err = t.reader.Code(project, digest); err != nil {
			return nil, err
		}
		if t.codes == nil {
			t.codes = map[[2]string]*store.Code{}
		}
		t.codes[key] = c
	}
	own := *c
	return &own, nil
}

func (r *reader) decodeCode(row gen.Code) (*store.Code, error) {
	manifest, err := decodeOnce[hpcsera.Manifest](r.db, row.Manifest)
	if err != nil {
		return nil, fmt.Errorf("code %s in %s: %w", row.Digest, row.Project, err)
	}
	c := &store.Code{User: row.User, Client: row.Client}
	c.Project, c.Digest, c.Name, c.Created, c.Manifest = row.Project, row.Digest, row.Name, moment(row.Created), *manifest
	return c, nil
}

// CodeList returns a project's code parts, newest first.
func (r *reader) CodeList(project, user, client string, limit int) ([]*store.Code, error) {
	rows, err := r.q.CodeList(r.ctx, gen.CodeListParams{Project: project, User: user, Client: client, Limit: int32(limited(limit, maxJobs))})
	if err != nil {
		return nil, r.failed(err, "code of %s", project)
	}
	list := make([]*store.Code, len(rows))
	for i, row := range rows {
		if list[i], err = r.decodeCode(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// HasBlob reports whether someone of the project handed in these bytes.
func (r *reader) HasBlob(project, digest string) (bool, error) {
	has, err := r.q.HasBlob(r.ctx, gen.HasBlobParams{Project: project, Digest: digest})
	if err != nil {
		return false, r.failed(err, "blob %s of %s", digest, project)
	}
	return has, nil
}

// Approval returns an approval.
func (r *reader) Approval(id string) (*store.Approval, error) {
	doc, err := r.q.Approval(r.ctx, id)
	if err != nil {
		return nil, r.failed(err, "approval %s", id)
	}
	return r.decodeApproval(doc)
}

func (r *reader) decodeApproval(doc string) (*store.Approval, error) {
	shared, err := decodeOnce[store.Approval](r.db, doc)
	if err != nil {
		return nil, fmt.Errorf("read approval: %w", err)
	}
	own := *shared
	return &own, nil
}

// Approvals returns a user's approvals in a project, newest first.
func (r *reader) Approvals(user, project, client, digest, name string, limit int) ([]*store.Approval, error) {
	w := &where{order: "filed DESC, id"}
	w.is(`"user" =`, user)
	w.is("project =", project)
	if digest != "" {
		w.is("digest =", digest)
	}
	if name != "" {
		w.is("name =", name)
	}
	if client != store.EveryClient {
		w.in("client", []string{"", client})
	}
	query := "SELECT doc FROM approvals" + w.String() + w.limit(limited(limit, maxJobs))
	rows, err := r.db.QueryContext(r.ctx, query, w.args...)
	if err != nil {
		return nil, r.failed(err, "approvals of %s in %s", user, project)
	}
	defer rows.Close()
	list := []*store.Approval{}
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return nil, r.failed(err, "approvals of %s in %s", user, project)
		}
		a, err := r.decodeApproval(doc)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "approvals of %s in %s", user, project)
	}
	return list, nil
}

// PutCode files a code part; the first to file it stays its owner.
func (t *tx) PutCode(c store.Code) error {
	if err := t.touch(); err != nil {
		return err
	}
	manifest, err := json.Marshal(c.Manifest)
	if err != nil {
		return fmt.Errorf("file code %s: %w", c.Digest, err)
	}
	err = t.q.PutCode(t.ctx, gen.PutCodeParams{
		Project: c.Project, Digest: c.Digest, Name: c.Name, User: c.User, Client: c.Client, Created: micros(c.Created), Manifest: string(manifest),
	})
	if err != nil {
		return t.failed(err, "file code %s", c.Digest)
	}
	return nil
}

// DeleteCode removes a code part.
func (t *tx) DeleteCode(project, digest string) error {
	if err := t.touch(); err != nil {
		return err
	}
	t.codes = nil
	n, err := t.q.DeleteCode(t.ctx, gen.DeleteCodeParams{Project: project, Digest: digest})
	return t.changed(n, err, "delete code %s of %s", digest, project)
}

// PutBlob files that someone of the project handed in these bytes.
func (t *tx) PutBlob(project, digest string, size int64) error {
	if err := t.touch(); err != nil {
		return err
	}
	if err := t.q.PutBlob(t.ctx, gen.PutBlobParams{Project: project, Digest: digest, Size: size}); err != nil {
		return t.failed(err, "file blob %s of %s", digest, project)
	}
	return nil
}

// PutApproval files an approval.
func (t *tx) PutApproval(a store.Approval) error {
	if err := t.touch(); err != nil {
		return err
	}
	doc, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("file approval %s: %w", a.ID, err)
	}
	err = t.q.PutApproval(t.ctx, gen.PutApprovalParams{
		ID: a.ID, User: a.User, Project: a.Project, Digest: a.Digest, Name: a.Name, Client: a.Client, Filed: micros(a.Filed), Doc: string(doc),
	})
	if err != nil {
		return t.failed(err, "file approval %s", a.ID)
	}
	return nil
}
