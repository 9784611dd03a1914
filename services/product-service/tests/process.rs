//! The product service as a process: replicas and versions that share a database, logs, signals and exit codes.

use std::process::{Output, Stdio};

use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use service_common::{
    sqlx::{self, Connection, Executor, PgConnection},
    testing::{Store, client, eventually},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

service_common::tests! {
    on_each_database:
        replicas_of_both_versions_start_at_once_on_a_database_that_is_not_there_yet,
        a_signal_ends_the_process_gracefully,
        log_lines_carry_the_ids_of_trace_and_request;
    on_sqlite:
        a_signal_also_ends_a_process_that_waits_for_another_to_prepare_the_file,
        a_wrong_setting_ends_the_process_with_2_and_a_lost_database_with_1;
    on_postgres:
        a_signal_also_ends_a_process_that_waits_for_another_to_make_the_schema,
        a_password_is_in_no_line_of_the_log;
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_product-service"));
    command
        .env_clear()
        .envs([("HOST", "127.0.0.1"), ("PORT", "0")])
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A process with the rest of its log; the URL is known once it listens.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Process {
    fn spawn(variables: &[(&str, &str)]) -> Self {
        let mut child = command(variables).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            log,
            url: String::new(),
        }
    }

    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut process = Self::spawn(variables);
        let listening = process.logged("listening").await;
        process.url = format!("http://{}", listening["address"].as_str().unwrap());
        process
    }

    /// The next line of the log with this message.
    async fn logged(&mut self, message: &str) -> Value {
        loop {
            let line = self.log.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the log ended without {message:?}"));
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == message {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

async fn replicas_of_both_versions_start_at_once_on_a_database_that_is_not_there_yet(store: Store) {
    for attempt in 0..5 {
        let database = store.url(&format!("products-{attempt}"));
        let start = async |version| {
            Process::start(&[("DATABASE_URL", &database), ("SERVICE_VERSION", version)]).await
        };
        let (a, b, c, d) = tokio::join!(start("v1"), start("v1"), start("v2"), start("v2"));
        for process in [a, b, c, d] {
            let response = client()
                .get(format!("{}/products", process.url))
                .send()
                .await
                .unwrap();
            let products: Value = response.json().await.unwrap();
            assert_eq!(products["products"].as_array().unwrap().len(), 8);
        }
        // Files are new every time, a database of PostgreSQL has to be made so.
        if store.directory().is_none() {
            let mut connection = PgConnection::connect(&database).await.unwrap();
            connection
                .execute("DROP SCHEMA product_service CASCADE")
                .await
                .unwrap();
        }
    }
}

async fn a_signal_ends_the_process_gracefully(store: Store) {
    for signal in [Signal::TERM, Signal::INT] {
        let database = store.url("products");
        let mut process = Process::start(&[("DATABASE_URL", &database)]).await;
        process.signal(signal);
        process.logged("stopped").await;
        assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
        // Nothing is left in a write-ahead log.
        if let Some(directory) = store.directory() {
            let files: Vec<_> = std::fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.ends_with(".lock"))
                .collect();
            assert_eq!(files, ["products.db"]);
        }
    }
}

async fn a_signal_also_ends_a_process_that_waits_for_another_to_prepare_the_file(store: Store) {
    let lock = store.directory().unwrap().join("products.db.lock");
    let lock = std::fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    let mut process = Process::spawn(&[("DATABASE_URL", &store.url("products"))]);
    process
        .logged("another process prepares the database, waiting for it")
        .await;
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
}

async fn a_signal_also_ends_a_process_that_waits_for_another_to_make_the_schema(store: Store) {
    let database = store.url("products");
    let mut other = PgConnection::connect(&database).await.unwrap();
    other
        .execute("BEGIN; CREATE SCHEMA product_service")
        .await
        .unwrap();
    let mut process = Process::spawn(&[("DATABASE_URL", &database)]);
    let waiting = async || {
        let mut connection = PgConnection::connect(&database).await.unwrap();
        let (waiting,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        waiting
    };
    eventually("the process waits", waiting, |waiting| *waiting == 1).await;
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
}

async fn a_password_is_in_no_line_of_the_log(store: Store) {
    let database = store.url("products");
    let password = Url::parse(&database).unwrap();
    let password = password.password().expect("a URL with a password");
    for (database, code) in [
        (database.clone(), 0),
        (format!("{database}-that-is-not-there"), 1),
        (format!("{database}?passwort={password}"), 2),
        (format!("{database}?sslmode=require"), 2),
        (database.replace("postgres://", "postgres:/"), 2),
        (database.replace("postgres://", "mysql://"), 2),
    ] {
        let mut child = command(&[("DATABASE_URL", &database), ("RUST_LOG", "trace")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        let mut log = String::new();
        while let Some(line) = stdout.next_line().await.unwrap() {
            if line.contains("\"listening\"") {
                kill_process(pid, Signal::TERM).unwrap();
            }
            log.push_str(&line);
        }
        let output = child.wait_with_output().await.unwrap();
        log.push_str(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{log}");
        assert!(!log.contains(password), "{log}");
    }
}

async fn log_lines_carry_the_ids_of_trace_and_request(store: Store) {
    let mut process = Process::start(&[
        ("DATABASE_URL", &store.url("products")),
        ("RUST_LOG", "service_common=debug"),
    ])
    .await;
    client()
        .get(format!("{}/products/mug?secret=1", process.url))
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("x-request-id", "f058ebd6")
        .send()
        .await
        .unwrap();
    let line = process.logged("answered").await;
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(line["status"], 200);
    assert_eq!(
        line["span"],
        json!({
            "name": "request",
            "method": "GET",
            "path": "/products/mug",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "request_id": "f058ebd6",
        })
    );
}

async fn a_wrong_setting_ends_the_process_with_2_and_a_lost_database_with_1(_: Store) {
    let run = async |variables: &[(&str, &str)]| -> Output {
        command(variables)
            .stderr(Stdio::piped())
            .output()
            .await
            .unwrap()
    };
    for (variables, code, message) in [
        (
            &[("PORT", "web")],
            2,
            "product-service: PORT: \"web\" is not a port number, \
             write a number from 0 (any free port) to 65535, such as 3001\n",
        ),
        (
            &[("RUST_LOG", "service_common=loud")],
            2,
            "product-service: RUST_LOG: \"service_common=loud\" is not a filter for logs, \
             write error, warn, info, debug or trace, or such as info,service_common=debug\n",
        ),
        (
            &[("LOG_FORMAT", "xml")],
            2,
            "product-service: LOG_FORMAT: \"xml\" is not a format of logs, write json or text\n",
        ),
        (
            &[("DATABASE_URL", "sqlite:///nowhere/x.db")],
            1,
            "product-service: DATABASE_URL: /nowhere/x.db.lock cannot be created: \
             No such file or directory (os error 2); name a file in a folder that exists and can be written to\n",
        ),
    ] {
        let output = run(variables).await;
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
        assert_eq!(output.status.code(), Some(code));
    }
}
