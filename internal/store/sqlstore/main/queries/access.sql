-- name: User :one
SELECT name, operator, disabled, created FROM users WHERE name = $1;

-- name: Users :many
SELECT name, operator, disabled, created FROM users;

-- name: InsertUser :execrows
INSERT INTO users (name, operator, disabled, created) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: UpdateUser :execrows
UPDATE users SET operator = $1, disabled = $2 WHERE name = $3;

-- name: Project :one
SELECT name, created FROM projects WHERE name = $1;

-- name: Projects :many
SELECT name, created FROM projects;

-- name: InsertProject :execrows
INSERT INTO projects (name, created) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: Members :many
SELECT project, "user", role FROM members WHERE project = $1;

-- name: AllMembers :many
SELECT project, "user", role FROM members;

-- name: Memberships :many
SELECT project FROM members WHERE "user" = $1;

-- name: SetMember :exec
INSERT INTO members (project, "user", role) VALUES ($1, $2, $3)
ON CONFLICT (project, "user") DO UPDATE SET role = excluded.role;

-- name: DeleteMember :exec
DELETE FROM members WHERE project = $1 AND "user" = $2;

-- name: Client :one
SELECT name, owner, disabled, created FROM clients WHERE name = $1;

-- name: Clients :many
SELECT name, owner, disabled, created FROM clients;

-- name: InsertClient :execrows
INSERT INTO clients (name, owner, disabled, created) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: UpdateClient :execrows
UPDATE clients SET disabled = $1 WHERE name = $2;

-- name: Site :one
SELECT name, disabled, created FROM sites WHERE name = $1;

-- name: Sites :many
SELECT name, disabled, created FROM sites;

-- name: InsertSite :execrows
INSERT INTO sites (name, disabled, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: UpdateSite :execrows
UPDATE sites SET disabled = $1 WHERE name = $2;

-- name: Token :one
SELECT id, "user", project, client, site, scope, roles, created, not_before, expires, revoked, hash, used FROM tokens WHERE id = $1;

-- name: Tokens :many
SELECT id, "user", project, client, site, scope, roles, created, not_before, expires, revoked, hash, used FROM tokens
WHERE ("user" = $1 OR $1 = '') ORDER BY created DESC, id;

-- name: InsertToken :execrows
INSERT INTO tokens (id, "user", project, client, site, scope, roles, created, not_before, expires, revoked, hash, used)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0) ON CONFLICT DO NOTHING;

-- name: RevokeToken :execrows
-- The first revocation's time stays.
UPDATE tokens SET revoked = CASE WHEN revoked = 0 THEN $1 ELSE revoked END WHERE id = $2;

-- name: UsedToken :exec
UPDATE tokens SET used = $1 WHERE id = $2 AND used < $1;

-- name: Principal :one
SELECT sqlc.embed(t), coalesce(u.disabled, TRUE) AS user_disabled, coalesce(c.disabled, TRUE) AS client_disabled,
    coalesce(m.role, '') AS member
FROM tokens t
LEFT JOIN users u ON u.name = t."user"
LEFT JOIN clients c ON c.name = t.client
LEFT JOIN members m ON m.project = t.project AND m."user" = t."user"
WHERE t.id = $1;

-- name: Agent :one
SELECT last_seen, removed, doc FROM agents WHERE id = $1;

-- name: Agents :many
SELECT last_seen, removed, doc FROM agents
WHERE NOT removed AND ("user" = $1 OR $1 = '') AND (site = $2 OR $2 = '') ORDER BY id;

-- name: InsertAgent :execrows
INSERT INTO agents (id, "user", site, removed, last_seen, doc)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;

-- name: UpdateAgent :execrows
UPDATE agents SET "user" = $1, site = $2, removed = $3, doc = $4 WHERE id = $5;
