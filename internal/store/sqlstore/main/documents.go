package sqlstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Document reads one document.
func (r *reader) Document(kind store.Kind, key string, now time.Time, into any) error {
	doc, err := r.q.Document(r.ctx, gen.DocumentParams{Kind: string(kind), Key: key, Ends: micros(now)})
	if err != nil {
		return r.failed(err, "%s %s", kind, brief(key))
	}
	if err := json.Unmarshal([]byte(doc), into); err != nil {
		return fmt.Errorf("%s %s: %w", kind, brief(key), err)
	}
	return nil
}

// brief shortens a key for an error: some are hashes of secrets.
func brief(key string) string {
	if len(key) > 12 {
		return key[:12] + "…"
	}
	return key
}

// Documents reads an owner's documents.
func (r *reader) Documents(kind store.Kind, owner string, now time.Time, each func(key string, doc []byte) error) error {
	rows, err := r.q.Documents(r.ctx, gen.DocumentsParams{Kind: string(kind), Owner: owner, Ends: micros(now)})
	if err != nil {
		return r.failed(err, "%s of %q", kind, owner)
	}
	for _, row := range rows {
		if err := each(row.Key, []byte(row.Doc)); err != nil {
			return err
		}
	}
	return nil
}

// PutDocument replaces a document or makes it.
func (t *tx) PutDocument(at store.Document, doc any) error {
	text, err := t.document(at, doc)
	if err != nil {
		return err
	}
	err = t.q.PutDocument(t.ctx, gen.PutDocumentParams{Kind: string(at.Kind), Key: at.Key, Owner: at.Owner, Ends: micros(at.Ends), Doc: text})
	if err != nil {
		return t.failed(err, "put %s", at.Kind)
	}
	return nil
}

// InsertDocument makes a document.
func (t *tx) InsertDocument(at store.Document, doc any) error {
	text, err := t.document(at, doc)
	if err != nil {
		return err
	}
	n, err := t.q.InsertDocument(t.ctx, gen.InsertDocumentParams{Kind: string(at.Kind), Key: at.Key, Owner: at.Owner, Ends: micros(at.Ends), Doc: text})
	return t.inserted(n, err, string(at.Kind), brief(at.Key))
}

func (t *tx) document(at store.Document, doc any) (string, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", at.Kind, err)
	}
	return string(text), t.touch()
}

// DeleteDocument deletes a document that may be there.
func (t *tx) DeleteDocument(kind store.Kind, key string) error {
	if err := t.touch(); err != nil {
		return err
	}
	if err := t.q.DeleteDocument(t.ctx, gen.DeleteDocumentParams{Kind: string(kind), Key: key}); err != nil {
		return t.failed(err, "delete %s", kind)
	}
	return nil
}

// SweepDocuments deletes what ended.
func (t *tx) SweepDocuments(before time.Time) error {
	if err := t.touch(); err != nil {
		return err
	}
	if err := t.q.SweepDocuments(t.ctx, micros(before)); err != nil {
		return t.failed(err, "sweep documents")
	}
	return nil
}
