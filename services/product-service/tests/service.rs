//! The product service over HTTP.

use product_service::SERVICE;
use serde_json::{Value, json};
use service_common::testing::{Running, Store, client};

service_common::tests! {
    on_each_database:
        version_1_lists_the_catalogue,
        version_2_adds_a_badge_to_every_product,
        the_version_that_answered_is_in_a_header,
        a_product_that_is_not_sold_is_404_and_what_is_no_id_is_400;
}

async fn get(service: &Running, path: &str) -> (u16, Value) {
    let response = client()
        .get(format!("{}{path}", service.url))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn version_1_lists_the_catalogue(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let expected = json!({"products": [
        {"id": "beans", "name": "Coffee beans, 1 kg", "priceCents": 2190},
        {"id": "espresso-machine", "name": "Espresso machine", "priceCents": 48900},
        {"id": "filters", "name": "Paper filters, 100 pieces", "priceCents": 450},
        {"id": "grinder", "name": "Coffee grinder", "priceCents": 12900},
        {"id": "kettle", "name": "Gooseneck kettle", "priceCents": 6950},
        {"id": "mug", "name": "Mug", "priceCents": 1200},
        {"id": "press", "name": "French press", "priceCents": 3490},
        {"id": "scale", "name": "Kitchen scale", "priceCents": 2590},
    ]});
    assert_eq!(get(&service, "/products").await, (200, expected));
}

async fn version_2_adds_a_badge_to_every_product(store: Store) {
    let service = Running::start(&store, &SERVICE, &[("SERVICE_VERSION", "v2")]).await;
    let mug = json!({"id": "mug", "name": "Mug", "priceCents": 1200, "badge": "SALE"});
    assert_eq!(get(&service, "/products/mug").await, (200, mug));
    let (_, list) = get(&service, "/products").await;
    let products = list["products"].as_array().unwrap();
    assert_eq!(products.len(), 8);
    assert!(products.iter().all(|product| product["badge"] == "SALE"));
}

async fn the_version_that_answered_is_in_a_header(store: Store) {
    for version in ["v1", "v2"] {
        let service = Running::start(&store, &SERVICE, &[("SERVICE_VERSION", version)]).await;
        let response = client()
            .get(format!("{}/products/mug", service.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["x-service-version"], version);
    }
}

async fn a_product_that_is_not_sold_is_404_and_what_is_no_id_is_400(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    assert_eq!(
        get(&service, "/products/tea").await,
        (
            404,
            json!({
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no product tea",
            })
        )
    );
    assert_eq!(
        get(&service, "/products/-tea").await,
        (
            400,
            json!({
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "Invalid URL: \"-tea\" is not an id, write 1 to 64 of a-z, A-Z, 0-9, '.', '_', '-', '@', \
                           beginning with a letter or digit",
            })
        )
    );
}
