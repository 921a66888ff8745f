//! Long lists: they are streamed by pages, with every item once, and broken off when they cannot be finished.

use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::support::Api;

/// Containers: several pages of the store by number, and by size where they are large.
const FEW: usize = 60;
const MANY: usize = 250;

async fn sql(api: &Api, statement: &'static str) {
    let options = SqliteConnectOptions::new().filename(api.database());
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// `count` containers with labels of a given size, the first one created first.
async fn containers(api: &Api, count: usize, label_bytes: usize) {
    let body = json!({ "Image": "alpine", "Labels": { "long": "x".repeat(label_bytes) } });
    for number in 0..count {
        api.create(&format!("c{number}"), &body).await;
    }
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["Names"][0].as_str().unwrap()[1..].to_owned()).collect()
}

fn newest_first(count: usize) -> Vec<String> {
    (0..count).rev().map(|number| format!("c{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_has_every_container_once() {
    let api = Api::new().await;
    containers(&api, MANY, 1).await;
    assert_eq!(names(&api.get("/containers/json?all=1").await.json()), newest_first(MANY));
    assert_eq!(names(&api.get("/containers/json?limit=130").await.json()), newest_first(MANY)[..130]);
    let usage = api.get("/system/df").await.json();
    assert_eq!(names(&usage["Containers"]), newest_first(MANY));
    assert_eq!(usage["Images"][0]["Containers"], MANY);
    api.post("/containers/c7/start").await;
    assert_eq!(names(&api.get("/containers/json").await.json()), ["c7"]);
    let info = api.get("/info").await.json();
    assert_eq!((&info["Containers"], &info["ContainersRunning"]), (&json!(MANY), &json!(1)));
    let pruned = api.post("/containers/prune").await.json();
    assert_eq!(pruned["ContainersDeleted"].as_array().unwrap().len(), MANY - 1);
    assert_eq!(names(&api.get("/containers/json?all=1").await.json()), ["c7"]);
}

/// A part that looks like the whole would be worse than no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_store_fails_in_the_middle_is_broken_off() {
    let api = Api::new().await;
    containers(&api, FEW, 60_000).await;
    for path in ["/containers/json?all=1", "/system/df"] {
        let mut slow = api.send_locally("GET", path, "Connection: close\r\n", "").await;
        assert!(slow.head().await.starts_with("HTTP/1.1 200 "), "{path}");
        sql(&api, "ALTER TABLE image RENAME TO image_elsewhere").await;
        assert_eq!(api.get(path).await.status, 500, "before the first byte a failure has a status");
        let rest = slow.rest().await;
        assert!(rest.len() > 100_000 && !rest.ends_with(b"0\r\n\r\n"), "{path}: {} bytes, and an end", rest.len());
        sql(&api, "ALTER TABLE image_elsewhere RENAME TO image").await;
        assert_eq!(api.get(path).await.status, 200);
    }
}

/// Clients that read nothing hold no connection of the store: more of them than it has.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_a_list_hinder_nobody() {
    let api = Api::new().await;
    containers(&api, FEW, 60_000).await;
    let mut slow = Vec::new();
    for path in ["/containers/json?all=1", "/system/df"].repeat(8) {
        let mut connection = api.send_locally("GET", path, "Connection: close\r\n", "").await;
        connection.head().await;
        slow.push(connection);
    }
    assert_eq!(names(&api.get("/containers/json?all=1").await.json()), newest_first(FEW));
    assert_eq!(api.get("/containers/c1/json").await.status, 200);
    for mut connection in slow {
        assert!(connection.rest().await.ends_with(b"0\r\n\r\n"), "each gets the whole when it reads");
    }
}
