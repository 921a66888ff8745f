-- Times are nanoseconds since the Unix epoch. Booleans are 0 and 1. JSON is what the model's types serialise to.

CREATE TABLE instance (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    id         TEXT    NOT NULL,
    epoch      INTEGER NOT NULL DEFAULT 0,
    adopted_at INTEGER,
    horizon    INTEGER
) STRICT;

CREATE TABLE container (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  BLOB    NOT NULL UNIQUE CHECK (length(id) = 32),
    name                TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,

    -- The wish: written for the API only.
    generation          INTEGER NOT NULL,
    starts              INTEGER NOT NULL,
    started_at          INTEGER,
    cancelled           INTEGER NOT NULL,
    cancelled_at        INTEGER,
    remove_at           INTEGER,
    config              TEXT    NOT NULL,

    -- The facts: written for the reconciler only.
    revision            INTEGER NOT NULL,
    status              TEXT    NOT NULL,
    observed_generation INTEGER NOT NULL,
    due_at              INTEGER,
    watched             INTEGER NOT NULL DEFAULT 0,

    -- Follows from both: invisible to clients, and the name is free.
    removed             INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX container_name ON container (name) WHERE removed = 0;
-- These two hold all that the queue is rebuilt from: the wide rows are not touched.
CREATE INDEX container_due ON container (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX container_wished ON container (id, generation, observed_generation) WHERE generation > observed_generation;
CREATE INDEX container_watched ON container (watched) WHERE watched = 1;

CREATE TABLE tombstone (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        BLOB    NOT NULL UNIQUE CHECK (length(id) = 32),
    name      TEXT    NOT NULL,
    exit_code INTEGER NOT NULL,
    error     TEXT,
    at        INTEGER NOT NULL
) STRICT;

CREATE INDEX tombstone_name ON tombstone (name);
CREATE INDEX tombstone_at ON tombstone (at);

CREATE TABLE image (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    reference  TEXT    NOT NULL UNIQUE,
    id         TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    digest     TEXT
) STRICT;

CREATE TABLE event (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('container', 'image')),
    action     TEXT    NOT NULL,
    actor_id   TEXT    NOT NULL,
    attributes TEXT    NOT NULL
) STRICT;

CREATE INDEX event_at ON event (at);

CREATE TABLE log_progress (
    log_group    TEXT    PRIMARY KEY,
    read_through INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sighting (
    function_name TEXT    PRIMARY KEY,
    first_seen    INTEGER NOT NULL,
    last_seen     INTEGER NOT NULL,
    times         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE role_without_logs (
    role_arn TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
