-- Instants are seconds since 1970, documents are JSON text. A NULL checkpoint is what the model's
-- folder holds.
CREATE TABLE policies (
    id           TEXT NOT NULL PRIMARY KEY,
    version      BIGINT NOT NULL,
    live         TEXT,
    canary       TEXT,
    canary_share REAL NOT NULL,
    updated_at   BIGINT NOT NULL
);

-- Only ever added to: one row for each version of a policy.
CREATE TABLE policy_history (
    policy   TEXT NOT NULL REFERENCES policies (id),
    version  BIGINT NOT NULL,
    action   TEXT   NOT NULL,
    live     TEXT,
    replaced TEXT,
    at       BIGINT NOT NULL,
    PRIMARY KEY (policy, version)
);

CREATE TABLE policy_checkpoints (
    policy     TEXT NOT NULL,
    id         TEXT NOT NULL,
    stage      TEXT   NOT NULL,
    origin     TEXT   NOT NULL,
    evaluation TEXT   NOT NULL,
    bytes      BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (policy, id)
);
