//! Storage: opened, migrated and seeded in one step that is safe beside any number of other starting processes.
//!
//! All replicas of a service share one database: PostgreSQL, or on a developer's machine one SQLite file that several
//! processes find missing at the same moment. Queries go through sqlx's `Any`, so that the URL alone decides which
//! database it is; they use only what both share: `$1` parameters, BIGINT and TEXT columns, `ON CONFLICT`,
//! `RETURNING`. Where the two would differ in what they answer, it is settled here, see [`Migration::sql`].
//!
//! In PostgreSQL each service has a schema of its own, named after it. So one URL serves all of them (one Secret, one
//! option of a tool), and neither their tables nor the records of their migrations meet.

use std::{
    fmt,
    fs::{File, TryLockError},
    future::Future,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use reqwest::Url;
use sqlx::{
    AnyConnection, AssertSqlSafe, Connection, Executor, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{MigrateError, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgSslMode},
    sqlite::SqliteConnectOptions,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{ConfigError, Environment, Problem};

/// The connections to a service's database.
pub type Database = sqlx::AnyPool;

/// How long a start waits for a PostgreSQL that cannot be reached. Less than what the manifests' startup probes give
/// a process to answer: a line in the log says more than a container that was killed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One step of a service's schema or seed: a name and portable SQL. Its place in the service's list is its version,
/// so that list is only ever added to.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it does, in a word or two.
    pub name: &'static str,
    /// The statements, run in one transaction.
    ///
    /// Text that rows are sorted by is declared as `TEXT COLLATE "C"`: PostgreSQL would sort it by the language the
    /// database was made with. SQLite always compares bytes and knows no such name, so the words are left out there.
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
    #[error("DATABASE_URL: the database cannot be used: {}", reason(.0))]
    Unusable(#[from] sqlx::Error),
    /// Its schema cannot be brought up to date.
    #[error(
        "DATABASE_URL: the schema cannot be brought up to date: {}",
        match .0 {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => reason(error),
            other => other.to_string(),
        }
    )]
    Migration(#[from] MigrateError),
}

/// What the database itself said; PostgreSQL's errors name a line of its source when they are printed.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// Where a service's database is, from `DATABASE_URL`.
pub(crate) struct Location {
    kind: Kind,
    /// May hold a password.
    url: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Sqlite { file: PathBuf },
    Postgres { schema: String },
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Location")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Location {
    pub(crate) fn from_environment(
        environment: &Environment,
        service: &str,
    ) -> Result<Self, ConfigError> {
        let default = format!("sqlite:///data/{service}.db");
        let value = match environment.get("DATABASE_URL") {
            Ok(value) => value.unwrap_or(&default),
            Err(error) => {
                let value = "…".to_owned();
                return Err(ConfigError { value, ..error });
            }
        };
        match value.split_once("://") {
            Some(("sqlite", path)) => Self::sqlite(value, path),
            Some(("postgres" | "postgresql", _)) => return Self::postgres(value, service),
            _ => None,
        }
        .ok_or_else(|| ConfigError {
            variable: "DATABASE_URL".to_owned(),
            value: shown(value),
            expected: "the URL of an SQLite file or of a PostgreSQL database",
            instead: format!("{default} or postgres://user:password@host:5432/shop"),
        })
    }

    fn sqlite(url: &str, path: &str) -> Option<Self> {
        // One file for all replicas: not in memory, and with the modes that we choose.
        if matches!(path, "" | ":memory:") || path.contains('?') {
            return None;
        }
        let options = SqliteConnectOptions::from_str(url).ok()?;
        Some(Self {
            kind: Kind::Sqlite {
                file: options.get_filename().to_owned(),
            },
            url: format!("{url}?mode=rwc"),
        })
    }

    fn postgres(value: &str, service: &str) -> Result<Self, ConfigError> {
        const FORM: &str = "postgres://user:password@host:5432/shop";
        let wrong = |expected, instead: &str| ConfigError {
            variable: "DATABASE_URL".to_owned(),
            value: shown(value),
            expected,
            instead: instead.to_owned(),
        };
        let not_a_url = || {
            wrong(
                "the URL of a PostgreSQL database",
                &format!("{FORM}, with signs other than letters and digits in the password as %XX"),
            )
        };
        let url = Url::parse(value).map_err(|_| not_a_url())?;
        // Others would be ignored, with a warning that shows their value.
        let known = |key: &str| {
            ["host", "port", "dbname", "user", "password"].contains(&key)
                || ["application_name", "options", "sslmode"].contains(&key)
        };
        if !url.query_pairs().all(|(key, _)| known(&key)) {
            return Err(wrong(
                "a URL with known parameters alone",
                "none or some of host, port, dbname, user, password, application_name, options, sslmode after the ?",
            ));
        }
        let options = PgConnectOptions::from_str(value).map_err(|_| not_a_url())?;
        if !matches!(
            options.get_ssl_mode(),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
        ) {
            return Err(wrong(
                "a URL without TLS, which is the sidecars' work",
                "sslmode=disable",
            ));
        }
        Ok(Self {
            kind: Kind::Postgres {
                schema: service.replace('-', "_"),
            },
            url: value.to_owned(),
        })
    }

    /// Opens the database; on the first start also creates the service's tables and first rows.
    pub(crate) async fn open(&self, migrations: &[Migration]) -> Result<Database, DatabaseError> {
        sqlx::any::install_default_drivers();
        match &self.kind {
            Kind::Sqlite { file } => self.prepare_sqlite(file, migrations).await?,
            Kind::Postgres { schema } => {
                self.prepare_postgres(schema, migrations, PATIENCE).await?;
            }
        }
        // A request waits this long for a connection, be it a free one or a new one.
        let options = AnyPoolOptions::new().acquire_timeout(Duration::from_secs(3));
        let options = match &self.kind {
            Kind::Sqlite { .. } => options.max_connections(8).after_connect(|connection, _| {
                Box::pin(async move {
                    // Another process may be writing: wait for it.
                    connection.execute("PRAGMA busy_timeout = 5000").await?;
                    // With a write-ahead log this loses no consistency, and saves a sync of the disk a commit.
                    connection.execute("PRAGMA synchronous = NORMAL").await?;
                    Ok(())
                })
            }),
            Kind::Postgres { schema } => {
                let schema = schema.clone();
                options
                    // PostgreSQL admits 100 unless told otherwise: enough for nineteen replicas of all services.
                    .max_connections(5)
                    // What a burst has opened goes back to the others.
                    .idle_timeout(Duration::from_secs(60))
                    .after_connect(move |connection, _| {
                        let schema = schema.clone();
                        Box::pin(async move {
                            use_schema(connection, schema).await?;
                            // As long as SQLite waits above. No statement of a service takes a tenth of it, unless
                            // it waits for a lock.
                            connection.execute("SET statement_timeout = '5s'").await?;
                            Ok(())
                        })
                    })
            }
        };
        Ok(options.connect_lazy(&self.url)?)
    }

    async fn prepare_sqlite(
        &self,
        file: &Path,
        migrations: &[Migration],
    ) -> Result<(), DatabaseError> {
        let lock = exclusive(file).await?;
        let mut connection = AnyConnection::connect(&self.url).await?;
        // Readers go on while one process writes. The mode stays with the file; changing it is a step that SQLite
        // does not wait for, another reason for the lock.
        connection.execute("PRAGMA journal_mode = WAL").await?;
        migrate(&migrator(&self.kind, migrations), &mut connection).await?;
        connection.close().await?;
        drop(lock);
        Ok(())
    }

    async fn prepare_postgres(
        &self,
        schema: &str,
        migrations: &[Migration],
        patience: Duration,
    ) -> Result<(), DatabaseError> {
        let mut connection = once_reachable(patience, || AnyConnection::connect(&self.url)).await?;
        let mut migrator = migrator(&self.kind, migrations);
        // Creating a schema needs a right, even if the schema is there already; a service can do without that right
        // when somebody who has it created the schema.
        let (exists,): (bool,) = sqlx::query_as("SELECT to_regnamespace($1) IS NOT NULL")
            .bind(schema)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            migrator.create_schema(schema.to_owned());
        }
        use_schema(&mut connection, schema.to_owned()).await?;
        // Holds an advisory lock of the database meanwhile, which PostgreSQL drops with the connection.
        migrate(&migrator, &mut connection).await?;
        connection.close().await?;
        Ok(())
    }
}

