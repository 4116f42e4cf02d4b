-- name: Job :one
SELECT doc, own FROM jobs WHERE id = $1;

-- name: UpdateJob :execrows
-- What a job was made for never changes: its project, user, client and created
-- seq are not among the columns.
UPDATE jobs SET site = $1, name = $2, state = $3, agent = $4, order_seq = $5,
    unfinished = $6, takeable = $7, awaits = $8, doc = $9, own = $10
WHERE id = $11;

-- name: DeleteJob :execrows
DELETE FROM jobs WHERE id = $1;

-- name: Orders :many
SELECT doc, own FROM jobs
WHERE agent = $1 AND agent <> '' AND unfinished AND order_seq > $2
ORDER BY order_seq LIMIT $3;

-- name: AwaitingApproval :many
SELECT doc, own FROM jobs
WHERE "user" = $1 AND project = $2 AND awaits = $3 AND awaits <> ''
ORDER BY created_seq;

-- name: Dependents :many
SELECT j.doc, j.own FROM job_dependencies d JOIN jobs j ON j.id = d.job
WHERE d.needs = $1 AND j.unfinished
ORDER BY j.created_seq;

-- name: UnfinishedByAgent :one
SELECT count(*) FROM jobs WHERE agent = $1 AND agent <> '' AND unfinished;

-- name: JobTags :many
SELECT tag FROM job_tags WHERE job = $1;

-- name: InsertJobTag :exec
INSERT INTO job_tags (tag, project, created_seq, job)
SELECT $1, j.project, j.created_seq, j.id FROM jobs j WHERE j.id = $2
ON CONFLICT DO NOTHING;

-- name: DeleteJobTag :exec
DELETE FROM job_tags WHERE job = $1 AND tag = $2;

-- name: DeleteJobTags :exec
DELETE FROM job_tags WHERE job = $1;

-- name: InsertDependency :exec
INSERT INTO job_dependencies (needs, job) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: DeleteDependencies :exec
DELETE FROM job_dependencies WHERE job = $1;

-- name: DeleteEvents :exec
-- All events of a job but the last.
DELETE FROM events WHERE events.job = $1 AND events.seq < (SELECT max(e.seq) FROM events e WHERE e.job = $1);

-- name: Answer :one
SELECT "user", body_sha256, status, body, created FROM answers WHERE scope = $1 AND key = $2;

-- name: DropAnswers :exec
DELETE FROM answers WHERE created < $1;

-- name: Awaited :many
SELECT DISTINCT "user", project, awaits FROM jobs
WHERE awaits <> '' AND ("user", project, awaits) > (sqlc.arg(after_user), sqlc.arg(after_project), sqlc.arg(after_digest))
ORDER BY "user", project, awaits LIMIT sqlc.arg(most);
