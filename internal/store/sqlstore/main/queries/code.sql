-- name: Code :one
SELECT project, digest, name, "user", client, created, manifest FROM code
WHERE project = $1 AND digest = $2;

-- name: CodeList :many
SELECT project, digest, name, "user", client, created, manifest FROM code
WHERE project = $1 AND ("user" = $2 OR $2 = '') AND (client = $3 OR $3 = '')
ORDER BY created DESC, digest LIMIT $4;

-- name: PutCode :exec
INSERT INTO code (project, digest, name, "user", client, created, manifest)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING;

-- name: DeleteCode :execrows
DELETE FROM code WHERE project = $1 AND digest = $2;

-- name: HasBlob :one
SELECT EXISTS (SELECT 1 FROM blobs WHERE project = $1 AND digest = $2);

-- name: PutBlob :exec
INSERT INTO blobs (project, digest, size) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: Approval :one
SELECT doc FROM approvals WHERE id = $1;

-- name: PutApproval :exec
INSERT INTO approvals (id, "user", project, digest, name, client, filed, doc)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE SET "user" = excluded."user", project = excluded.project, digest = excluded.digest, name = excluded.name,
    client = excluded.client, filed = excluded.filed, doc = excluded.doc
WHERE approvals.client = '!'; -- store.NoClient
