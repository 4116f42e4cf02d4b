-- +goose Up

-- One schema for SQLite and PostgreSQL. Ids and names are TEXT, times are
-- microseconds since 1970 (0: never), documents are JSON as TEXT. Where a
-- table has a document, the document is the truth and the columns beside it
-- are copies to find it by.

-- The deployment's one sequence. Its row is locked by every transaction that
-- writes, so commit order is seq order.
CREATE TABLE counter (
    id     BIGINT PRIMARY KEY,
    seq    BIGINT NOT NULL,
    epoch  BIGINT NOT NULL,
    access BIGINT NOT NULL -- another number with every change of who there is
);

CREATE TABLE jobs (
    id          TEXT PRIMARY KEY,
    created_seq BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    project     TEXT NOT NULL,
    "user"      TEXT NOT NULL,
    client      TEXT NOT NULL,
    site        TEXT NOT NULL,
    name        TEXT NOT NULL,
    state       TEXT NOT NULL,
    agent       TEXT NOT NULL,    -- '' before delivery
    order_seq   BIGINT NOT NULL,  -- 0 before delivery
    unfinished  BOOLEAN NOT NULL, -- not in a final state
    takeable    BOOLEAN NOT NULL, -- ready, unfinished and not delivered
    awaits      TEXT NOT NULL,    -- the code digest whose approval it waits for, else ''
    doc         TEXT NOT NULL,    -- hpcsera.Job
    own         TEXT NOT NULL     -- what the server alone knows
);
CREATE INDEX jobs_created ON jobs (created_seq);
CREATE INDEX jobs_project ON jobs (project, created_seq);
CREATE INDEX jobs_client ON jobs (project, client, created_seq);
CREATE INDEX jobs_unfinished ON jobs (project, created_seq) WHERE unfinished;
CREATE INDEX jobs_agent ON jobs (agent, order_seq) WHERE unfinished AND agent <> '';
CREATE INDEX jobs_takeable ON jobs ("user", site, created_seq) WHERE takeable;
CREATE INDEX jobs_awaits ON jobs ("user", project, awaits, created_seq) WHERE awaits <> '';

-- Labels and annotations to find jobs by, as digests: values are too long for
-- an index.
CREATE TABLE job_tags (
    tag         TEXT NOT NULL,
    project     TEXT NOT NULL,
    created_seq BIGINT NOT NULL,
    job         TEXT NOT NULL,
    PRIMARY KEY (tag, project, created_seq, job)
);
CREATE INDEX job_tags_job ON job_tags (job);

CREATE TABLE job_dependencies (
    needs TEXT NOT NULL,
    job   TEXT NOT NULL,
    PRIMARY KEY (needs, job)
);
CREATE INDEX job_dependencies_job ON job_dependencies (job);

CREATE TABLE events (
    seq     BIGINT PRIMARY KEY,
    job     TEXT NOT NULL,
    project TEXT NOT NULL,
    "user"  TEXT NOT NULL,
    client  TEXT NOT NULL,
    doc     TEXT NOT NULL -- store.Change
);
CREATE INDEX events_job ON events (job, seq);
CREATE INDEX events_project ON events (project, seq);

-- Answers to idempotent requests.
CREATE TABLE answers (
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    "user"      TEXT NOT NULL, -- who asked, and alone gets it again
    body_sha256 TEXT NOT NULL,
    status      BIGINT NOT NULL,
    body        BYTEA NOT NULL,
    created     BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX answers_created ON answers (created);

CREATE TABLE code (
    project  TEXT NOT NULL,
    digest   TEXT NOT NULL,
    name     TEXT NOT NULL,
    "user"   TEXT NOT NULL,
    client   TEXT NOT NULL,
    created  BIGINT NOT NULL,
    manifest TEXT NOT NULL, -- hpcsera.Manifest
    PRIMARY KEY (project, digest)
);
CREATE INDEX code_project ON code (project, created);

-- Which project handed in which bytes.
CREATE TABLE blobs (
    project TEXT NOT NULL,
    digest  TEXT NOT NULL,
    size    BIGINT NOT NULL,
    PRIMARY KEY (project, digest)
);

CREATE TABLE approvals (
    id      TEXT PRIMARY KEY,
    "user"  TEXT NOT NULL,
    project TEXT NOT NULL,
    digest  TEXT NOT NULL,
    name    TEXT NOT NULL,
    client  TEXT NOT NULL, -- whose token filed it, if that token reaches no more
    filed   BIGINT NOT NULL,
    doc     TEXT NOT NULL -- store.Approval
);
CREATE INDEX approvals_user ON approvals ("user", project, filed);
CREATE INDEX approvals_code ON approvals ("user", project, digest, filed);

CREATE TABLE users (
    name     TEXT PRIMARY KEY,
    operator BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    created  BIGINT NOT NULL
);

CREATE TABLE projects (
    name    TEXT PRIMARY KEY,
    created BIGINT NOT NULL
);

CREATE TABLE members (
    project TEXT NOT NULL,
    "user"  TEXT NOT NULL,
    role    TEXT NOT NULL,
    PRIMARY KEY (project, "user")
);
CREATE INDEX members_user ON members ("user", project);

CREATE TABLE clients (
    name     TEXT PRIMARY KEY,
    owner    TEXT NOT NULL, -- '' is the operator
    disabled BOOLEAN NOT NULL,
    created  BIGINT NOT NULL
);

CREATE TABLE sites (
    name     TEXT PRIMARY KEY,
    disabled BOOLEAN NOT NULL,
    created  BIGINT NOT NULL
);

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    "user"     TEXT NOT NULL,
    project    TEXT NOT NULL,
    client     TEXT NOT NULL,
    site       TEXT NOT NULL,
    scope      TEXT NOT NULL,
    roles      BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    revoked    BIGINT NOT NULL,
    hash       BYTEA NOT NULL, -- SHA-256 of the secret
    used       BIGINT NOT NULL -- when it was last used
);
CREATE INDEX tokens_user ON tokens ("user", created);

CREATE TABLE agents (
    id        TEXT PRIMARY KEY,
    "user"    TEXT NOT NULL,
    site      TEXT NOT NULL,
    removed   BOOLEAN NOT NULL,
    last_seen BIGINT NOT NULL,
    doc       TEXT NOT NULL -- store.Agent without LastSeen
);
CREATE INDEX agents_user ON agents ("user", site);

-- The audit log, a chain of lines.
CREATE TABLE audit (
    number  BIGINT PRIMARY KEY,
    "user"  TEXT NOT NULL,
    project TEXT NOT NULL,
    doc     TEXT NOT NULL -- hpcsera.AuditLine
);
CREATE INDEX audit_user ON audit ("user", number);
CREATE INDEX audit_project ON audit (project, number);

-- Small things with an end, by kind: store.Document.
CREATE TABLE documents (
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    owner TEXT NOT NULL,
    ends  BIGINT NOT NULL, -- 0: never
    doc   TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX documents_owner ON documents (kind, owner, key);
CREATE INDEX documents_ends ON documents (ends) WHERE ends <> 0;
