-- name: AuditHead :one
SELECT doc FROM audit ORDER BY number DESC LIMIT 1;

-- name: InsertAudit :exec
INSERT INTO audit (number, "user", project, doc) VALUES ($1, $2, $3, $4);
