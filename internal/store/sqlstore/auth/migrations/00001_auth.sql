-- +goose Up
-- The prefix lets the Auth app share a PostgreSQL database with others.
CREATE TABLE auth_docs (
    kind  TEXT   NOT NULL,
    key   TEXT   NOT NULL,
    owner TEXT   NOT NULL,
    ends  BIGINT NOT NULL, -- microseconds since 1970, 0 is never
    doc   TEXT   NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX auth_docs_owner ON auth_docs (kind, owner);
CREATE INDEX auth_docs_ends ON auth_docs (ends);

CREATE TABLE auth_audit (
    number BIGINT PRIMARY KEY,
    person TEXT   NOT NULL,
    line   TEXT   NOT NULL
);
CREATE INDEX auth_audit_person ON auth_audit (person, number);

-- The end of the chain. Its one row is also what writers lock.
CREATE TABLE auth_head (
    id     BIGINT PRIMARY KEY,
    number BIGINT NOT NULL,
    hash   TEXT   NOT NULL
);
INSERT INTO auth_head (id, number, hash) VALUES (1, 0, '');
