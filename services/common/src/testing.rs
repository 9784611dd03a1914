//! Services in tests: real ones, on real sockets and files, each in its own temporary folder.

use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Environment, Server, Service, StartError};

/// A service that runs in the test's process until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens: `http://127.0.0.1:<port>`.
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), StartError>>,
    _directory: TempDir,
}

impl Running {
    /// Starts a service with these environment variables beside those that a test needs: a free port of 127.0.0.1
    /// and a new database.
    pub async fn start(service: &Service, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let database = format!(
            "sqlite://{}/{}.db",
            directory.path().display(),
            service.name
        );
        let environment: Environment = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("DATABASE_URL", &database),
        ]
        .iter()
        .chain(variables)
        .copied()
        .collect();
        let server = Server::start(service, &environment)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", service.name));
        let url = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server.run(async {
            // Dropping the sender stops the service too.
            let _ = stopped.await;
        }));
        Self {
            url,
            stop: Some(stop),
            served,
            _directory: directory,
        }
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
