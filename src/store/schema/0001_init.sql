-- The first schema. Applied once, never edited: a change is a new file with the next number.
-- {identity} and {bytes} stand for the two types that engines spell differently; times are
-- milliseconds since 1970 in UTC.

-- What is known of the store itself: its id, and how much of the change log was cut off.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- Never the token itself. Numbers are not given twice, also after rows were pruned.
CREATE TABLE tokens (
    id        {identity},
    hash      {bytes} NOT NULL UNIQUE,
    client_id TEXT NOT NULL,
    scopes    TEXT NOT NULL,
    issued    BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    revoked   BIGINT
);
CREATE INDEX tokens_by_client ON tokens (client_id, id);
CREATE INDEX tokens_by_expiry ON tokens (expires);
CREATE INDEX tokens_by_revocation ON tokens (revoked) WHERE revoked IS NOT NULL;

-- Lists are JSON arrays of strings.
CREATE TABLE clients (
    id          TEXT PRIMARY KEY NOT NULL,
    scopes      TEXT NOT NULL,
    tenants     TEXT NOT NULL,
    sudo        TEXT NOT NULL,
    rate_limits TEXT NOT NULL,
    created     BIGINT NOT NULL
);

CREATE TABLE client_secrets (
    id        {identity},
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    digest    TEXT NOT NULL,
    expires   BIGINT
);
CREATE INDEX client_secrets_by_client ON client_secrets (client_id);

-- What other processes must hear of, in the order it was committed, written with the change itself.
CREATE TABLE changes (
    seq  {identity},
    kind TEXT NOT NULL,
    key  {bytes} NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX changes_by_time ON changes (at);

-- Tokens of this client (empty: of everybody) that were issued before this instant are revoked, also
-- those whose insertion was still on its way when the revocation was committed.
CREATE TABLE revoked_before (
    client_id TEXT PRIMARY KEY NOT NULL,
    before    BIGINT NOT NULL,
    at        BIGINT NOT NULL
);