/// Brings the schema up to date. `Migrator::run` does the same, but makes a future of which the compiler cannot see
/// that it may move between threads.
async fn migrate(migrator: &Migrator, connection: &mut AnyConnection) -> Result<(), MigrateError> {
    let (all, skip) = (None, false);
    migrator.run_direct(all, connection, skip).await
}

/// A URL as far as it can be shown: all but SQLite's may hold a password, and so may what is no URL at all.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        _ if url.starts_with("sqlite:") || url.starts_with('/') => url.to_owned(),
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!("{scheme}://…")
        }
        _ => "…".to_owned(),
    }
}

/// Makes names of tables mean those of this schema, which need not be there yet.
async fn use_schema(connection: &mut AnyConnection, schema: String) -> sqlx::Result<()> {
    sqlx::query("SELECT set_config('search_path', $1, false)")
        .bind(schema)
        .execute(connection)
        .await?;
    Ok(())
}

/// Connects, again and again while the reason is one that passes: services, their sidecars and their database all
/// start at the same time.
async fn once_reachable<T, F: Future<Output = sqlx::Result<T>>>(
    patience: Duration,
    connect: impl Fn() -> F,
) -> sqlx::Result<T> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match timeout_at(deadline, connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if passes(&error) => error,
            Ok(Err(error)) => return Err(error),
            Err(_) => io::Error::from(io::ErrorKind::TimedOut).into(),
        };
        if Instant::now() + pause >= deadline {
            return Err(error);
        }
        tracing::warn!(%error, "the database cannot be reached yet, trying again");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Whether the same may succeed a little later, without anybody changing anything here.
