//! The OpenAPI document describes what the daemon does: every answer below is judged by it, and none that it promises is
//! left out.

use serde_json::{Value, json};
use sockerless_lambda::clock::Clock;

use crate::described::Described;
use crate::support::{Api, plain};

/// The answers of handlers that this test does not ask for.
const ELSEWHERE: &[(&str, &str)] = &[("ContainerAttach", "101")];

async fn walk_docker(api: &Api) {
    read_docker(api).await;
    change_docker(api).await;
}

async fn read_docker(api: &Api) {
    let now = Clock::real().now();
    api.ended("one", &plain(), 3).await;
    api.running("two", &plain()).await;
    api.create("three", &json!({ "Image": "alpine", "HostConfig": { "RestartPolicy": { "Name": "on-failure" } } }))
        .await;
    for path in [
        "/_ping",
        "/healthz",
        "/readyz",
        "/info",
        "/version",
        "/system/df",
        &format!("/events?since=1&until={now}"),
        "/containers/json?all=1",
        "/containers/one/json",
        "/containers/two/json",
        "/containers/one/logs?stdout=1&stderr=1",
        "/containers/one/stats?stream=0",
        "/images/json",
        "/images/alpine/json",
        "/images/docker.io/library/alpine:latest/history",
        "/networks",
        "/networks/bridge",
        "/volumes",
        "/volumes/none",
        "/plugins",
        "/plugins/none/json",
        "/containers/missing/json",
        "/images/missing/json",
        "/containers/json?filters=x",
        "/containers/one/top",
    ] {
        api.get(path).await;
    }
    api.health.beat(Clock::real().now());
    api.get("/readyz").await;
    api.ask("HEAD", "/_ping", "").await;
}

async fn change_docker(api: &Api) {
    for path in [
        "/containers/two/start",
        "/containers/three/start",
        "/containers/three/stop",
        "/containers/three/stop",
        "/containers/three/kill",
        "/containers/two/kill",
        "/containers/two/restart",
        "/containers/three/restart",
        "/containers/three/rename?name=four",
        "/containers/four/rename?name=one",
        "/containers/one/wait",
        "/containers/one/attach?logs=1&stdout=1",
        "/containers/one/resize?h=1&w=1",
        "/containers/one/exec",
        "/images/create?fromImage=busybox",
        "/images/busybox/tag?repo=box",
        "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D",
        "/images/load",
        "/build/prune",
        "/networks/prune",
        "/networks/create",
        "/volumes/prune",
        "/containers/prune",
        "/swarm/init",
    ] {
        api.post(path).await;
    }
    api.ask("POST", "/auth", "{}").await;
    api.ask("DELETE", "/containers/two", "").await;
    api.ask("DELETE", "/containers/two?force=1", "").await;
    api.ask("POST", "/images/create?fromImage=busybox", "").await;
    api.ask("DELETE", "/images/busybox", "").await;
}

async fn walk_internal(api: &Api) {
    for name in ["five", "six"] {
        let answer = api.ask("POST", &format!("/internal/v1/containers?name={name}"), &plain().to_string()).await;
        assert_eq!(answer.status, 201);
    }
    api.ended("seven", &plain(), 0).await;
    for (method, path, body) in [
        ("GET", "/_ping", ""),
        ("HEAD", "/_ping", ""),
        ("GET", "/capabilities", ""),
        ("GET", "/openapi.json", ""),
        ("GET", "/info", ""),
        ("GET", "/version", ""),
        ("GET", "/system/df", ""),
        ("POST", "/auth", "{}"),
        ("GET", "/containers", ""),
        ("GET", "/containers/five", ""),
        ("GET", "/containers/five/stats", ""),
        ("GET", "/containers/seven/logs?stdout=1", ""),
        ("POST", "/containers/five/start", ""),
        ("POST", "/containers/five/start", ""),
        ("POST", "/containers/five/stop", ""),
        ("POST", "/containers/five/kill", ""),
        ("POST", "/containers/six/restart", ""),
        ("POST", "/containers/five/rename?name=eight", ""),
        ("POST", "/containers/seven/wait", ""),
        ("POST", "/containers/seven/attach", ""),
        ("DELETE", "/containers/eight", ""),
        ("POST", "/containers/prune", ""),
        ("POST", "/images/pull", "{\"Reference\":\"docker.io/library/busybox:latest\"}"),
        ("GET", "/images", ""),
        ("GET", "/images/inspect?name=busybox", ""),
        ("GET", "/images/busybox", ""),
        ("GET", "/images/busybox/history", ""),
        ("POST", "/images/tag?name=busybox&repo=crate", ""),
        ("POST", "/images/busybox/tag?repo=barrel", ""),
        ("DELETE", "/images/barrel", ""),
        ("POST", "/images/prune", ""),
        ("GET", "/networks/bridge", ""),
        ("PATCH", "/volumes", ""),
        ("GET", "/nodes", ""),
    ] {
        api.ask(method, &format!("/internal/v1{path}"), body).await;
    }
    let now = Clock::real().now();
    api.get(&format!("/internal/v1/events?since=1&until={now}")).await;
}

#[tokio::test]
async fn every_answer_that_is_promised_is_given_as_it_is_promised() {
    let api = Api::new().await;
    let document = api.get("/internal/v1/openapi.json").await.json();
    let described = Described::known().unwrap();
    walk_docker(&api).await;
    walk_internal(&api).await;
    let mut missing = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values().filter(|value| value.get("operationId").is_some()) {
            let id = operation["operationId"].as_str().unwrap();
            for status in
                operation["responses"].as_object().unwrap().keys().filter(|status| *status < &"400".to_owned())
            {
                if !described.has_seen(id, status) && !ELSEWHERE.contains(&(id, status)) {
                    missing.push(format!("{status} of {id} ({path})"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[tokio::test]
async fn a_document_for_generators() {
    let api = Api::new().await;
    let answer = api.get("/internal/v1/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let create = &document["paths"]["/containers/create"]["post"];
    assert_eq!(
        create["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/ContainerCreate"
    );
    let memory = &document["components"]["schemas"]["HostConfigWanted"]["properties"]["Memory"]["anyOf"][0];
    assert_eq!(memory["type"], "integer");
    let names: Vec<&Value> = document["paths"]["/containers/{id}/rename"]["post"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["name"]);
}
