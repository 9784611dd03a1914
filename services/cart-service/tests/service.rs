//! The cart service over HTTP, with the product service that it asks.

use std::sync::Arc;

use axum::Router;
use cart_service::SERVICE;
use reqwest::Method;
use serde_json::{Value, json};
use service_common::testing::{Running, Store, client};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Barrier,
    task::JoinSet,
};

service_common::tests! {
    on_each_database:
        alice_has_a_cart_and_others_an_empty_one,
        items_are_added_joined_and_removed,
        a_product_that_is_not_sold_cannot_be_added,
        a_quantity_has_bounds_also_when_it_adds_up,
        a_cart_is_its_users_alone,
        additions_at_the_same_time_are_all_counted,
        additions_at_the_same_time_keep_to_the_most_a_cart_holds,
        without_the_product_service_a_cart_is_503_and_items_can_still_be_removed;
}

/// Both services; carts are asked for here.
struct Shop {
    products: Running,
    carts: Running,
}

impl Shop {
    async fn open(store: &Store) -> Self {
        let products = Running::start(store, &product_service::SERVICE, &[]).await;
        let carts =
            Running::start(store, &SERVICE, &[("PRODUCT_SERVICE_URL", &products.url)]).await;
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

async fn alice_has_a_cart_and_others_an_empty_one(store: Store) {
    let shop = Shop::open(&store).await;
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

async fn items_are_added_joined_and_removed(store: Store) {
    let shop = Shop::open(&store).await;
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

    // The second time is the mesh, which asks again when the answer to the first was lost.
    for _ in 0..2 {
        assert_eq!(
            shop.send(Method::DELETE, "/cart/bob/kettle", None).await,
            (204, Value::Null)
        );
        assert_eq!(shop.cart("bob").await.1["totalCents"], 1200);
    }
    assert_eq!(shop.cart("bob").await.1["items"][0]["id"], "mug");
}

async fn a_product_that_is_not_sold_cannot_be_added(store: Store) {
    let shop = Shop::open(&store).await;
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

async fn a_cart_is_its_users_alone(store: Store) {
    let shop = Shop::open(&store).await;
    let cart = format!("{}/cart/alice", shop.carts.url);
    let item = json!({"productId": "mug"});
    let requests = || {
        [
            client().get(&cart),
            client().post(&cart).json(&item),
            client().delete(format!("{cart}/mug")),
        ]
    };
    for request in requests() {
        let response = request.header("end-user", "bob").send().await.unwrap();
        let status = response.status().as_u16();
        let refusal = "this is for alice alone, and the request is of another user";
        assert_eq!(
            (status, response.json().await.unwrap()),
            problem(403, "Forbidden", refusal)
        );
    }
    let mugs = shop.cart("alice").await.1["items"][1].clone();
    assert_eq!(mugs["quantity"], 2);
    for request in requests() {
        let response = request.header("end-user", "alice").send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
    }
}

async fn a_quantity_has_bounds_also_when_it_adds_up(store: Store) {
    let shop = Shop::open(&store).await;
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

async fn additions_at_the_same_time_are_all_counted(store: Store) {
    let shop = Shop::open(&store).await;
    let mut adding = JoinSet::new();
    for _ in 0..20 {
        let request = client()
            .post(format!("{}/cart/bob", shop.carts.url))
            .json(&json!({"productId": "mug", "quantity": 3}));
        adding.spawn(async { request.send().await.unwrap().status().is_success() });
    }
    assert!(adding.join_all().await.into_iter().all(|added| added));
    assert_eq!(shop.cart("bob").await.1["items"][0]["quantity"], 60);
}

async fn additions_at_the_same_time_keep_to_the_most_a_cart_holds(store: Store) {
    const ADDITIONS: usize = 30;
    // Sells whatever it is asked for, once all have asked: so all go on at the same moment.
    let all = Arc::new(Barrier::new(ADDITIONS));
    let router = Router::new().fallback(async move || {
        all.wait().await;
        r#"{"name": "Thing", "priceCents": 1}"#
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let products = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    let variables = [
        ("PRODUCT_SERVICE_URL", products.as_str()),
        ("UPSTREAM_TIMEOUT_SECONDS", "60"),
    ];
    let replicas = [
        Running::start(&store, &SERVICE, &variables).await,
        Running::start(&store, &SERVICE, &variables).await,
    ];

    for user in ["bob", "carol", "dave", "erin"] {
        let mut adding = JoinSet::new();
        for (product, replica) in (0..ADDITIONS).zip(replicas.iter().cycle()) {
            let request = client()
                .post(format!("{}/cart/{user}", replica.url))
                .json(&json!({"productId": format!("thing-{product}")}));
            adding.spawn(async { request.send().await.unwrap().status().as_u16() });
        }
        let mut statuses = adding.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses[..20], [201; 20]);
        assert_eq!(statuses[20..], [409; 10]);
    }
}

async fn without_the_product_service_a_cart_is_503_and_items_can_still_be_removed(store: Store) {
    let Shop { products, carts } = Shop::open(&store).await;
    let url = products.url.clone();
    products.ended().await.unwrap();
    // Nobody else may listen there meanwhile: the port stays bound.
    let socket = TcpSocket::new_v4().unwrap();
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
