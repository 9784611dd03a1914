//! The cart service over HTTP, with the product service that it asks.

use cart_service::SERVICE;
use reqwest::Method;
use serde_json::{Value, json};
use service_common::testing::{Running, client};

/// Both services; carts are asked for here.
struct Shop {
    products: Running,
    carts: Running,
}

impl Shop {
    async fn open() -> Self {
        let products = Running::start(&product_service::SERVICE, &[]).await;
        let carts = Running::start(&SERVICE, &[("PRODUCT_SERVICE_URL", &products.url)]).await;
        Self { products, carts }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = client().request(method, format!("{}{path}", self.carts.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        };
        (status, body)
    }

    async fn add(&self, user: &str, product: &str, quantity: i64) -> (u16, Value) {
        let item = json!({"productId": product, "quantity": quantity});
        self.send(Method::POST, &format!("/cart/{user}"), Some(item))
            .await
    }

    async fn cart(&self, user: &str) -> (u16, Value) {
        self.send(Method::GET, &format!("/cart/{user}"), None).await
    }
}

fn problem(status: u16, title: &str, detail: &str) -> (u16, Value) {
    let body = json!({"type": "about:blank", "title": title, "status": status, "detail": detail});
    (status, body)
}

#[tokio::test]
async fn alice_has_a_cart_and_others_an_empty_one() {
    let shop = Shop::open().await;
    let cart = json!({
        "userId": "alice",
        "items": [
            {"id": "beans", "name": "Coffee beans, 1 kg", "priceCents": 2190, "quantity": 1},
            {"id": "mug", "name": "Mug", "priceCents": 1200, "quantity": 2},
        ],
        "totalCents": 4590,
    });
    assert_eq!(shop.cart("alice").await, (200, cart));
    let empty = json!({"userId": "bob", "items": [], "totalCents": 0});
    assert_eq!(shop.cart("bob").await, (200, empty));
}

#[tokio::test]
async fn items_are_added_joined_and_removed() {
    let shop = Shop::open().await;
    let item = |quantity| json!({"id": "kettle", "name": "Gooseneck kettle", "priceCents": 6950, "quantity": quantity});
    assert_eq!(shop.add("bob", "kettle", 2).await, (201, item(2)));
    assert_eq!(shop.add("bob", "kettle", 3).await, (200, item(5)));
    let one = Some(json!({"productId": "mug"}));
    let mug = json!({"id": "mug", "name": "Mug", "priceCents": 1200, "quantity": 1});
    assert_eq!(
        shop.send(Method::POST, "/cart/bob", one).await,
        (201, mug.clone())
    );
    let cart = json!({"userId": "bob", "items": [item(5), mug], "totalCents": 35950});
    assert_eq!(shop.cart("bob").await, (200, cart));

    assert_eq!(
        shop.send(Method::DELETE, "/cart/bob/kettle", None).await,
        (204, Value::Null)
    );
    assert_eq!(shop.cart("bob").await.1["totalCents"], 1200);
    assert_eq!(
        shop.send(Method::DELETE, "/cart/bob/kettle", None).await,
        problem(
            404,
            "Not Found",
            "there is no item kettle in the cart of bob"
        )
    );
}

#[tokio::test]
async fn a_product_that_is_not_sold_cannot_be_added() {
    let shop = Shop::open().await;
    assert_eq!(
        shop.add("bob", "tea", 1).await,
        (
            422,
            json!({
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "the body cannot be used as it is",
                "errors": [{"pointer": "#/productId", "detail": "there is no product tea, see GET /products"}],
            })
        )
    );
    assert_eq!(shop.cart("bob").await.1["items"], json!([]));
}

#[tokio::test]
async fn a_quantity_has_bounds_also_when_it_adds_up() {
    let shop = Shop::open().await;
    for quantity in [0, -1, 101, i64::MAX] {
        let (status, body) = shop.add("bob", "mug", quantity).await;
        assert_eq!(status, 422);
        assert_eq!(
            body["errors"],
            json!([{
                "pointer": "#/quantity",
                "detail": format!("{quantity} is not a quantity, write 1 to 100"),
            }])
        );
    }
    assert_eq!(shop.add("bob", "mug", 100).await.0, 201);
    assert_eq!(
        shop.add("bob", "mug", 1).await,
        problem(
            409,
            "Conflict",
            "a cart holds at most 20 products, and 100 of each"
        )
    );
    assert_eq!(shop.cart("bob").await.1["items"][0]["quantity"], 100);
}

#[tokio::test]
async fn additions_at_the_same_time_are_all_counted() {
    let shop = Shop::open().await;
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = client()
            .post(format!("{}/cart/bob", shop.carts.url))
            .json(&json!({"productId": "mug", "quantity": 3}));
        adding.spawn(async { request.send().await.unwrap().status().is_success() });
    }
    assert!(adding.join_all().await.into_iter().all(|added| added));
    assert_eq!(shop.cart("bob").await.1["items"][0]["quantity"], 60);
}

#[tokio::test]
async fn without_the_product_service_a_cart_is_503_and_items_can_still_be_removed() {
    let Shop { products, carts } = Shop::open().await;
    let url = products.url.clone();
    products.ended().await.unwrap();
    // Nobody else may listen there meanwhile: the port stays bound.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket
        .bind(url.strip_prefix("http://").unwrap().parse().unwrap())
        .unwrap();

    let get = client()
        .get(format!("{}/cart/alice", carts.url))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (get.status().as_u16(), get.json().await.unwrap()),
        problem(
            503,
            "Service Unavailable",
            "product-service cannot be reached"
        )
    );
    let delete = client()
        .delete(format!("{}/cart/alice/mug", carts.url))
        .send()
        .await
        .unwrap();
    assert_eq!(delete.status(), 204);
}
