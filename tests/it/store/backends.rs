//! A fresh database of each kind, gone after the test.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use steersman::store::StoreSettings;
use tempfile::TempDir;

/// One fresh database.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) settings: StoreSettings,
    /// The SQLite file's folder.
    _dir: TempDir,
    /// The PostgreSQL server and the database on it.
    made: Option<(String, String)>,
}

/// SQLite always; PostgreSQL where `STEERSMAN_TEST_POSTGRES` names a server on which databases
/// may be made.
pub(crate) async fn backends() -> Vec<Backend> {
    let mut found = vec![sqlite()];
    if let Ok(server) = std::env::var("STEERSMAN_TEST_POSTGRES") {
        found.push(postgres(&server).await);
    }
    found
}

fn sqlite() -> Backend {
    let dir = tempfile::tempdir().unwrap();
    Backend {
        name: "sqlite",
        settings: StoreSettings {
            // a folder that is yet to be made
            data_dir: dir.path().join("state/here"),
            database_url: None,
        },
        _dir: dir,
        made: None,
    }
}

async fn postgres(server: &str) -> Backend {
    let name = format!("steersman_{}", uuid::Uuid::new_v4().simple());
    run(server, &format!("CREATE DATABASE {name}")).await;
    let (host, _) = server.rsplit_once('/').unwrap();
    Backend {
        name: "postgres",
        settings: StoreSettings {
            database_url: Some(format!("{host}/{name}")),
            ..StoreSettings::default()
        },
        _dir: tempfile::tempdir().unwrap(),
        made: Some((server.to_owned(), name)),
    }
}

impl Backend {
    /// Says on which database a test that fails was.
    #[expect(clippy::print_stdout, reason = "only a failing test's output is shown")]
    pub(crate) fn announce(&self) {
        println!("on {}", self.name);
    }

    /// Removes what lies on a server.
    pub(crate) async fn end(self) {
        if let Some((server, name)) = &self.made {
            run(server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn run(server: &str, statement: &str) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    // the names are our own
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}
