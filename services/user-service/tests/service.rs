//! The user service over HTTP.

use serde_json::{Value, json};
use service_common::testing::{Running, Store, client};
use user_service::SERVICE;

service_common::tests! {
    on_each_database:
        the_first_users_are_there,
        a_user_who_is_not_there_is_404,
        a_user_is_created_once,
        of_many_who_create_the_same_user_at_once_one_does,
        a_user_who_cannot_be_is_refused_with_the_member_that_is_wrong;
}

async fn get(service: &Running, path: &str) -> (u16, Value) {
    let response = client()
        .get(format!("{}{path}", service.url))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn create(service: &Running, user: &Value) -> reqwest::Response {
    client()
        .post(format!("{}/users", service.url))
        .json(user)
        .send()
        .await
        .unwrap()
}

async fn the_first_users_are_there(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    for (id, name) in [
        ("alice", "Alice"),
        ("bob", "Bob"),
        ("carol", "Carol"),
        ("dave", "Dave"),
        ("erin", "Erin"),
    ] {
        let user = json!({"id": id, "name": name, "email": format!("{id}@example.com")});
        assert_eq!(get(&service, &format!("/users/{id}")).await, (200, user));
    }
}

async fn a_user_who_is_not_there_is_404(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let problem = json!({
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no user mallory",
    });
    assert_eq!(get(&service, "/users/mallory").await, (404, problem));
}

async fn a_user_is_created_once(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let response = create(
        &service,
        &json!({"id": "frank", "name": " Frank Ä. ", "email": "f@example.com"}),
    )
    .await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["location"], "/users/frank");
    let user = json!({"id": "frank", "name": "Frank Ä.", "email": "f@example.com"});
    assert_eq!(response.json::<Value>().await.unwrap(), user);
    assert_eq!(get(&service, "/users/frank").await, (200, user));

    let again = create(
        &service,
        &json!({"id": "frank", "name": "Other", "email": "o@example.com"}),
    )
    .await;
    assert_eq!(again.status(), 409);
    assert_eq!(
        again.json::<Value>().await.unwrap(),
        json!({
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "detail": "there is a user frank already, choose another id",
        })
    );
}

async fn of_many_who_create_the_same_user_at_once_one_does(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let user = json!({"id": "grace", "name": "Grace", "email": "g@example.com"});
    let mut creating = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let request = client().post(format!("{}/users", service.url)).json(&user);
        creating.spawn(async { request.send().await.unwrap().status().as_u16() });
    }
    let mut statuses = creating.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert_eq!(statuses[1..], [409; 15]);
}

async fn a_user_who_cannot_be_is_refused_with_the_member_that_is_wrong(store: Store) {
    let service = Running::start(&store, &SERVICE, &[]).await;
    let email = "not an email address, write one such as alice@example.com";
    let name = "not a name, write 1 to 100 characters on one line";
    for (member, value, detail) in [
        ("email", "nobody".to_owned(), email),
        ("email", "@example.com".to_owned(), email),
        ("email", "a b@example.com".to_owned(), email),
        ("email", format!("{}@example.com", "x".repeat(243)), email),
        ("name", "  ".to_owned(), name),
        ("name", "A\nB".to_owned(), name),
        ("name", "x".repeat(101), name),
        (
            "id",
            "../admin".to_owned(),
            "\"../admin\" is not an id, write 1 to 64 of a-z, A-Z, 0-9, '.', '_', '-', '@', \
             beginning with a letter or digit",
        ),
    ] {
        let mut user = json!({"id": "h", "name": "H", "email": "h@example.com"});
        user[member] = value.into();
        let response = create(&service, &user).await;
        assert_eq!(response.status(), 422);
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            json!({
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "the body cannot be used as it is",
                "errors": [{"pointer": format!("#/{member}"), "detail": detail}],
            })
        );
    }
}
