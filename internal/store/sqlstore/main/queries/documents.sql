-- name: Document :one
SELECT doc FROM documents WHERE kind = $1 AND key = $2 AND (ends = 0 OR ends > $3);

-- name: Documents :many
SELECT key, doc FROM documents WHERE kind = $1 AND (owner = $2 OR $2 = '') AND (ends = 0 OR ends > $3) ORDER BY key;

-- name: PutDocument :exec
INSERT INTO documents (kind, key, owner, ends, doc) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, ends = excluded.ends, doc = excluded.doc;

-- name: InsertDocument :execrows
INSERT INTO documents (kind, key, owner, ends, doc) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING;

-- name: DeleteDocument :exec
DELETE FROM documents WHERE kind = $1 AND key = $2;

-- name: SweepDocuments :exec
DELETE FROM documents WHERE ends <> 0 AND ends < $1;
