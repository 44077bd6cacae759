-- Instants are seconds since 1970, but lease_until, which is in milliseconds and 0 where there is
-- no lease. Documents are JSON text.
CREATE TABLE jobs (
    id              TEXT   NOT NULL PRIMARY KEY,
    kind            TEXT   NOT NULL,
    spec            TEXT   NOT NULL,
    training_file   TEXT   NOT NULL,
    validation_file TEXT,
    state           TEXT   NOT NULL,
    wanted          TEXT   NOT NULL,
    attempt         BIGINT NOT NULL,
    lost_in_row     BIGINT NOT NULL,
    lease_owner     TEXT,
    lease_until     BIGINT NOT NULL,
    step            BIGINT NOT NULL,
    total_steps     BIGINT NOT NULL,
    trained_tokens  BIGINT NOT NULL,
    events          BIGINT NOT NULL,
    error           TEXT,
    result          TEXT,
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,
    finished_at     BIGINT,
    updated_at      BIGINT NOT NULL
);
CREATE INDEX jobs_of_state ON jobs (state, id);

-- Only ever added to. seq counts from 1 without a gap in each job.
CREATE TABLE job_events (
    job        TEXT   NOT NULL REFERENCES jobs (id),
    seq        BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    level      TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    message    TEXT   NOT NULL,
    data       TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (job, seq)
);

CREATE TABLE job_checkpoints (
    job        TEXT   NOT NULL REFERENCES jobs (id),
    step       BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    folder     TEXT   NOT NULL,
    metrics    TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (job, step)
);

-- What a file holds lies in the data folder, under its id.
CREATE TABLE files (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    purpose    TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    bytes      BIGINT NOT NULL,
    line_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
