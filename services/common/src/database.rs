//! Storage: opened, migrated and seeded in one step that is safe beside any number of other starting processes.
//!
//! All replicas of a service share one database, and on a developer's machine that is one SQLite file that several
//! processes find missing at the same moment. Queries go through sqlx's `Any`, so that the URL alone decides which
//! database it is; they use only what SQLite and PostgreSQL share: `$1` parameters, BIGINT and TEXT columns,
//! `ON CONFLICT`, `RETURNING`.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    Executor, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{MigrateError, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};

use crate::{ConfigError, Environment, Problem};

/// The connections to a service's database.
pub type Database = sqlx::AnyPool;

/// One step of a service's schema or seed: a name and portable SQL. Its place in the service's list is its version,
/// so that list is only ever added to.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it does, in a word or two.
    pub name: &'static str,
    /// The statements, run in one transaction.
    pub sql: &'static str,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The folder of the database cannot be written to.
    #[error(
        "DATABASE_URL: {} cannot be created: {source}; name a file in a folder that exists and can be written to",
        path.display()
    )]
    File {
        /// The file that could not be created.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was found but cannot be used.
    #[error("DATABASE_URL: the database cannot be used: {0}")]
    Unusable(#[from] sqlx::Error),
    /// Its schema cannot be brought up to date.
    #[error("DATABASE_URL: the schema cannot be brought up to date: {0}")]
    Migration(#[from] MigrateError),
}

/// Where a service's database is, from `DATABASE_URL`.
#[derive(Debug)]
pub(crate) struct Location {
    file: PathBuf,
    url: String,
}

impl Location {
    pub(crate) fn from_environment(
        environment: &Environment,
        service: &str,
    ) -> Result<Self, ConfigError> {
        let default = format!("sqlite:///data/{service}.db");
        let value = environment.get("DATABASE_URL")?.unwrap_or(&default);
        let wrong = || ConfigError {
            variable: "DATABASE_URL".to_owned(),
            // Of other databases' URLs only the scheme is shown: the rest may hold a password.
            value: match value.split_once("://") {
                Some((scheme, _)) if scheme != "sqlite" => format!("{scheme}://…"),
                _ => value.to_owned(),
            },
            expected: "the URL of an SQLite file",
            instead: default.clone(),
        };
        // One file for all replicas: not in memory, and with the modes that we choose.
        match value.strip_prefix("sqlite://") {
            None | Some("" | ":memory:") => return Err(wrong()),
            Some(path) if path.contains('?') => return Err(wrong()),
            Some(_) => {}
        }
        let options = SqliteConnectOptions::from_str(value).map_err(|_| wrong())?;
        Ok(Self {
            file: options.get_filename().to_owned(),
            url: format!("{value}?mode=rwc"),
        })
    }

    /// Opens the database; on the first start also creates it, with the service's tables and first rows.
    pub(crate) async fn open(&self, migrations: &[Migration]) -> Result<Database, DatabaseError> {
        sqlx::any::install_default_drivers();
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(3))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // Another process may be writing: wait for it.
                    connection.execute("PRAGMA busy_timeout = 5000").await?;
                    // With a write-ahead log this loses no consistency, and saves a sync of the disk a commit.
                    connection.execute("PRAGMA synchronous = NORMAL").await?;
                    Ok(())
                })
            })
            .connect_lazy(&self.url)?;

        let lock = exclusive(&self.file).await?;
        // Readers go on while one process writes. The mode stays with the file; changing it is a step that SQLite
        // does not wait for, another reason for the lock.
        pool.execute("PRAGMA journal_mode = WAL").await?;
        migrator(migrations).run(&pool).await?;
        drop(lock);
        Ok(pool)
    }
}

