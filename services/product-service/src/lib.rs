//! The shop's catalogue: what is sold, under which name and at what price.
//!
//! Versions 1 and 2 are one program that reads its version from the environment: from version 2 on, every product
//! has the badge SALE. So a canary release can be seen in the answers.

use axum::{Router, extract::State, routing::get};
use serde::Serialize;
use service_common::{
    App, ConfigError, Database, Id, Json, Migration, Path, Problem, Service, sqlx,
};

/// The product service.
pub const SERVICE: Service = Service {
    name: "product-service",
    port: 3001,
    migrations: &[
        Migration {
            name: "schema",
            sql: include_str!("../migrations/1_schema.sql"),
        },
        Migration {
            name: "catalogue",
            sql: include_str!("../migrations/2_catalogue.sql"),
        },
    ],
    routes,
};

#[derive(Clone)]
struct Catalogue {
    database: Database,
    badge: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    id: String,
    name: String,
    price_cents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    badge: Option<&'static str>,
}

#[derive(Serialize)]
struct Products {
    products: Vec<Product>,
}

fn routes(app: &App) -> Result<Router, ConfigError> {
    let catalogue = Catalogue {
        database: app.database.clone(),
        badge: (major(&app.version) >= 2).then_some("SALE"),
    };
    Ok(Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(show))
        .with_state(catalogue))
}

/// The first number of a version such as `v2` or `2.1.0`; one without a number counts as the first.
fn major(version: &str) -> u32 {
    let number = version.strip_prefix('v').unwrap_or(version);
    let end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    number[..end].parse().unwrap_or(1)
}

async fn list(State(catalogue): State<Catalogue>) -> Result<Json<Products>, Problem> {
    let rows = sqlx::query_as("SELECT id, name, price_cents FROM products ORDER BY id")
        .fetch_all(&catalogue.database)
        .await?;
    let products = rows.into_iter().map(|row| catalogue.product(row)).collect();
    Ok(Json(Products { products }))
}

async fn show(
    State(catalogue): State<Catalogue>,
    Path(id): Path<Id>,
) -> Result<Json<Product>, Problem> {
    let row = sqlx::query_as("SELECT id, name, price_cents FROM products WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&catalogue.database)
        .await?
        .ok_or_else(|| Problem::not_found(format!("there is no product {id}")))?;
    Ok(Json(catalogue.product(row)))
}

impl Catalogue {
    fn product(&self, (id, name, price_cents): (String, String, i64)) -> Product {
        Product {
            id,
            name,
            price_cents,
            badge: self.badge,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_any_form_has_a_major_version() {
        for (version, expected) in [
            ("v1", 1),
            ("v2", 2),
            ("2.1.0", 2),
            ("v10-rc1", 10),
            ("latest", 1),
            ("v", 1),
            ("99999999999", 1),
        ] {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}
