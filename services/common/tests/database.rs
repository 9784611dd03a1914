//! What a service's storage does, on each database; and what services do while PostgreSQL is away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::State, routing::get};
use serde_json::{Value, json};
use service_common::{
    App, ConfigError, Database, Json, Migration, Problem, Service,
    sqlx::{self, AssertSqlSafe, Connection, Executor, PgConnection},
    testing::{Running, Store, client, eventually},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

service_common::tests! {
    on_each_database:
        many_that_start_at_once_all_find_the_database_complete,
        an_older_version_starts_on_a_newer_schema,
        a_migration_that_was_changed_is_refused,
        text_is_sorted_by_its_bytes,
        a_statement_that_fails_is_500_and_says_nothing_of_it;
    on_sqlite:
        readers_go_on_while_one_writes;
    on_postgres:
        services_share_a_database_each_in_its_schema,
        a_schema_that_is_there_needs_no_right_to_create_one,
        a_database_that_is_not_there_is_named,
        a_service_waits_for_a_database_that_comes_later,
        a_service_is_ready_again_when_its_database_is_back,
        connections_that_the_server_ended_cost_no_request,
        statements_end_in_time;
}

const SCHEMA: Migration = Migration {
    name: "schema",
    sql: "CREATE TABLE things (id TEXT COLLATE \"C\" PRIMARY KEY); CREATE INDEX by_id ON things (id);",
};
const SEED: Migration = Migration {
    name: "seed",
    sql: "INSERT INTO things VALUES ('b'), ('a'), ('B'), ('a-c'), ('ab'), ('a.b'), ('1');",
};

const SERVICE: Service = Service {
    name: "sample-service",
    port: 0,
    migrations: &[SCHEMA, SEED],
    routes,
};

fn routes(app: &App) -> Result<Router, ConfigError> {
    async fn things(State(database): State<Database>) -> Result<Json<Vec<String>>, Problem> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT id FROM things ORDER BY id")
            .fetch_all(&database)
            .await?;
        Ok(Json(rows.into_iter().map(|(id,)| id).collect()))
    }
    async fn broken(State(database): State<Database>) -> Result<(), Problem> {
        sqlx::query("INSERT INTO things VALUES ('a')")
            .execute(&database)
            .await?;
        Ok(())
    }
    Ok(Router::new()
        .route("/things", get(things))
        .route("/broken", get(broken))
        .with_state(app.database.clone()))
}

async fn ask(service: &Running, path: &str) -> (u16, Value) {
    let response = client()
        .get(format!("{}{path}", service.url))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn becomes_ready(service: &Running) {
    let ready = async || ask(service, "/ready").await;
    let (_, body) = eventually("the service is ready", ready, |(status, _)| *status == 200).await;
    assert_eq!(body, json!({"status": "ready"}));
}

fn problem(status: u16, title: &str, detail: &str) -> (u16, Value) {
    let body = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
    (status, body)
}

async fn many_that_start_at_once_all_find_the_database_complete(store: Store) {
    let mut starting = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        starting.spawn(async move { Running::start(&store, &SERVICE, &[]).await });
    }
    for service in starting.join_all().await {
        becomes_ready(&service).await;
        let (_, things) = ask(&service, "/things").await;
        assert_eq!(things.as_array().unwrap().len(), 7);
    }
}

async fn an_older_version_starts_on_a_newer_schema(store: Store) {
    let older = Service {
        migrations: &[SCHEMA],
        ..SERVICE
    };
    Running::start(&store, &SERVICE, &[]).await;
    let service = Running::start(&store, &older, &[]).await;
    assert_eq!(ask(&service, "/things").await.0, 200);
}

async fn a_migration_that_was_changed_is_refused(store: Store) {
    const CHANGED: Migration = Migration {
        sql: "CREATE TABLE others (id TEXT);",
        ..SCHEMA
    };
    let changed = Service {
        migrations: &[CHANGED],
        ..SERVICE
    };
    Running::start(&store, &SERVICE, &[]).await;
    let error = Running::try_start(&store, &changed, &[]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "DATABASE_URL: the schema cannot be brought up to date: \
         migration 1 was previously applied but has been modified"
    );
}