fn migrator(migrations: &[Migration]) -> Migrator {
    let migrations = (1..)
        .zip(migrations)
        .map(|(version, migration)| {
            sqlx::migrate::Migration::new(
                version,
                migration.name.into(),
                MigrationType::Simple,
                migration.sql.into_sql_str(),
                false,
            )
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    // During a canary, the older version may start after the newer one has migrated.
    migrator.set_ignore_missing(true);
    migrator
}

/// Waits until no other process prepares this database. The system drops the lock with the file, however we end.
async fn exclusive(database: &Path) -> Result<File, DatabaseError> {
    let mut path = database.as_os_str().to_owned();
    // A file beside the database: SQLite's own locks are on the database itself.
    path.push(".lock");
    let path = PathBuf::from(path);
    let locked = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let file = File::create(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tracing::info!(lock = %path.display(), "another process prepares the database, waiting for it");
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(file)
        }
    });
    locked
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| DatabaseError::File { path, source })
}

/// Whether the database answers, and soon. It is asked for rows of a table: SQLite answers `SELECT 1` without
/// looking at its file.
pub(crate) async fn ready(database: &Database) -> Result<(), Problem> {
    let query = sqlx::query("SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 1")
        .fetch_optional(database);
    match tokio::time::timeout(Duration::from_secs(1), query).await {
        Ok(answer) => {
            answer?;
            Ok(())
        }
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str) -> Result<Location, String> {
        let environment = [("DATABASE_URL", url)].into_iter().collect();
        Location::from_environment(&environment, "cart-service").map_err(|error| error.to_string())
    }

    #[test]
    fn each_service_has_a_file_of_its_own_by_default() {
        let location = location("").unwrap();
        assert_eq!(location.file, Path::new("/data/cart-service.db"));
    }

    #[test]
    fn an_unusable_url_is_refused_without_showing_a_password() {
        for (url, shown) in [
            ("postgres://user:secret@db/shop", "postgres://…"),
            ("sqlite::memory:", "sqlite::memory:"),
            ("sqlite://:memory:", "sqlite://:memory:"),
            ("sqlite:///x.db?mode=ro", "sqlite:///x.db?mode=ro"),
            ("/data/x.db", "/data/x.db"),
        ] {
            assert_eq!(
                location(url).unwrap_err(),
                format!(
                    "DATABASE_URL: {shown:?} is not the URL of an SQLite file, write sqlite:///data/cart-service.db"
                )
            );
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let error = location("sqlite:///nowhere/x.db")
            .unwrap()
            .open(&[])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "DATABASE_URL: /nowhere/x.db.lock cannot be created: No such file or directory (os error 2); \
             name a file in a folder that exists and can be written to"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_that_open_a_new_file_at_once_all_find_it_complete() {
        const MIGRATIONS: &[Migration] = &[
            Migration {
                name: "schema",
                sql: "CREATE TABLE things (id TEXT PRIMARY KEY); CREATE INDEX by_id ON things (id);",
            },
            Migration {
                name: "seed",
                sql: "INSERT INTO things VALUES ('a'), ('b');",
            },
        ];
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/x.db", directory.path().display());
        let opening: Vec<_> = (0..16)
            .map(|_| {
                let location = location(&url).unwrap();
                tokio::spawn(async move {
                    let database = location.open(MIGRATIONS).await.unwrap();
                    ready(&database).await.unwrap();
                    let (things,): (i64,) = sqlx::query_as("SELECT count(*) FROM things")
                        .fetch_one(&database)
                        .await
                        .unwrap();
                    let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode")
                        .fetch_one(&database)
                        .await
                        .unwrap();
                    (things, mode)
                })
            })
            .collect();
        for opened in opening {
            assert_eq!(opened.await.unwrap(), (2, "wal".to_owned()));
        }
    }

    #[tokio::test]
    async fn an_older_version_starts_on_a_newer_schema() {
        let directory = tempfile::tempdir().unwrap();
        let location = location(&format!("sqlite://{}/x.db", directory.path().display())).unwrap();
        let migrations = [
            Migration {
                name: "one",
                sql: "CREATE TABLE one (id TEXT)",
            },
            Migration {
                name: "two",
                sql: "CREATE TABLE two (id TEXT)",
            },
        ];
        location.open(&migrations).await.unwrap();
        location.open(&migrations[..1]).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let location = location(&format!("sqlite://{}/x.db", directory.path().display())).unwrap();
        let database = location.open(&[]).await.unwrap();
        database.close().await;
        assert!(ready(&database).await.is_err());
    }
}
