//! Containers whose rows cannot be read, as clients see them.

use serde_json::{Value, json};
use sockerless_lambda::clock::Clock;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::support::Api;

/// Changes a row by hand, in a schema that refuses nothing.
async fn damage(api: &Api, set: &str, name: &str) {
    let mut connection = SqliteConnectOptions::new().filename(api.database()).connect().await.unwrap();
    for sql in
        ["PRAGMA ignore_check_constraints = ON".to_owned(), format!("UPDATE container SET {set} WHERE name = '{name}'")]
    {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

async fn damage_image(api: &Api, set: &str, reference: &str) {
    let mut connection = SqliteConnectOptions::new().filename(api.database()).connect().await.unwrap();
    let sql = format!("UPDATE image SET {set} WHERE reference = '{reference}'");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

fn body(label: &str) -> Value {
    json!({ "Image": "alpine", "Cmd": ["true"], "Labels": { "job": label } })
}

/// The names that a list has, with filters as JSON.
async fn names(api: &Api, query: &str, filters: &str) -> Vec<String> {
    let filters: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
    let list = api.get(&format!("/containers/json?{query}&filters={filters}")).await.json();
    let name = |item: &Value| item["Names"][0].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn container_that_cannot_be_read_is_dead_and_removed_by_force() {
    let api = Api::new().await;
    api.create("old", &body("a")).await;
    let id = api.running("web", &body("b")).await;
    api.create("new", &body("c")).await;
    damage(&api, "status = '{\"secret'", "web").await;

    assert_eq!(names(&api, "all=1", "{}").await, ["/new", "/web", "/old"], "in its place");
    assert_eq!(names(&api, "", "{}").await, [""; 0], "it does not count as running");
    assert_eq!(names(&api, "", r#"{"status":["dead"]}"#).await, ["/web"]);
    assert_eq!(names(&api, "all=1", r#"{"name":["e"]}"#).await, ["/new", "/web"]);
    assert_eq!(names(&api, "all=1", r#"{"label":["job=b"]}"#).await, [""; 0]);
    assert_eq!(names(&api, "all=1&limit=2", "{}").await, ["/new", "/web"]);
    assert_eq!(names(&api, "all=1", r#"{"since":["web"]}"#).await, ["/new"]);
    let item = api.get("/containers/json?all=1").await.json()[1].clone();
    assert_eq!((&item["State"], &item["Status"], &item["Id"]), (&json!("dead"), &json!("Dead"), &json!(id)));
    assert!(item["Created"].as_i64().unwrap() > 0);

    let shown = api.get("/containers/web/json").await.json();
    let state = &shown["State"];
    assert_eq!((&state["Status"], &state["Dead"], &state["Running"]), (&json!("dead"), &json!(true), &json!(false)));
    let reason = state["Error"].as_str().unwrap();
    assert!(
        reason.contains("container web is dead: its record cannot be read (status: cut off at byte 8)"),
        "{reason}"
    );
    assert!(reason.contains("\"docker rm -f web\" removes it") && !reason.contains("secret"), "{reason}");

    for (method, path) in [
        ("POST", "/containers/web/start"),
        ("POST", "/containers/web/restart"),
        ("POST", "/containers/web/stop"),
        ("POST", "/containers/web/kill"),
        ("POST", "/containers/web/wait"),
        ("POST", "/containers/web/rename?name=other"),
        ("POST", "/containers/web/attach?stdout=1&stream=1"),
        ("GET", "/containers/web/logs?stdout=1"),
        ("GET", "/containers/web/stats?stream=false"),
        ("DELETE", "/containers/web"),
    ] {
        let answer = api.ask(method, path, "").await;
        assert_eq!((answer.status, answer.json()["message"].as_str()), (409, Some(reason)), "{method} {path}");
    }
    assert_eq!(api.get("/info").await.json()["Containers"], 3);
    let df = api.get("/system/df").await.json();
    assert_eq!(df["Containers"].as_array().unwrap().len(), 3);
    assert_eq!(api.get("/images/json").await.status, 200);
    let pruned = api.post("/containers/prune").await.json();
    assert_eq!(pruned["ContainersDeleted"].as_array().unwrap().len(), 2, "whether it runs is not known: {pruned}");

    api.health.beat(Clock::real().now());
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")));
    let rows = ready.json()["problems"]["rows"].clone();
    assert_eq!(rows, "1 rows of the database cannot be read (container: 1)");
    assert_eq!(api.ask("DELETE", "/containers/web?force=1", "").await.status, 204);
    assert_eq!(api.get("/containers/web/json").await.status, 404);
    assert_eq!(api.get("/readyz").await.json()["status"], "ready");
    let waited = api.post(&format!("/containers/{id}/wait")).await.json();
    assert_eq!(waited["StatusCode"], 125, "{waited}");
    assert!(waited["Error"]["Message"].as_str().unwrap().contains("could not be read"), "{waited}");
    assert_eq!(names(&api, "all=1", "{}").await, [""; 0]);
    api.create("web", &body("b")).await;
}

#[tokio::test]
async fn container_without_a_readable_id_is_shown_with_a_number_that_removes_it() {
    let api = Api::new().await;
    for name in ["one", "two"] {
        api.create(name, &body("a")).await;
    }
    damage(&api, "id = x'01'", "one").await;
    damage(&api, "id = x'02', name = ''", "two").await;
    let list = api.get("/containers/json?all=1").await.json();
    assert_eq!((&list[0]["Id"], &list[1]["Id"]), (&json!("~2"), &json!("~1")), "{list}");
    assert_eq!(api.get("/containers/one/json").await.json()["Id"], "~1");
    assert_eq!(api.ask("DELETE", "/containers/one", "").await.status, 409);
    assert_eq!(api.ask("POST", "/containers/create?name=one", &body("a").to_string()).await.status, 409);
    for handle in ["one", "~2"] {
        let answer = api.ask("DELETE", &format!("/containers/{handle}?force=1"), "").await;
        assert_eq!(answer.status, 204, "{handle}: {}", answer.text());
    }
    assert_eq!(api.get("/containers/json?all=1").await.json(), json!([]));
}

#[tokio::test]
async fn event_that_cannot_be_read_is_left_out() {
    let api = Api::new().await;
    for name in ["one", "two", "three"] {
        api.create(name, &body("a")).await;
    }
    let mut connection = SqliteConnectOptions::new().filename(api.database()).connect().await.unwrap();
    let damage = "UPDATE event SET attributes = '{' WHERE seq <= (SELECT max(seq) FROM event) - 1";
    sqlx::query(damage).execute(&mut connection).await.unwrap();
    let now = Clock::real().now().as_secs() + 1;
    let events = api.get(&format!("/events?since=0&until={now}")).await.text();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["Actor"]["Attributes"]["name"], "three");
}

#[tokio::test]
async fn image_reference_that_cannot_be_read_is_removed_by_its_name_unless_a_container_uses_it() {
    let api = Api::new().await;
    api.create("web", &body("a")).await;
    assert_eq!(api.post("/images/create?fromImage=debian&tag=12").await.status, 200);
    for reference in ["docker.io/library/debian:12", "docker.io/library/alpine:latest"] {
        damage_image(&api, "id = CAST(x'ff' AS TEXT)", reference).await;
    }
    let answer = api.ask("DELETE", "/images/debian:12", "").await;
    assert_eq!((answer.status, &answer.json()[0]), (200, &json!({ "Untagged": "debian:12" })));
    assert_eq!(api.ask("DELETE", "/images/debian:12", "").await.status, 404);

    damage(&api, "status = '{'", "web").await;
    let used = api.ask("DELETE", "/images/alpine", "").await;
    assert_eq!(used.status, 409, "a dead container uses it, too: {}", used.json());
    assert_eq!(api.ask("DELETE", "/images/alpine?force=1", "").await.status, 200);
    assert_eq!(api.ask("DELETE", "/images/alpine", "").await.status, 404);
}