async fn text_is_sorted_by_its_bytes(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let sorted = json!(["1", "B", "a", "a-c", "a.b", "ab", "b"]);
    assert_eq!(ask(&service, "/things").await, (200, sorted));
}

async fn a_statement_that_fails_is_500_and_says_nothing_of_it(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    assert_eq!(
        ask(&service, "/broken").await,
        problem(500, "Internal Server Error", "the database failed")
    );
}

async fn readers_go_on_while_one_writes(store: Store) {
    fn mode(app: &App) -> Result<Router, ConfigError> {
        async fn mode(State(database): State<Database>) -> Result<Json<String>, Problem> {
            let (mode,) = sqlx::query_as("PRAGMA journal_mode")
                .fetch_one(&database)
                .await?;
            Ok(Json(mode))
        }
        Ok(Router::new()
            .route("/mode", get(mode))
            .with_state(app.database.clone()))
    }
    let service = Service {
        routes: mode,
        ..SERVICE
    };
    let service = Running::start(&store, &service, &[]).await;
    assert_eq!(ask(&service, "/mode").await, (200, json!("wal")));
}

/// The URL with another user, password or address.
fn changed(url: &str, change: impl FnOnce(&mut reqwest::Url)) -> String {
    let mut url = reqwest::Url::parse(url).unwrap();
    change(&mut url);
    url.into()
}

async fn services_share_a_database_each_in_its_schema(store: Store) {
    const OTHER: Service = Service {
        name: "other-service",
        migrations: &[
            Migration {
                name: "another",
                sql: "CREATE TABLE things (id TEXT COLLATE \"C\", size BIGINT);",
            },
            Migration {
                name: "seed",
                sql: "INSERT INTO things VALUES ('x', 1);",
            },
        ],
        ..SERVICE
    };
    let sample = Running::start(&store, &SERVICE, &[]).await;
    let other = Running::start(&store, &OTHER, &[]).await;
    assert_eq!(ask(&other, "/things").await, (200, json!(["x"])));
    assert_eq!(ask(&sample, "/things").await.1.as_array().unwrap().len(), 7);
    let mut connection = PgConnection::connect(&store.url("")).await.unwrap();
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT schemaname || '.' || tablename FROM pg_tables \
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let tables: Vec<_> = tables.iter().map(|(table,)| table.as_str()).collect();
    assert_eq!(
        tables,
        [
            "other_service._sqlx_migrations",
            "other_service.things",
            "sample_service._sqlx_migrations",
            "sample_service.things",
        ]
    );
}

async fn a_schema_that_is_there_needs_no_right_to_create_one(store: Store) {
    let url = store.url(SERVICE.name);
    let role = format!(
        "{}_limited",
        reqwest::Url::parse(&url)
            .unwrap()
            .path()
            .trim_start_matches('/')
    );
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'limited'");
    owner.execute(AssertSqlSafe(sql)).await.unwrap();
    let limited = changed(&url, |url| {
        url.set_username(&role).unwrap();
        url.set_password(Some("limited")).unwrap();
    });
    let variables = [("DATABASE_URL", limited.as_str())];

    let refused = Running::try_start(&store, &SERVICE, &variables).await;
    let sql = format!("CREATE SCHEMA sample_service AUTHORIZATION {role}");
    owner.execute(AssertSqlSafe(sql)).await.unwrap();
    let allowed = Running::try_start(&store, &SERVICE, &variables).await;

    // Roles belong to the server and not to the test's database: it goes before anything is judged.
    if let Ok(service) = allowed {
        assert_eq!(ask(&service, "/things").await.0, 200);
        service.ended().await.unwrap();
    } else {
        eprintln!("{allowed:?}");
    }
    let sql = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
    owner.execute(AssertSqlSafe(sql)).await.unwrap();
    let database = role.trim_end_matches("_limited");
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!(
            "DATABASE_URL: the schema cannot be brought up to date: \
             permission denied for database {database}"
        )
    );
}

