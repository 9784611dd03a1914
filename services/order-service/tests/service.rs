//! The order service over HTTP, with all the services behind it.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::Request, http::HeaderMap};
use order_service::SERVICE;
use serde_json::{Value, json};
use service_common::testing::{Running, Store, client};

service_common::tests! {
    on_each_database:
        an_order_is_the_cart_at_that_moment,
        the_hundred_newest_orders_are_listed,
        an_order_that_cannot_be_is_refused,
        orders_are_their_users_alone,
        the_context_of_an_order_reaches_the_last_service;
}

/// The whole shop; orders are placed here.
struct Shop {
    orders: Running,
    carts: Running,
    _users: Running,
    _products: Running,
}

impl Shop {
    async fn open(store: &Store) -> Self {
        let products = Running::start(store, &product_service::SERVICE, &[]).await;
        Self::open_with(store, &products.url.clone(), products).await
    }

    async fn open_with(store: &Store, product_url: &str, products: Running) -> Self {
        let users = Running::start(store, &user_service::SERVICE, &[]).await;
        let carts = Running::start(
            store,
            &cart_service::SERVICE,
            &[("PRODUCT_SERVICE_URL", product_url)],
        )
        .await;
        let orders = Running::start(
            store,
            &SERVICE,
            &[
                ("USER_SERVICE_URL", &users.url),
                ("CART_SERVICE_URL", &carts.url),
            ],
        )
        .await;
        Self {
            orders,
            carts,
            _users: users,
            _products: products,
        }
    }

    async fn place(&self, body: Value) -> (u16, Value) {
        let request = client()
            .post(format!("{}/orders", self.orders.url))
            .json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn list(&self, user: &str) -> Value {
        let request = client().get(format!("{}/orders/{user}", self.orders.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }
}

/// Takes out of an order what differs every time, after a look at its form.
fn without_id_and_time(mut order: Value) -> Value {
    let order = order.as_object_mut().unwrap();
    let id = order.remove("id").unwrap();
    assert_eq!(id.as_str().unwrap().len(), 36);
    let placed_at = order.remove("placedAt").unwrap();
    let digits: String = placed_at
        .as_str()
        .unwrap()
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(digits, "0000-00-00T00:00:00Z");
    Value::Object(order.clone())
}

async fn an_order_is_the_cart_at_that_moment(store: Store) {
    let shop = Shop::open(&store).await;
    assert_eq!(shop.list("alice").await, json!({"orders": []}));

    let (status, first) = shop.place(json!({"userId": "alice"})).await;
    assert_eq!(status, 201);
    assert_eq!(
        without_id_and_time(first.clone()),
        json!({
            "userId": "alice",
            "lines": [
                {"productId": "beans", "name": "Coffee beans, 1 kg", "priceCents": 2190, "quantity": 1},
                {"productId": "mug", "name": "Mug", "priceCents": 1200, "quantity": 2},
            ],
            "totalCents": 4590,
        })
    );

    let item = client().delete(format!("{}/cart/alice/mug", shop.carts.url));
    item.send().await.unwrap();
    let (_, second) = shop.place(json!({"userId": "alice"})).await;
    assert_eq!(second["totalCents"], 2190);
    // The newest comes first, and the older one is as it was.
    assert_eq!(shop.list("alice").await, json!({"orders": [second, first]}));
    assert_eq!(shop.list("bob").await, json!({"orders": []}));
}

async fn the_hundred_newest_orders_are_listed(store: Store) {
    let shop = Shop::open(&store).await;
    let mut ids = Vec::new();
    for _ in 0..101 {
        let (status, order) = shop.place(json!({"userId": "alice"})).await;
        assert_eq!(status, 201);
        ids.insert(0, order["id"].clone());
    }
    let list = shop.list("alice").await;
    let listed: Vec<_> = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["id"].clone())
        .collect();
    assert_eq!(listed, ids[..100]);
}

async fn an_order_that_cannot_be_is_refused(store: Store) {
    let shop = Shop::open(&store).await;
    let unusable = |pointer: &str, detail: &str| {
        (
            422,
            json!({
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "the body cannot be used as it is",
                "errors": [{"pointer": pointer, "detail": detail}],
            }),
        )
    };
    assert_eq!(
        shop.place(json!({"userId": "mallory"})).await,
        unusable("#/userId", "there is no user mallory")
    );
    assert_eq!(
        shop.place(json!({"userId": 7})).await,
        unusable("#/userId", "invalid type: integer `7`, expected a string")
    );
    assert_eq!(
        shop.place(json!({})).await,
        unusable("#", "missing field `userId`")
    );
    assert_eq!(
        shop.place(json!({"userId": "bob"})).await,
        (
            409,
            json!({
                "type": "about:blank",
                "title": "Conflict",
                "status": 409,
                "detail": "the cart of bob is empty, put something in with POST /cart/bob",
            })
        )
    );
    assert_eq!(shop.list("bob").await, json!({"orders": []}));
}

async fn the_context_of_an_order_reaches_the_last_service(store: Store) {
    // Stands before the product service, as a sidecar does, and notes what comes.
    let seen: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
    let products = Running::start(&store, &product_service::SERVICE, &[]).await;
    let router = Router::new().fallback({
        let (seen, url) = (seen.clone(), products.url.clone());
        async move |request: Request| {
            let path = request.uri().path().to_owned();
            let response = client().get(format!("{url}{path}")).send().await.unwrap();
            seen.lock().unwrap().push((path, request.headers().clone()));
            response.text().await.unwrap()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    let shop = Shop::open_with(&store, &url, products).await;

    let context = [
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-b3-traceid", "463ac35c9f6413ad"),
        ("x-request-id", "f058ebd6"),
        ("x-tenant-id", "acme"),
        ("x-tenant-tier", "premium"),
        ("user-type", "vip"),
    ];
    let mut request = client()
        .post(format!("{}/orders", shop.orders.url))
        .json(&json!({"userId": "alice"}));
    for (name, value) in context {
        request = request.header(name, value);
    }
    assert_eq!(request.send().await.unwrap().status(), 201);

    let mut seen = seen.lock().unwrap();
    seen.sort_by(|(a, _), (b, _)| a.cmp(b));
    let paths: Vec<_> = seen.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/products/beans", "/products/mug"]);
    for (_, headers) in seen.iter() {
        for (name, value) in context {
            assert_eq!(headers[name], value);
        }
    }
}

async fn orders_are_their_users_alone(store: Store) {
    let shop = Shop::open(&store).await;
    let order = json!({"userId": "alice"});
    let requests = || {
        [
            client()
                .post(format!("{}/orders", shop.orders.url))
                .json(&order),
            client().get(format!("{}/orders/alice", shop.orders.url)),
        ]
    };
    for request in requests() {
        let response = request.header("end-user", "bob").send().await.unwrap();
        assert_eq!(response.status(), 403);
        let problem: Value = response.json().await.unwrap();
        assert_eq!(
            problem["detail"],
            "this is for alice alone, and the request is of another user"
        );
    }
    assert_eq!(shop.list("alice").await, json!({"orders": []}));
    // Her own goes on to her cart under her name.
    for request in requests() {
        let response = request.header("end-user", "alice").send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }
}
