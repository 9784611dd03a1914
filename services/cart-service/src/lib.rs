//! What each user is about to buy.
//!
//! A cart holds ids of products and quantities. Names and prices belong to the product service, which is asked for
//! them whenever they are shown. An item's id is its product's: the same product added twice is one item.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{delete, get},
};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use service_common::{
    App, ConfigError, Context, Database, Id, Json, Migration, Path, Problem, Service, Upstream,
    sqlx,
};

/// The cart service.
pub const SERVICE: Service = Service {
    name: "cart-service",
    port: 3002,
    migrations: &[
        Migration {
            name: "schema",
            sql: include_str!("../migrations/1_schema.sql"),
        },
        Migration {
            name: "carts",
            sql: include_str!("../migrations/2_carts.sql"),
        },
        Migration {
            name: "locks",
            sql: include_str!("../migrations/3_locks.sql"),
        },
    ],
    routes,
};

/// Every product of a cart is a call to the product service, so a cart has an end.
const MAX_ITEMS: i64 = 20;
const MAX_QUANTITY: i64 = 100;

#[derive(Clone)]
struct Carts {
    database: Database,
    products: Upstream,
}

/// What the product service says of a product, as far as a cart needs it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Product {
    name: String,
    price_cents: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cart {
    user_id: Id,
    items: Vec<Item>,
    total_cents: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    name: String,
    price_cents: i64,
    quantity: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewItem {
    product_id: Id,
    #[serde(default)]
    quantity: Quantity,
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Quantity(i64);

impl Default for Quantity {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for Quantity {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        if (1..=MAX_QUANTITY).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!(
                "{value} is not a quantity, write 1 to {MAX_QUANTITY}"
            ))
        }
    }
}

fn routes(app: &App) -> Result<Router, ConfigError> {
    let carts = Carts {
        database: app.database.clone(),
        products: app.upstream("product-service", 3001)?,
    };
    Ok(Router::new()
        .route("/cart/{user_id}", get(show).post(add))
        .route("/cart/{user_id}/{item_id}", delete(remove))
        .with_state(carts))
}

async fn show(
    State(carts): State<Carts>,
    context: Context,
    Path(user_id): Path<Id>,
) -> Result<Json<Cart>, Problem> {
    context.may_ask_of(&user_id)?;
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT product_id, quantity FROM cart_items WHERE user_id = $1 ORDER BY product_id",
    )
    .bind(user_id.as_str())
    .fetch_all(&carts.database)
    .await?;
    let (carts, context, user_id) = (&carts, &context, &user_id);
    let items = try_join_all(rows.into_iter().map(async |(id, quantity)| {
        let Product { name, price_cents } = carts.product(context, &id).await?.ok_or_else(|| {
            Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "the product {id} is not sold any more, DELETE /cart/{user_id}/{id} to go on"
                ),
            )
        })?;
        Ok::<_, Problem>(Item {
            id,
            name,
            price_cents,
            quantity,
        })
    }))
    .await?;
    let total_cents = items
        .iter()
        .map(|item| item.price_cents * item.quantity)
        .sum();
    Ok(Json(Cart {
        user_id: user_id.clone(),
        items,
        total_cents,
    }))
}

async fn add(
    State(carts): State<Carts>,
    context: Context,
    Path(user_id): Path<Id>,
    Json(NewItem {
        product_id,
        quantity: Quantity(quantity),
    }): Json<NewItem>,
) -> Result<impl IntoResponse, Problem> {
    context.may_ask_of(&user_id)?;
    let Some(product) = carts.product(&context, product_id.as_str()).await? else {
        return Err(Problem::unusable(
            "#/productId",
            format!("there is no product {product_id}, see GET /products"),
        ));
    };
    let mut transaction = carts.database.begin().await?;
    // Locks the cart until the commit: else two who count its products at the same time, here or at other replicas,
    // both find room for one more.
    sqlx::query(
        "INSERT INTO carts (user_id) VALUES ($1) \
         ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id",
    )
    .bind(user_id.as_str())
    .execute(&mut *transaction)
    .await?;
    let row: Option<(i64,)> = sqlx::query_as(
        "INSERT INTO cart_items (user_id, product_id, quantity) \
         SELECT $1, $2, $3 \
         WHERE (SELECT count(*) FROM cart_items WHERE user_id = $1 AND product_id <> $2) < $4 \
         ON CONFLICT (user_id, product_id) \
         DO UPDATE SET quantity = cart_items.quantity + excluded.quantity \
         WHERE cart_items.quantity + excluded.quantity <= $5 \
         RETURNING quantity",
    )
    .bind(user_id.as_str())
    .bind(product_id.as_str())
    .bind(quantity)
    .bind(MAX_ITEMS)
    .bind(MAX_QUANTITY)
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let Some((in_cart,)) = row else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("a cart holds at most {MAX_ITEMS} products, and {MAX_QUANTITY} of each"),
        ));
    };
    let status = if in_cart == quantity {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let item = Item {
        id: product_id.to_string(),
        name: product.name,
        price_cents: product.price_cents,
        quantity: in_cart,
    };
    Ok((status, Json(item)))
}

async fn remove(
    State(carts): State<Carts>,
    context: Context,
    Path((user_id, item_id)): Path<(Id, Id)>,
) -> Result<StatusCode, Problem> {
    context.may_ask_of(&user_id)?;
    // An item that is not there is answered as one that was: the mesh asks again when an answer was lost (istio/routing/cart-service.yaml), and
    // so may the client.
    sqlx::query("DELETE FROM cart_items WHERE user_id = $1 AND product_id = $2")
        .bind(user_id.as_str())
        .bind(item_id.as_str())
        .execute(&carts.database)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Carts {
    async fn product(&self, context: &Context, id: &str) -> Result<Option<Product>, Problem> {
        self.products.get(context, &format!("/products/{id}")).await
    }
}