async fn a_database_that_is_not_there_is_named(store: Store) {
    let nowhere = changed(&store.url(""), |url| url.set_path("nowhere"));
    let error = Running::try_start(&store, &SERVICE, &[("DATABASE_URL", &nowhere)])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "DATABASE_URL: the database cannot be used: \
         database \"nowhere\" does not exist"
    );
}

/// The way to the database, which can be closed.
struct Way {
    url: String,
    state: watch::Sender<WayIs>,
    connections: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum WayIs {
    Open,
    /// Connections end as soon as they are made, as at a sidecar whose upstream is away.
    Closed,
    /// Nothing is answered any more, as when a node is gone.
    Silent,
}

impl Way {
    async fn to(url: &str, initial: WayIs) -> Self {
        let target = reqwest::Url::parse(url).unwrap();
        let target = (
            target.host_str().unwrap().to_owned(),
            target.port().unwrap_or(5432),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (state, states) = watch::channel(initial);
        let connections = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let connections = connections.clone();
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(carry(client, target.clone(), states.clone()));
                }
            }
        });
        let url = changed(url, |url| {
            url.set_host(Some("127.0.0.1")).unwrap();
            url.set_port(Some(port)).unwrap();
        });
        Self {
            url,
            state,
            connections,
        }
    }
}

async fn carry(mut client: TcpStream, target: (String, u16), mut states: watch::Receiver<WayIs>) {
    if *states.borrow() == WayIs::Open {
        let mut server = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = states.wait_for(|state| *state != WayIs::Open) => {}
        }
        // Held until the way is open again: a node that is gone does not say so.
        let _ = states.wait_for(|state| *state != WayIs::Silent).await;
    } else {
        let _ = states.wait_for(|state| *state != WayIs::Silent).await;
    }
}

async fn a_service_waits_for_a_database_that_comes_later(store: Store) {
    let way = Way::to(&store.url(SERVICE.name), WayIs::Closed).await;
    let starting = tokio::spawn({
        let (store, url) = (store.clone(), way.url.clone());
        async move { Running::start(&store, &SERVICE, &[("DATABASE_URL", &url)]).await }
    });
    let connections = async || way.connections.load(Ordering::Relaxed);
    eventually("the service tries again", connections, |n| *n > 1).await;
    way.state.send(WayIs::Open).unwrap();
    let service = starting.await.unwrap();
    becomes_ready(&service).await;
}

async fn a_service_is_ready_again_when_its_database_is_back(store: Store) {
    let way = Way::to(&store.url(SERVICE.name), WayIs::Open).await;
    let service = Running::start(&store, &SERVICE, &[("DATABASE_URL", &way.url)]).await;
    let away = problem(
        503,
        "Service Unavailable",
        "the database cannot be reached, try again",
    );
    for state in [WayIs::Closed, WayIs::Silent] {
        becomes_ready(&service).await;
        assert_eq!(ask(&service, "/things").await.0, 200);
        way.state.send(state).unwrap();
        assert_eq!(ask(&service, "/ready").await, away, "{state:?}");
        assert_eq!(ask(&service, "/things").await, away, "{state:?}");
        assert_eq!(ask(&service, "/health").await.0, 200);
        way.state.send(WayIs::Open).unwrap();
    }
    becomes_ready(&service).await;
    assert_eq!(ask(&service, "/things").await.0, 200);
}

async fn connections_that_the_server_ended_cost_no_request(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let mut other = PgConnection::connect(&store.url("")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&service, "/things").await.0, 200);
        let (ended,): (i64,) = sqlx::query_as(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut other)
        .await
        .unwrap();
        assert!(ended > 0);
    }
    assert_eq!(ask(&service, "/things").await.0, 200);
}

async fn statements_end_in_time(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let mut other = PgConnection::connect(&store.url("")).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE sample_service.things")
        .await
        .unwrap();
    // Waits for the lock for as long as the timeout lets it.
    assert_eq!(
        ask(&service, "/things").await,
        problem(
            503,
            "Service Unavailable",
            "the database cannot be reached, try again"
        )
    );
    other.execute("COMMIT").await.unwrap();
    assert_eq!(ask(&service, "/things").await.0, 200);
}
