//! All SQL, in two dialects: SQLite in the data folder, PostgreSQL by its address.
//!
//! Rows in, rows out: what weights, scopes and scores mean is the service's. A method that
//! returned has its write on disk (SQLite's log and PostgreSQL's are synced at each commit), so
//! what a client was told survives `kill -9`. Both dialects read the same statements; only how a
//! database is opened and its tables are made differs.

mod comparisons;
mod dialect;
mod error;
mod files;
mod job_turns;
mod job_writes;
mod jobs;
mod keys;
mod policies;
mod postgres;
mod profiles;
mod sqlite;

use std::path::PathBuf;

use dialect::Db;

pub use comparisons::ComparisonRow;
pub use error::StoreError;
pub use files::FileRow;
pub use job_turns::{JobTurn, Turned};
pub use job_writes::{CheckpointRow, JobChange, JobFence, JobWritten};
pub use jobs::{EventDraft, EventRow, JobDraft, JobRow};
pub use keys::KeyRow;
pub use policies::{PolicyChange, PolicyCheckpointRow, PolicyHistoryRow, PolicyRow};
pub use profiles::{Expected, ProfileDraft, ProfileRow, Written};

/// Where the state lies.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The folder of the SQLite file; made where it is missing. Unused with a database's address.
    pub data_dir: PathBuf,
    /// `postgres://USER:PASSWORD@HOST/DATABASE`; `None` is SQLite.
    pub database_url: Option<String>,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("steersman-data"),
            database_url: None,
        }
    }
}

impl StoreSettings {
    /// Whether there is a state to open, short of asking a database server: opening makes an empty
    /// one where there is none.
    pub fn is_there(&self) -> bool {
        self.database_url.is_some() || sqlite::is_there(&self.data_dir)
    }
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // an address may hold a password
        let address = self.database_url.as_ref().map(|_| "postgres://…");
        f.debug_struct("StoreSettings")
            .field("data_dir", &self.data_dir)
            .field("database_url", &address)
            .finish()
    }
}

/// The state that outlives a process. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Store {
    db: Db,
}

impl Store {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// It cannot be reached, or its tables were made by a newer version.
    pub async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        let db = match &settings.database_url {
            None => Db::Sqlite(sqlite::open(&settings.data_dir).await?),
            Some(url) => Db::Postgres(postgres::open(url).await?),
        };
        Ok(Self { db })
    }

    /// Closes every connection, after what they are doing.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite(pool) => pool.close().await,
            Db::Postgres(pool) => pool.close().await,
        }
    }
}
