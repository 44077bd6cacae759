//! PostgreSQL, for several servers on one state.

use std::str::FromStr;
use std::time::Duration;

use futures::TryFutureExt;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};

use super::StoreError;
use super::dialect::migrator;

/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 8;

const STEPS: [(i64, &str, &str); 6] = [
    (
        1,
        "profiles and keys",
        include_str!("migrations/postgres/0001_profiles_and_keys.sql"),
    ),
    (
        2,
        "jobs and files",
        include_str!("migrations/postgres/0002_jobs_and_files.sql"),
    ),
    (
        3,
        "policies",
        include_str!("migrations/postgres/0003_policies.sql"),
    ),
    (
        4,
        "content of checkpoints",
        include_str!("migrations/postgres/0004_content_of_checkpoints.sql"),
    ),
    (
        5,
        "content of files",
        include_str!("migrations/postgres/0005_content_of_files.sql"),
    ),
    (
        6,
        "stated weights",
        include_str!("migrations/postgres/0006_stated_weights.sql"),
    ),
];

pub(super) async fn open(url: &str) -> Result<PgPool, StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::Address);
    }
    // the parser's own words may quote the address
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| StoreError::Address)?
        .application_name("steersman");
    // a pool would try again until it can only say that its time is up
    PgConnection::connect_with(&options)
        .and_then(Connection::close)
        .await
        .map_err(StoreError::Connect)?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect_with(options)
        .await
        .map_err(StoreError::Connect)?;
    // holds an advisory lock meanwhile, so that servers may start together
    migrator(&STEPS)
        .run(&pool)
        .await
        .map_err(StoreError::Migrate)?;
    Ok(pool)
}
