-- Instants are seconds since 1970, documents are JSON text. Ids sort by byte, as in SQLite, so
-- that cursors mean the same in both.
CREATE TABLE profiles (
    id          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    weights     TEXT   NOT NULL,
    description TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

CREATE TABLE comparisons (
    id               TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    profile          TEXT   COLLATE "C" NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    model            TEXT   NOT NULL,
    policy_version   TEXT   NOT NULL,
    rewards_chosen   TEXT   NOT NULL,
    rewards_rejected TEXT   NOT NULL,
    created_at       BIGINT NOT NULL
);
CREATE INDEX comparisons_of_profile ON comparisons (profile, id);

CREATE TABLE api_keys (
    id                  TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    digest              BYTEA  NOT NULL UNIQUE,
    name                TEXT   NOT NULL,
    scopes              TEXT   NOT NULL,
    default_profile     TEXT,
    weight_ranges       TEXT   NOT NULL,
    requests_per_minute BIGINT,
    tokens_per_minute   BIGINT,
    created_at          BIGINT NOT NULL,
    expires_at          BIGINT,
    revoked_at          BIGINT
);
