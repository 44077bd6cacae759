//! What SQLite and PostgreSQL have in common: the statements, and the steps that make the tables.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{PgPool, SqlSafeStr, SqlitePool};

/// Connections to one of the two databases.
#[derive(Clone)]
pub(super) enum Db {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Runs the same expression on whichever pool there is. Statements number their parameters (`$1`),
/// which both databases read; rows are fetched to their end, which in SQLite is what commits.
macro_rules! on_pool {
    ($store:expr, $pool:ident => $body:expr) => {
        match &$store.db {
            $crate::store::dialect::Db::Sqlite($pool) => $body,
            $crate::store::dialect::Db::Postgres($pool) => $body,
        }
    };
}
pub(super) use on_pool;

/// Steps in their order; a step that was released is never edited, a new one follows it.
pub(super) fn migrator(steps: &[(i64, &'static str, &'static str)]) -> Migrator {
    let steps = steps.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(steps.collect())
}
