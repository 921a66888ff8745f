//! Images, which are only names here, and the events of everything.

use serde_json::{Value, json};

use crate::support::{Api, filters, plain};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_pull_records_a_name() {
    let api = Api::new().await;
    for (path, body, tag, name) in [
        ("/images/create?fromImage=alpine&tag=3.18", "", "3.18", "alpine:3.18"),
        ("/images/create?fromImage=docker.io/library/busybox:1", "", "1", "busybox:1"),
        ("/images/create?fromImage=ghcr.io/a/b", "", "latest", "ghcr.io/a/b:latest"),
        (
            "/internal/v1/images/pull",
            "{\"Reference\":\"docker.io/library/debian:12\",\"Auth\":\"\"}",
            "12",
            "debian:12",
        ),
    ] {
        let answer = api.ask("POST", path, body).await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "docker-py reads lines only from pieces");
        let lines = lines(&answer.text());
        assert_eq!((answer.status, &lines[0]["id"]), (200, &json!(tag)), "{path}");
        let last = lines.last().unwrap()["status"].as_str().unwrap();
        assert!(last.starts_with("Status: ") && last.ends_with(name), "{last}");
        assert_eq!(api.get(&format!("/images/{name}/json")).await.json()["RepoTags"], json!([name]), "{path}");
    }
    assert_eq!(api.get("/internal/v1/images/inspect?name=ghcr.io/a/b").await.status, 200);
    assert_eq!(api.get("/internal/v1/images/ghcr.io%2Fa%2Fb").await.status, 200);
    assert_eq!(api.get("/images/json").await.json().as_array().unwrap().len(), 4);
    for (path, body) in
        [("/images/create", ""), ("/internal/v1/images/pull", "{}"), ("/images/create?fromImage=A%20B", "")]
    {
        assert_eq!(api.ask("POST", path, body).await.error().0, 400, "{path}");
    }
    for (platform, sentence) in [
        ("foo", "\"foo\": unknown operating system or architecture: invalid argument"),
        ("windows/amd64", "platform: Lambda runs linux/amd64 and linux/arm64, not \"windows/amd64\""),
    ] {
        let answer = api.post(&format!("/images/create?fromImage=alpine&platform={platform}")).await;
        assert_eq!(answer.error(), (400, sentence.to_owned()));
    }
    assert_eq!(api.post("/images/create?fromImage=alpine&platform=linux/arm64").await.status, 200);
}

#[tokio::test]
async fn tags_come_and_go() {
    let api = Api::new().await;
    assert_eq!(api.get("/images/json").await.text(), "[]\n");
    let missing = (404, "No such image: nope:latest".to_owned());
    assert_eq!(api.get("/images/nope/json").await.error(), missing);
    assert_eq!(api.ask("DELETE", "/images/nope", "").await.error(), missing);
    api.create("user", &plain()).await;
    assert_eq!(api.post("/images/alpine/tag?repo=mine/app&tag=1").await.status, 201);
    assert_eq!(api.post("/internal/v1/images/tag?name=alpine&repo=mine/app&tag=2").await.status, 201);
    // A tag means what it was made of, and is shown as it was named.
    api.create("tagged", &json!({ "Image": "mine/app:1" })).await;
    let tagged = api.get("/containers/tagged/json").await.json();
    let shown = (&tagged["Config"]["Image"], &tagged["Sockerless"]["ImageUri"]);
    assert_eq!(shown, (&json!("mine/app:1"), &json!("alpine:latest")));
    assert_eq!(api.ask("DELETE", "/containers/tagged", "").await.status, 204);
    let image = api.get("/images/mine/app:1/json").await.json();
    assert_eq!(image["RepoTags"].as_array().unwrap().len(), 3);
    assert_eq!(api.get("/images/alpine/history").await.json().as_array().unwrap().len(), 1);
    let (status, message) = api.ask("DELETE", "/images/alpine", "").await.error();
    assert!(status == 409 && message.contains("is using its referenced image"), "{message}");
    let gone = api.ask("DELETE", "/internal/v1/images/mine%2Fapp:2", "").await;
    assert_eq!(gone.json(), json!([{ "Untagged": "mine/app:2" }]));
    assert_eq!(api.get("/images/mine/app:2/json").await.status, 404);
    assert_eq!(api.ask("DELETE", "/containers/user", "").await.status, 204);
    let pruned = api.post(&format!("/images/prune?{}", filters(&json!({ "dangling": ["false"] })))).await.json();
    assert_eq!(pruned["ImagesDeleted"].as_array().unwrap().len(), 3, "{pruned}");
}

#[tokio::test]
async fn events_are_replayed_and_go_on() {
    let api = Api::new().await;
    api.ended("one", &plain(), 7).await;
    let path = format!("/events?since=1&{}", filters(&json!({ "type": ["container"], "label": ["team=blue"] })));
    let mut events = api.send("GET", &path, "Accept: application/json-seq;q=0.5\r\n", "").await;
    assert!(events.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    let replayed = events.until("\"Action\":\"die\"").await;
    assert!(replayed.contains("\"Action\":\"create\"") && replayed.contains("\"exitCode\":\"7\""), "{replayed}");
    assert!(!replayed.contains("pull"), "{replayed}");
    let mut news = api.send_locally("GET", "/internal/v1/events", "", "").await;
    assert!(news.head().await.starts_with("HTTP/1.1 200 OK\r\n"), "at once, before anything happens");
    assert_eq!(api.post("/containers/one/rename?name=two").await.status, 204);
    assert_eq!(api.ask("DELETE", "/containers/two", "").await.status, 204);
    for stream in [&mut events, &mut news] {
        let read = stream.until("\"Action\":\"rename\"").await;
        assert!(read.contains("\"Type\":\"container\""), "{read}");
    }
    assert!(!news.until("\"Action\":\"rename\"").await.contains("\"create\""), "nothing old");
    let closed = api.get("/events?since=1&until=2").await;
    assert_eq!((closed.status, closed.text().as_str()), (200, ""));
}