pub(crate) fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // SQLITE_BUSY: another process kept the file locked for longer than we wait.
            code == "5"
                // PostgreSQL's SQLSTATEs, by class: connection exceptions, transactions undone for another's sake,
                // insufficient resources (also connections), an operator's intervention (also a shutdown and our
                // own timeout), and a server that is a standby at the moment.
                || code.len() == 5
                    && (["08", "40", "53", "57"].contains(&&code[..2]) || code == "25006")
        }),
        _ => false,
    }
}

fn migrator(kind: &Kind, migrations: &[Migration]) -> Migrator {
    let migrations = (1..)
        .zip(migrations)
        .map(|(version, migration)| {
            let sql = match kind {
                Kind::Sqlite { .. } => migration.sql.replace(" COLLATE \"C\"", ""),
                Kind::Postgres { .. } => migration.sql.to_owned(),
            };
            sqlx::migrate::Migration::new(
                version,
                migration.name.into(),
                MigrationType::Simple,
                // Safe: constants of the service, without input of anybody.
                AssertSqlSafe(sql).into_sql_str(),
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
        Ok(Ok(_)) => Ok(()),
        // Whatever the reason, this replica is to get no requests while it lasts.
        Ok(Err(error)) => Err(Problem::database_away(&error)),
        Err(_) => Err(Problem::database_away(&sqlx::Error::PoolTimedOut)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn location(url: &str) -> Result<Location, String> {
        let environment = [("DATABASE_URL", url)].into_iter().collect();
        Location::from_environment(&environment, "cart-service").map_err(|error| error.to_string())
    }

    #[test]
    fn each_service_has_a_file_or_a_schema_of_its_own() {
        let kind = |url| location(url).unwrap().kind;
        let file = PathBuf::from("/data/cart-service.db");
        assert_eq!(kind(""), Kind::Sqlite { file });
        let file = PathBuf::from("/tmp/x.db");
        assert_eq!(kind("sqlite:///tmp/x.db"), Kind::Sqlite { file });
        for url in [
            "postgres://postgres/shop",
            "postgresql://user:p%40ss@postgres:5433/shop?sslmode=disable&application_name=cart",
            "postgres:///shop?host=/run/postgresql",
        ] {
            let schema = "cart_service".to_owned();
            assert_eq!(kind(url), Kind::Postgres { schema }, "{url}");
        }
    }

    #[test]
    fn an_unusable_url_is_refused_without_showing_a_password() {
        let neither = "the URL of an SQLite file or of a PostgreSQL database, \
                       write sqlite:///data/cart-service.db or postgres://user:password@host:5432/shop";
        let postgres = "the URL of a PostgreSQL database, write postgres://user:password@host:5432/shop, \
                        with signs other than letters and digits in the password as %XX";
        let parameters = "a URL with known parameters alone, write none or some of host, port, dbname, user, \
                          password, application_name, options, sslmode after the ?";
        let tls = "a URL without TLS, which is the sidecars' work, write sslmode=disable";
        for (url, shown, expected) in [
            ("mysql://user:secret@db/shop", "mysql://…", neither),
            ("postgres:user:secret@db/shop", "…", neither),
            ("user:secret://@db/shop", "…", neither),
            ("host=db password=secret", "…", neither),
            ("sqlite::memory:", "sqlite::memory:", neither),
            ("sqlite://:memory:", "sqlite://:memory:", neither),
            ("sqlite:///x.db?mode=ro", "sqlite:///x.db?mode=ro", neither),
            ("/data/x.db", "/data/x.db", neither),
            ("postgres://user:sec/ret@db/shop", "postgres://…", postgres),
            ("postgres://db:port/shop", "postgres://…", postgres),
            ("postgres://db/?sslmode=never", "postgres://…", postgres),
            ("postgresql://db/?pasword=x", "postgresql://…", parameters),
            ("postgres://db/?sslmode=require", "postgres://…", tls),
            ("postgres://db/?sslmode=verify-full", "postgres://…", tls),
        ] {
            assert_eq!(
                location(url).unwrap_err(),
                format!("DATABASE_URL: {shown:?} is not {expected}")
            );
        }
    }

    #[test]
    fn a_location_and_an_environment_are_printed_without_a_password() {
        let environment: Environment = [("DATABASE_URL", "postgres://user:secret@db/shop")]
            .into_iter()
            .collect();
        let location = Location::from_environment(&environment, "cart-service").unwrap();
        assert_eq!(
            format!("{location:?} {environment:?}"),
            "Location { kind: Postgres { schema: \"cart_service\" }, .. } {\"DATABASE_URL\"}"
        );
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

    /// Tries to connect with what each attempt comes to; the last of them is repeated. Returns how it ended, the
    /// number of attempts and the time it took. No time passes but that which is waited for.
    async fn attempts(results: &[fn() -> sqlx::Result<()>]) -> (sqlx::Result<()>, usize, Duration) {
        let attempts = Cell::new(0);
        let begin = Instant::now();
        let result = once_reachable(Duration::from_secs(20), || {
            let attempt = attempts.get();
            attempts.set(attempt + 1);
            let result = results[attempt.min(results.len() - 1)];
            async move { result() }
        })
        .await;
        (result, attempts.get(), begin.elapsed())
    }

    fn refused() -> sqlx::Result<()> {
        Err(io::Error::from(io::ErrorKind::ConnectionRefused).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_a_database_that_comes_later() {
        let (result, attempts, _) = attempts(&[refused, refused, refused, || Ok(())]).await;
        result.unwrap();
        assert_eq!(attempts, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_does_not_wait_for_ever_or_for_what_waiting_does_not_mend() {
        let (result, attempts_made, time) = attempts(&[refused]).await;
        assert!(matches!(result, Err(sqlx::Error::Io(_))));
        assert!(attempts_made > 5 && time < Duration::from_secs(20));

        let wrong = || Err(sqlx::Error::Protocol("not PostgreSQL".to_owned()));
        let (result, attempts, time) = attempts(&[refused, wrong]).await;
        assert!(matches!(result, Err(sqlx::Error::Protocol(_))));
        assert_eq!((attempts, time), (2, Duration::from_millis(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up_too() {
        let begin = Instant::now();
        let silent = std::future::pending::<sqlx::Result<()>>;
        let error = once_reachable(Duration::from_secs(20), silent).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "error communicating with database: timed out"
        );
        assert_eq!(begin.elapsed(), Duration::from_secs(20));
    }
}
