//! Why the store cannot be opened, read or written.

use std::path::PathBuf;

/// A store that cannot be used. No text of it holds a database's address or password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data folder cannot be made, locked or written to.
    #[error("the data folder {} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The SQLite file cannot be opened.
    #[error("the database {} cannot be opened", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: sqlx::Error,
    },
    /// The database's address is of another form.
    #[error("the database address must be postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Address,
    /// PostgreSQL cannot be reached or refuses the login.
    #[error("the PostgreSQL database cannot be reached")]
    Connect(#[source] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error("the database's tables cannot be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the database did not answer as it should")]
    Query(#[from] sqlx::Error),
    /// A row holds what this program never writes.
    #[error("the database holds a row that cannot be read: {0}")]
    Row(String),
}
