//! The shop's users.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use service_common::{
    App, ConfigError, Database, Id, Json, Migration, Path, Problem, Service, sqlx,
};

/// The user service.
pub const SERVICE: Service = Service {
    name: "user-service",
    port: 3004,
    migrations: &[
        Migration {
            name: "schema",
            sql: include_str!("../migrations/1_schema.sql"),
        },
        Migration {
            name: "users",
            sql: include_str!("../migrations/2_users.sql"),
        },
    ],
    routes,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct User {
    id: Id,
    name: Name,
    email: Email,
}

/// What a user is called.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        let name = value.trim();
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err("not a name, write 1 to 100 characters on one line");
        }
        Ok(Self(name.to_owned()))
    }
}

/// An address that could receive mail; whether it does, only a mail can tell.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String")]
struct Email(String);

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        let has_parts = value
            .rsplit_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let unprintable = |c: char| c.is_whitespace() || c.is_control();
        // 254 is what SMTP leaves for an address.
        if !has_parts || value.len() > 254 || value.contains(unprintable) {
            return Err("not an email address, write one such as alice@example.com");
        }
        Ok(Self(value))
    }
}

fn routes(app: &App) -> Result<Router, ConfigError> {
    Ok(Router::new()
        .route("/users", post(create))
        .route("/users/{id}", get(show))
        .with_state(app.database.clone()))
}

async fn show(State(database): State<Database>, Path(id): Path<Id>) -> Result<Json<User>, Problem> {
    let (name, email) = sqlx::query_as("SELECT name, email FROM users WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&database)
        .await?
        .ok_or_else(|| Problem::not_found(format!("there is no user {id}")))?;
    Ok(Json(User {
        id,
        name: Name(name),
        email: Email(email),
    }))
}

async fn create(
    State(database): State<Database>,
    Json(user): Json<User>,
) -> Result<impl IntoResponse, Problem> {
    let created = sqlx::query(
        "INSERT INTO users (id, name, email) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
    )
    .bind(user.id.as_str())
    .bind(&user.name.0)
    .bind(&user.email.0)
    .execute(&database)
    .await?;
    if created.rows_affected() == 0 {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("there is a user {} already, choose another id", user.id),
        ));
    }
    let location = format!("/users/{}", user.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(user),
    ))
}
