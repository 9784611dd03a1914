//! Orders: a cart at the moment its user bought it, with the names and prices of that moment.
//!
//! Placing an order leaves the cart as it is.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use service_common::{
    App, ConfigError, Context, Database, Id, Json, Migration, Path, Problem, Service, Upstream,
    sqlx,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// The order service.
pub const SERVICE: Service = Service {
    name: "order-service",
    port: 3003,
    migrations: &[Migration {
        name: "schema",
        sql: include_str!("../migrations/1_schema.sql"),
    }],
    routes,
};

/// How many of a user's orders are listed.
const NEWEST: i64 = 100;

#[derive(Clone)]
struct Shop {
    database: Database,
    users: Upstream,
    carts: Upstream,
}

/// What the cart service says of a cart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cart {
    items: Vec<CartItem>,
    total_cents: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CartItem {
    id: String,
    name: String,
    price_cents: i64,
    quantity: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewOrder {
    user_id: Id,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    id: String,
    user_id: Id,
    lines: Vec<Line>,
    total_cents: i64,
    placed_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    product_id: String,
    name: String,
    price_cents: i64,
    quantity: i64,
}

#[derive(Serialize)]
struct Orders {
    orders: Vec<Order>,
}

fn routes(app: &App) -> Result<Router, ConfigError> {
    let shop = Shop {
        database: app.database.clone(),
        users: app.upstream("user-service", 3004)?,
        carts: app.upstream("cart-service", 3002)?,
    };
    Ok(Router::new()
        .route("/orders", post(place))
        .route("/orders/{user_id}", get(list))
        .with_state(shop))
}

async fn place(
    State(shop): State<Shop>,
    context: Context,
    Json(NewOrder { user_id }): Json<NewOrder>,
) -> Result<impl IntoResponse, Problem> {
    context.may_ask_of(&user_id)?;
    let user: Option<IgnoredAny> = shop
        .users
        .get(&context, &format!("/users/{user_id}"))
        .await?;
    if user.is_none() {
        return Err(Problem::unusable(
            "#/userId",
            format!("there is no user {user_id}"),
        ));
    }
    let cart: Option<Cart> = shop
        .carts
        .get(&context, &format!("/cart/{user_id}"))
        .await?;
    let Some(cart) = cart.filter(|cart| !cart.items.is_empty()) else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("the cart of {user_id} is empty, put something in with POST /cart/{user_id}"),
        ));
    };

    let lines = cart
        .items
        .into_iter()
        .map(|item| Line {
            product_id: item.id,
            name: item.name,
            price_cents: item.price_cents,
            quantity: item.quantity,
        })
        .collect();
    let order = Order {
        id: Uuid::now_v7().to_string(),
        user_id,
        lines,
        total_cents: cart.total_cents,
        placed_at: OffsetDateTime::now_utc()
            .truncate_to_second()
            .format(&Rfc3339)
            .expect("the years that a clock shows have four digits"),
    };
    store(&shop.database, &order).await?;
    Ok((StatusCode::CREATED, Json(order)))
}

async fn store(database: &Database, order: &Order) -> Result<(), sqlx::Error> {
    let mut transaction = database.begin().await?;
    sqlx::query("INSERT INTO orders (id, user_id, total_cents, placed_at) VALUES ($1, $2, $3, $4)")
        .bind(&order.id)
        .bind(order.user_id.as_str())
        .bind(order.total_cents)
        .bind(&order.placed_at)
        .execute(&mut *transaction)
        .await?;
    for (position, line) in (1_i64..).zip(&order.lines) {
        sqlx::query(
            "INSERT INTO order_lines (order_id, position, product_id, name, price_cents, quantity) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&order.id)
        .bind(position)
        .bind(&line.product_id)
        .bind(&line.name)
        .bind(line.price_cents)
        .bind(line.quantity)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

/// One line of an order, beside what all lines of the order share.
type OrderLine = (String, i64, String, String, String, i64, i64);

async fn list(
    State(shop): State<Shop>,
    context: Context,
    Path(user_id): Path<Id>,
) -> Result<Json<Orders>, Problem> {
    context.may_ask_of(&user_id)?;
    let rows: Vec<OrderLine> = sqlx::query_as(
        "SELECT newest.id, newest.total_cents, newest.placed_at, \
                line.product_id, line.name, line.price_cents, line.quantity \
         FROM (SELECT * FROM orders WHERE user_id = $1 ORDER BY id DESC LIMIT $2) AS newest \
         JOIN order_lines AS line ON line.order_id = newest.id \
         ORDER BY newest.id DESC, line.position",
    )
    .bind(user_id.as_str())
    .bind(NEWEST)
    .fetch_all(&shop.database)
    .await?;

    let mut orders: Vec<Order> = Vec::new();
    for (id, total_cents, placed_at, product_id, name, price_cents, quantity) in rows {
        let line = Line {
            product_id,
            name,
            price_cents,
            quantity,
        };
        match orders.last_mut() {
            Some(order) if order.id == id => order.lines.push(line),
            _ => orders.push(Order {
                id,
                user_id: user_id.clone(),
                lines: vec![line],
                total_cents,
                placed_at,
            }),
        }
    }
    Ok(Json(Orders { orders }))
}
