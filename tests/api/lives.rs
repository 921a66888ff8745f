//! A container's life as clients see it: every wish, and every fact that follows.

use serde_json::json;

use crate::support::{Api, filters, plain};

async fn names(api: &Api, query: &str) -> Vec<String> {
    let list = api.get(&format!("/containers/json?{query}")).await.json();
    let name = |item: &serde_json::Value| item["Names"][0].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test]
async fn what_was_created_is_shown() {
    let api = Api::new().await;
    assert_eq!(api.get("/containers/json?all=1").await.text(), "[]\n", "never null");
    let id = api.create("one", &plain()).await;
    assert_eq!(id.len(), 64);
    for named in [id.as_str(), &id[..12], "one", "%2Fone"] {
        for path in [format!("/containers/{named}/json"), format!("/internal/v1/containers/{named}")] {
            let shown = api.get(&path).await.json();
            assert_eq!((&shown["Id"], &shown["Name"]), (&json!(id), &json!("/one")), "{path}");
            assert_eq!(shown["State"]["Status"], "created");
            assert_eq!(shown["State"]["StartedAt"], "0001-01-01T00:00:00Z");
            assert_eq!((&shown["Config"]["Tty"], &shown["HostConfig"]["AutoRemove"]), (&json!(false), &json!(false)));
            assert_eq!(shown["HostConfig"]["LogConfig"]["Type"], "json-file");
            assert!(shown["HostConfig"]["NetworkMode"].is_string() && shown["Sockerless"].is_object());
            assert_eq!(shown["NetworkSettings"]["Networks"].as_object().unwrap().len(), 1);
        }
    }
}

