//! Services in tests: real ones, on real sockets and databases, and each test once on every database.
//!
//! A test is an `async fn(Store)`, and a file of tests is a program whose `main` is made by [`tests!`](crate::tests):
//! each test becomes `<name>::on_sqlite` and `<name>::on_postgres`. For the latter, `TOLLGATE_TEST_POSTGRES` is the
//! URL of a PostgreSQL whose user may create databases; each test makes one of its own and drops it. Without the
//! variable they are reported as ignored.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use libtest_mimic::{Arguments, Completion, Trial};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use crate::{Environment, Server, Service, StartError};

/// The variable that names a PostgreSQL for tests.
const VARIABLE: &str = "TOLLGATE_TEST_POSTGRES";

/// The storage of one test: a folder of SQLite files or a database of a PostgreSQL, empty at first.
#[derive(Debug, Clone)]
pub struct Store(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Sqlite(TempDir),
    Postgres {
        admin: String,
        name: String,
        url: String,
    },
}

impl Store {
    fn sqlite() -> Self {
        Self(Arc::new(Kind::Sqlite(
            tempfile::tempdir().expect("a temporary folder"),
        )))
    }

    async fn postgres(admin: &str) -> Self {
        let since_epoch = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("a clock after 1970");
        let name = format!(
            "tollgate_test_{}_{}",
            std::process::id(),
            since_epoch.as_nanos()
        );
        let mut url = Url::parse(admin).unwrap_or_else(|error| panic!("{VARIABLE}: {error}"));
        url.set_path(&name);
        // The language makes sorting differ from SQLite's, were it not settled by the schemas.
        administer(
            admin,
            format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
            ),
        )
        .await;
        Self(Arc::new(Kind::Postgres {
            admin: admin.to_owned(),
            name,
            url: url.into(),
        }))
    }

    /// The `DATABASE_URL` of this service.
    pub fn url(&self, service: &str) -> String {
        match &*self.0 {
            Kind::Sqlite(directory) => {
                format!("sqlite://{}/{service}.db", directory.path().display())
            }
            Kind::Postgres { url, .. } => url.clone(),
        }
    }

    /// The folder of the SQLite files, if this is one.
    pub fn directory(&self) -> Option<&std::path::Path> {
        match &*self.0 {
            Kind::Sqlite(directory) => Some(directory.path()),
            Kind::Postgres { .. } => None,
        }
    }

    /// Ends with all that the test made, after whatever still used it.
    async fn remove(self) {
        if let Kind::Postgres { admin, name, .. } = &*self.0 {
            administer(admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn administer(url: &str, sql: String) {
    let run = async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await
    };
    run.await
        .unwrap_or_else(|error: sqlx::Error| panic!("{VARIABLE}: {error}"));
}

/// A test; see [`tests!`](crate::tests).
pub type Test = fn(Store) -> Pin<Box<dyn Future<Output = ()>>>;

/// The tests of a file; see [`tests!`](crate::tests).
#[derive(Debug, Default)]
pub struct Tests(Vec<Trial>);

impl Tests {
    /// Adds a test that runs on both databases.
    pub fn on_each_database(&mut self, name: &str, test: Test) {
        self.on_sqlite(name, test);
        self.on_postgres(name, test);
    }

    /// Adds a test of what only SQLite does.
    pub fn on_sqlite(&mut self, name: &str, test: Test) {
        let run = move || {
            let runtime = Runtime::new().expect("a runtime");
            run_test(&runtime, test, Store::sqlite());
            Ok(())
        };
        self.0.push(Trial::test(format!("{name}::on_sqlite"), run));
    }

    /// Adds a test of what only PostgreSQL does.
    pub fn on_postgres(&mut self, name: &str, test: Test) {
        let run = move || {
            let Some(admin) = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty()) else {
                return Ok(Completion::ignored_with(
                    "without TOLLGATE_TEST_POSTGRES; run `.ci/postgres cargo test`",
                ));
            };
            let runtime = Runtime::new().expect("a runtime");
            let store = runtime.block_on(Store::postgres(&admin));
            run_test(&runtime, test, store);
            Ok(Completion::Completed)
        };
        self.0
            .push(Trial::ignorable_test(format!("{name}::on_postgres"), run));
    }

    /// Runs the tests that the arguments of the process ask for.
    pub fn run(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.0).exit_code()
    }
}

fn run_test(runtime: &Runtime, test: Test, store: Store) {
    let result = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(store.clone()))));
    runtime.block_on(store.remove());
    if let Err(panic) = result {
        panic::resume_unwind(panic);
    }
}

/// Makes the `main` of a file of tests. Each is an `async fn(Store)` and listed by what it runs on; one that is not
/// listed is reported by the compiler as never used.
///
/// ```text
/// service_common::tests! {
///     on_each_database: users_are_found, a_user_is_created_once;
///     on_sqlite: nothing_is_left_beside_the_file;
/// }
/// ```
#[macro_export]
macro_rules! tests {
    ($($database:ident: $($test:ident),+ $(,)?;)+) => {
        fn main() -> ::std::process::ExitCode {
            let mut tests = $crate::testing::Tests::default();
            $($(tests.$database(stringify!($test), |store| ::std::boxed::Box::pin($test(store)));)+)+
            tests.run()
        }
    };
}

/// A service that runs in the test's process until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens: `http://127.0.0.1:<port>`.
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), StartError>>,
    _store: Store,
}

impl Running {
    /// Starts a service on this storage, with these environment variables beside those that a test needs.
    pub async fn start(store: &Store, service: &Service, variables: &[(&str, &str)]) -> Self {
        Self::try_start(store, service, variables)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", service.name))
    }

    /// Starts a service that has nothing to do with databases, on an SQLite file of its own.
    pub async fn alone(service: &Service, variables: &[(&str, &str)]) -> Self {
        Self::start(&Store::sqlite(), service, variables).await
    }

    /// Starts a service, unless it refuses to.
    pub async fn try_start(
        store: &Store,
        service: &Service,
        variables: &[(&str, &str)],
    ) -> Result<Self, StartError> {
        let database = store.url(service.name);
        let environment: Environment = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("DATABASE_URL", &database),
        ]
        .iter()
        .chain(variables)
        .copied()
        .collect();
        let server = Server::start(service, &environment).await?;
        let url = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.run(async {
            // Dropping the sender stops the service too.
            let _ = stopped.await;
        }));
        Ok(Self {
            url,
            stop: Some(stop),
            served,
            _store: store.clone(),
        })
    }

    /// Tells the service to stop, as a signal would.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until the service, told to stop, has ended.
    pub async fn ended(mut self) -> Result<(), StartError> {
        self.stop();
        self.served.await.expect("the service does not panic")
    }
}

/// A client that speaks to the services themselves, whatever proxy the environment names.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client without TLS")
}

/// Asks again and again until the answer is the expected one; fails after a time that no machine needs.
pub async fn eventually<T, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    expected: impl Fn(&T) -> bool,
) -> T {
    let asking = async {
        loop {
            let answer = ask().await;
            if expected(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within 60 seconds"))
}
