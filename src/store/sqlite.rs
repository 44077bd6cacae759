//! SQLite, one file in the data folder.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::StoreError;
use super::dialect::migrator;

const FILE: &str = "steersman.db";
const LOCK: &str = "migrate.lock";
/// How long a write waits for another process's write.
const PATIENCE: Duration = Duration::from_secs(10);
/// SQLite writes one at a time; more connections only let reads pass by.
const CONNECTIONS: u32 = 4;

const STEPS: [(i64, &str, &str); 6] = [
    (
        1,
        "profiles and keys",
        include_str!("migrations/sqlite/0001_profiles_and_keys.sql"),
    ),
    (
        2,
        "jobs and files",
        include_str!("migrations/sqlite/0002_jobs_and_files.sql"),
    ),
    (
        3,
        "policies",
        include_str!("migrations/sqlite/0003_policies.sql"),
    ),
    (
        4,
        "content of checkpoints",
        include_str!("migrations/sqlite/0004_content_of_checkpoints.sql"),
    ),
    (
        5,
        "content of files",
        include_str!("migrations/sqlite/0005_content_of_files.sql"),
    ),
    (
        6,
        "stated weights",
        include_str!("migrations/sqlite/0006_stated_weights.sql"),
    ),
];

/// Whether a folder holds a database.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

pub(super) async fn open(dir: &Path) -> Result<SqlitePool, StoreError> {
    let in_folder = |source| StoreError::Folder {
        path: dir.to_owned(),
        source,
    };
    // for its owner alone: who uses the server is nobody else's business
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(in_folder)?;
    let path = dir.join(FILE);
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // in WAL mode the default would lose the last commits with the power
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .foreign_keys(true);
    // SQLite has no lock of its own for two processes that both find the tables missing
    let lock = File::create(dir.join(LOCK)).map_err(in_folder)?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(in_folder)?;
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::File { path, source })?;
    migrator(&STEPS)
        .run(&pool)
        .await
        .map_err(StoreError::Migrate)?;
    drop(lock);
    Ok(pool)
}