#[tokio::test]
async fn lists_and_their_filters() {
    let api = Api::new().await;
    api.create("made", &json!({ "Image": "busybox:1", "Labels": { "a": "1", "b": "2" } })).await;
    api.ended("over", &plain(), 7).await;
    api.running("runs", &plain()).await;
    assert_eq!(names(&api, "").await, ["/runs"]);
    assert_eq!(names(&api, "all=true").await, ["/runs", "/over", "/made"], "newest first");
    assert_eq!(names(&api, "all=1&limit=2").await, ["/runs", "/over"]);
    for (filter, expected) in [
        (json!({ "label": ["a=1", "b"] }), vec!["/made"]),
        (json!({ "label": { "a=2": true } }), vec![]),
        (json!({ "label!": ["team"] }), vec!["/made"]),
        (json!({ "name": ["^/?ru", "ov"] }), vec!["/runs", "/over"]),
        (json!({ "status": ["exited"] }), vec!["/over"]),
        (json!({ "status": ["created", "running"] }), vec!["/runs", "/made"]),
        (json!({ "exited": ["7"] }), vec!["/over"]),
        (json!({ "exited": ["0"] }), vec![]),
        (json!({ "ancestor": ["busybox:1"] }), vec!["/made"]),
        (json!({ "before": ["over"] }), vec!["/made"]),
        (json!({ "since": ["over"] }), vec!["/runs"]),
    ] {
        assert_eq!(names(&api, &format!("all=1&{}", filters(&filter))).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_wait_is_answered_at_once_and_ends_with_the_run() {
    let api = Api::new().await;
    let id = api.create("one", &plain()).await;
    let mut waits = Vec::new();
    for prefix in ["", "/v1.24", "/internal/v1"] {
        let path = format!("{prefix}/containers/{id}/wait?condition=next-exit");
        waits.push(api.send("POST", &path, "Connection: close\r\n", "").await);
        waits.push(api.send_locally("POST", &path, "Connection: close\r\n", "").await);
    }
    for wait in &mut waits {
        let head = wait.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
    }
    for status in [204, 304] {
        assert_eq!(api.post(&format!("/containers/{id}/start")).await.status, status);
    }
    api.issue(&id).await;
    assert!(waits[0].is_silent().await);
    api.exit(&id, 7).await;
    for wait in &mut waits {
        assert_eq!(wait.all().await.text(), "{\"StatusCode\":7}\n");
    }
    assert_eq!(api.post("/containers/one/wait").await.text(), "{\"StatusCode\":7}\n");
}

#[tokio::test]
async fn stop_kill_and_restart_in_both_spellings() {
    let api = Api::new().await;
    let id = api.create("one", &plain()).await;
    let not_running = format!("cannot kill container: one: container {id} is not running");
    assert_eq!(api.post("/containers/one/stop").await.status, 304);
    assert_eq!(api.post("/containers/one/kill").await.error(), (409, not_running));
    for verb in ["stop", "kill"] {
        assert_eq!(api.post(&format!("/internal/v1/containers/one/{verb}")).await.status, 204);
    }
    // A start that was not issued yet is taken back.
    assert_eq!(api.post("/containers/one/restart").await.status, 204);
    assert_eq!(api.post("/containers/one/stop?t=1").await.status, 204);
    assert_eq!(api.get("/containers/one/json").await.json()["State"]["ExitCode"], 137);
    // An issued one runs on.
    api.running("two", &plain()).await;
    for path in ["/containers/two/stop", "/containers/two/kill?signal=9", "/internal/v1/containers/two/stop"] {
        assert_eq!(api.post(path).await.status, 204, "{path}");
    }
    assert_eq!(api.get("/containers/two/json").await.json()["State"]["Running"], true);
    let (status, message) = api.post("/containers/two/restart").await.error();
    assert!(status == 409 && message.contains("Lambda cannot stop an invocation"), "{message}");
    let remove = api.ask("DELETE", "/containers/two?v=1", "").await.error();
    let running =
        "cannot remove container \"two\": container is running: stop the container before removing or force remove";
    assert_eq!(remove, (409, running.to_owned()));
    assert_eq!(api.ask("DELETE", "/containers/two?force=1", "").await.status, 204);
    assert_eq!(api.get("/containers/two/json").await.status, 404);
}

#[tokio::test]
async fn names_change_and_containers_go() {
    let api = Api::new().await;
    let first = api.ended("one", &plain(), 0).await;
    api.create("two", &plain()).await;
    let in_use = format!(
        "Error when allocating new name: Conflict. The container name \"/one\" is already in use by container \
         \"{first}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    assert_eq!(api.post("/containers/two/rename?name=one").await.error(), (409, in_use));
    assert_eq!(api.post("/containers/two/rename?name=three").await.status, 204);
    assert_eq!(names(&api, "all=1").await, ["/three", "/one"]);
    assert_eq!(api.ask("DELETE", "/containers/three", "").await.status, 204);
    let query = filters(&json!({ "label": ["team=red"] }));
    let none = api.post(&format!("/containers/prune?{query}")).await.json();
    assert_eq!(none, json!({ "ContainersDeleted": [], "SpaceReclaimed": 0 }));
    let pruned = api.post("/internal/v1/containers/prune").await.json();
    assert_eq!(pruned, json!({ "ContainersDeleted": [first], "SpaceReclaimed": 0 }));
    assert_eq!(api.get("/containers/json?all=1").await.text(), "[]\n");
}

#[tokio::test]
async fn a_removed_container_is_remembered_for_those_who_wait() {
    let api = Api::new().await;
    let body = json!({ "Image": "alpine", "HostConfig": { "AutoRemove": true } });
    let id = api.running("one", &body).await;
    let path = format!("/containers/{id}/wait?condition=removed");
    let mut removed = api.send("POST", &path, "Connection: close\r\n", "").await;
    removed.head().await;
    api.exit(&id, 3).await;
    assert!(removed.is_silent().await);
    api.auto_remove(&id).await;
    assert_eq!(removed.all().await.text(), "{\"StatusCode\":3}\n");
    assert_eq!(api.post(&format!("/containers/{id}/wait")).await.text(), "{\"StatusCode\":3}\n");
    assert_eq!(api.get(&format!("/containers/{id}/json")).await.status, 404);
}

#[tokio::test]
async fn why_a_container_cannot_start_is_told_once() {
    let api = Api::new().await;
    let id = api.create("one", &json!({ "Image": "alpine", "HostConfig": { "AutoRemove": true } })).await;
    api.refuse(&id, "no such image").await;
    let path = format!("/containers/{id}/wait?condition=removed");
    let mut removed = api.send("POST", &path, "Connection: close\r\n", "").await;
    removed.head().await;
    let (status, message) = api.post("/containers/one/start").await.error();
    assert!(status == 400 && message.contains("no such image"), "{status} {message}");
    assert_eq!(removed.all().await.text(), "{\"StatusCode\":125}\n", "docker run would print it again");
    assert_eq!(api.get("/containers/one/json").await.status, 404);
}
