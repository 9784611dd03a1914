//! From a [`Service`] to a listening server: what is the same around every service's routes.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri},
    middleware::{self, Next},
    response::Response,
    routing::get,
    serve::ListenerExt,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::{Instrument, info_span};

use crate::{
    BODY_LIMIT, ConfigError, Context, Database, DatabaseError, Environment, Json, Migration,
    Problem, Upstream,
    database::{self, Location},
    metrics::{self, Metrics},
    upstream,
};

/// How long requests that are under way may take to finish after the order to stop. Kubernetes kills after 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// What makes a service this service.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name, as in the mesh.
    pub name: &'static str,
    /// The port it listens on unless `PORT` says otherwise.
    pub port: u16,
    /// Its tables and their first rows.
    pub migrations: &'static [Migration],
    /// Its routes.
    pub routes: fn(&App) -> Result<Router, ConfigError>,
}

/// What a service's routes are made from.
#[derive(Debug)]
pub struct App {
    /// The version this process says it is.
    pub version: String,
    /// The service's database.
    pub database: Database,
    environment: Environment,
    client: reqwest::Client,
}

impl App {
    /// Another service, at `<NAME>_URL` or else at its name and this port.
    pub fn upstream(&self, name: &'static str, default_port: u16) -> Result<Upstream, ConfigError> {
        Upstream::new(&self.environment, self.client.clone(), name, default_port)
    }
}

/// Why a service does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Nothing can listen there.
    #[error("HOST, PORT: {address} cannot be listened on: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not give what every process needs.
    #[error("the process cannot run: {0}")]
    Runtime(#[source] io::Error),
}

/// A service that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    database: Database,
}

impl Server {
    /// Opens the database, makes the routes and listens. What arrives waits for [`Server::run`].
    pub async fn start(service: &Service, environment: &Environment) -> Result<Self, StartError> {
        let address = environment.listen(service.port)?;
        let version = environment.version()?;
        let client = upstream::client(environment)?;
        let location = Location::from_environment(environment, service.name)?;

        let app = App {
            version,
            database: location.open(service.migrations).await?,
            environment: environment.clone(),
            client,
        };
        let router = around((service.routes)(&app)?, service.name, &app);

        let listen = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        tracing::info!(service = service.name, version = app.version, %address, "listening");
        Ok(Self {
            listener,
            address,
            router,
            database: app.database,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then until the requests under way are answered, but not longer than 20 seconds.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let (stopping, stopped) = oneshot::channel();
        let shutdown = async move {
            shutdown.await;
            tracing::info!("stopping");
            // The other half is gone only when the server has ended already.
            let _ = stopping.send(());
        };
        let listener = self.listener.tap_io(|connection| {
            // Answers are small; held back to be joined with more they would only be late.
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "connection without TCP_NODELAY");
            }
        });
        let serve = axum::serve(listener, self.router)
            .with_graceful_shutdown(shutdown)
            .into_future();
        let cut_off = async {
            if stopped.await.is_ok() {
                tokio::time::sleep(GRACE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = serve => result.map_err(StartError::Runtime)?,
            () = cut_off => tracing::warn!(seconds = GRACE.as_secs(), "stopped with requests under way"),
        }
        // Folds SQLite's write-ahead log back into its file.
        self.database.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// A future that ends on SIGTERM or SIGINT, which from now on do not end the process by themselves.
pub(crate) fn termination() -> Result<impl Future<Output = ()> + Send + 'static, StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    Ok(async move {
        let (terminate, interrupt) = (pin!(terminate.recv()), pin!(interrupt.recv()));
        tokio::select! {
            _ = terminate => {}
            _ = interrupt => {}
        }
    })
}

/// Puts what every service has around its routes.
fn around(routes: Router, name: &'static str, app: &App) -> Router {
    let version = HeaderValue::from_str(&app.version)
        .expect("a version was found to be printable when it was read");
    let metrics = Arc::new(Metrics::new(name, &app.version));
    // What the kubelet and Prometheus ask is no work of the service: an idle one counts nothing.
    let uncounted = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready).with_state(app.database.clone()))
        .route(
            "/metrics",
            get(metrics::exposition).with_state(Arc::clone(&metrics)),
        )
        .method_not_allowed_fallback(wrong_method);
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(metrics, count))
        .merge(uncounted)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(version, observe))
}

/// The process is alive; nothing else is looked at, for a restart could mend nothing else.
async fn health() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// The service can answer: its database can be reached.
async fn ready(State(database): State<Database>) -> Result<Json<Value>, Problem> {
    database::ready(&database).await?;
    Ok(Json(json!({"status": "ready"})))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{method} is not done on {}, see the header allow",
            uri.path()
        ),
    )
}

/// Counts a request until it is answered, and its answer.
async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let under_way = metrics.begin();
    let response = next.run(request).await;
    under_way.answered(response.status());
    response
}

/// Joins a request's logs to its trace, and its response to the version that made it.
async fn observe(State(version): State<HeaderValue>, request: Request, next: Next) -> Response {
    let context = Context::of(request.headers());
    let span = info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        trace_id = context.trace_id(),
        request_id = context.request_id(),
    );
    async move {
        let mut response = next.run(request).await;
        // The sidecars log every request; here those are worth a line that the service could not answer.
        let status = response.status().as_u16();
        if response.status().is_server_error() {
            tracing::warn!(status, "answered");
        } else {
            tracing::debug!(status, "answered");
        }
        response.headers_mut().insert("x-service-version", version);
        response
    }
    .instrument(span)
    .await
}
