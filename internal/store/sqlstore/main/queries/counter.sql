-- name: LockCounter :one
-- Writing the row, if only its own value, makes other replicas wait.
UPDATE counter SET seq = seq WHERE id = 1 RETURNING seq;

-- name: Counter :one
SELECT seq, epoch FROM counter WHERE id = 1;

-- name: SetCounter :exec
UPDATE counter SET seq = $1 WHERE id = 1;

-- name: StartCounter :exec
INSERT INTO counter (id, seq, epoch, access) VALUES (1, 0, $1, 0) ON CONFLICT DO NOTHING;

-- name: SetEpoch :exec
UPDATE counter SET epoch = $1 WHERE id = 1;

-- name: AccessVersion :one
SELECT access FROM counter WHERE id = 1;

-- name: SetAccessVersion :exec
UPDATE counter SET access = $1 WHERE id = 1;
