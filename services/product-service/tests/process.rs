//! The product service as a process: replicas and versions that share a file, logs, signals and exit codes.

use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use service_common::testing::client;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

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

/// A process that listens, with the rest of its log.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Process {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = command(variables).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self {
            child,
            log,
            url: String::new(),
        };
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

fn database(directory: &tempfile::TempDir) -> String {
    format!("sqlite://{}/products.db", directory.path().display())
}

#[tokio::test]
async fn replicas_of_both_versions_start_at_once_on_a_database_that_is_not_there_yet() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let database = database(&directory);
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
    }
}

#[tokio::test]
async fn a_signal_ends_the_process_gracefully() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut process = Process::start(&[("DATABASE_URL", &database(&directory))]).await;
        process.signal(signal);
        process.logged("stopped").await;
        assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
        // Nothing is left in a write-ahead log.
        let files: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        assert_eq!(files, ["products.db"]);
    }
}

#[tokio::test]
async fn a_signal_also_ends_a_process_that_waits_for_another_to_prepare_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(directory.path().join("products.db.lock")).unwrap();
    lock.lock().unwrap();
    let mut child = command(&[("DATABASE_URL", &database(&directory))])
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut process = Process {
        child,
        log,
        url: String::new(),
    };
    process
        .logged("another process prepares the database, waiting for it")
        .await;
    process.signal(Signal::TERM);
    assert_eq!(process.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn log_lines_carry_the_ids_of_trace_and_request() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(&[
        ("DATABASE_URL", &database(&directory)),
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

#[tokio::test]
async fn a_wrong_setting_ends_the_process_with_2_and_a_lost_database_with_1() {
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
