-- Never edit a migration that was released: its checksum is in every catalog. Add another one.

CREATE TABLE collections (
    name   TEXT NOT NULL PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL CHECK (json_valid(config))
) STRICT;

CREATE TABLE pipelines (
    name       TEXT NOT NULL PRIMARY KEY,
    yaml       TEXT NOT NULL,
    desired    TEXT NOT NULL CHECK (desired IN ('running', 'paused')),
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT;

-- Schemas as fetched, so that decoding goes on while a registry is down.
CREATE TABLE schemas (
    registry TEXT NOT NULL,
    id       INTEGER NOT NULL,
    text     TEXT NOT NULL,
    PRIMARY KEY (registry, id)
) STRICT;
