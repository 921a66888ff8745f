//! What the backend cannot do, in every spelling.

use sockerless_lambda::config::DockerApi;

use crate::support::Api;

const EXEC: &str = "This backend (lambda) does not support exec. CI runners require exec-capable backends (ecs, cloudrun, aca, docker).";
const ATTACH: &str = "This backend (lambda) does not support attach. CI runners require exec-capable backends (ecs, cloudrun, aca, docker).";
const NETWORKS: &str = "This backend (lambda) does not support networks.";
const VOLUMES: &str = "This backend (lambda) does not support volumes.";

/// The same words in both spellings.
const EVERYWHERE: &[(&str, &str, &str)] = &[
    ("POST", "/containers/x/exec", EXEC),
    ("GET", "/exec/x", EXEC),
    ("GET", "/exec/x/json", EXEC),
    ("POST", "/exec/x/start", EXEC),
    ("POST", "/exec/x/resize", EXEC),
    ("GET", "/containers/x/attach/ws", ATTACH),
    (
        "POST",
        "/images/load",
        "This backend (lambda) does not support image load. Push the image to Amazon ECR: Lambda pulls it from there.",
    ),
    (
        "POST",
        "/build",
        "This backend (lambda) does not support build. Build the image elsewhere and push it to Amazon ECR.",
    ),
    (
        "POST",
        "/images/a%2Fb/push",
        "This backend (lambda) does not support push: it holds no image data. Push to Amazon ECR from where the image was built.",
    ),
    (
        "POST",
        "/commit",
        "This backend (lambda) does not support commit: a function leaves no file system behind. Build an image instead.",
    ),
    (
        "GET",
        "/containers/x/archive?path=/",
        "This backend (lambda) does not support copying files (archive): a function has no file system that outlives it. Put files into the image, and results into S3 or the log.",
    ),
    (
        "PUT",
        "/containers/x/archive?path=/",
        "This backend (lambda) does not support copying files (archive): a function has no file system that outlives it. Put files into the image, and results into S3 or the log.",
    ),
    (
        "GET",
        "/containers/x/export",
        "This backend (lambda) does not support export: a function has no file system that outlives it. Export the image instead.",
    ),
    (
        "GET",
        "/containers/x/changes",
        "This backend (lambda) does not support changes (diff): a function has no file system that outlives it.",
    ),
    (
        "GET",
        "/containers/x/top",
        "This backend (lambda) does not support top: the processes of a function cannot be listed. Let the program write to its log.",
    ),
    (
        "POST",
        "/containers/x/pause",
        "This backend (lambda) does not support pause: a running invocation cannot be held. Split the work into several containers.",
    ),
    (
        "POST",
        "/containers/x/unpause",
        "This backend (lambda) does not support unpause: a running invocation cannot be held.",
    ),
    (
        "POST",
        "/containers/x/update",
        "This backend (lambda) does not support update. Remove the container and create it with the new settings.",
    ),
    ("GET", "/images/search?term=x", "This backend (lambda) does not support image search. Search in Amazon ECR."),
    (
        "GET",
        "/images/a/get",
        "This backend (lambda) does not support image save: it holds no image data. Pull the image from Amazon ECR.",
    ),
    (
        "GET",
        "/distribution/a/json",
        "This backend (lambda) does not support distribution inspect. Ask Amazon ECR for the image's manifest.",
    ),
    (
        "POST",
        "/session",
        "This backend (lambda) does not support sessions: images are built elsewhere and pushed to Amazon ECR.",
    ),
    ("POST", "/swarm/init", "This backend (lambda) does not support swarm."),
];

/// Only in the internal spelling.
const INTERNALLY: &[(&str, &str, &str)] = &[
    ("POST", "/containers/x/attach", ATTACH),
    ("POST", "/containers/x/resize", "This backend (lambda) does not support resize."),
    ("GET", "/containers/x/stats", "This backend (lambda) does not support stats. Lambda's metrics are in CloudWatch."),
    ("GET", "/networks", NETWORKS),
    ("POST", "/networks", NETWORKS),
    ("POST", "/networks/create", NETWORKS),
    ("DELETE", "/networks/x", NETWORKS),
    ("POST", "/networks/x/connect", NETWORKS),
    ("POST", "/networks/prune", NETWORKS),
    ("GET", "/volumes", VOLUMES),
    ("POST", "/volumes", VOLUMES),
    ("GET", "/volumes/x", VOLUMES),
    ("PUT", "/volumes/x", VOLUMES),
    ("DELETE", "/volumes/x", VOLUMES),
];

#[tokio::test]
async fn what_cannot_be_done_is_said_in_the_same_words() {
    let api = Api::new().await;
    for (method, path, sentence) in EVERYWHERE {
        for prefix in ["/internal/v1", "", "/v1.44"] {
            let answer = api.ask(method, &format!("{prefix}{path}"), "{\"Cmd\":[\"sh\"]}").await;
            assert_eq!(answer.error(), (501, (*sentence).to_owned()), "{method} {prefix}{path}");
        }
    }
    for (method, path, sentence) in INTERNALLY {
        let answer = api.ask(method, &format!("/internal/v1{path}"), "{}").await;
        assert_eq!(answer.error(), (501, (*sentence).to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn a_refusal_answers_a_request_for_an_upgrade_too() {
    let api = Api::new().await;
    for path in ["/internal/v1/containers/x/attach?stream=1", "/exec/x/start"] {
        let mut connection = api.send("POST", path, "Connection: Upgrade\r\nUpgrade: tcp\r\n", "").await;
        connection.until("exec-capable backends (ecs, cloudrun, aca, docker).\"}").await;
        let head = connection.head().await;
        assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
    }
}

#[tokio::test]
async fn what_dockers_clients_list_before_anything_else_is_there() {
    let api = Api::new().await;
    let networks = api.get("/networks").await;
    let names: Vec<_> = networks.json().as_array().unwrap().iter().map(|network| network["Name"].clone()).collect();
    assert_eq!((networks.status, names), (200, vec!["bridge".into(), "host".into(), "none".into()]));
    assert_eq!(api.get("/networks/bridge").await.json()["Driver"], "bridge");
    assert_eq!(api.get("/volumes").await.json()["Volumes"], serde_json::json!([]));
    assert_eq!(api.get("/plugins").await.json(), serde_json::json!([]));
    for (method, path, status) in [
        ("GET", "/networks/nope", 404),
        ("GET", "/volumes/nope", 404),
        ("GET", "/plugins/a/b/json", 404),
        ("POST", "/networks/prune", 200),
        ("POST", "/volumes/prune", 200),
        ("POST", "/build/prune", 200),
        ("POST", "/images/prune", 200),
        ("POST", "/containers/prune", 200),
        ("POST", "/networks/create", 501),
        ("POST", "/networks/bridge/connect", 501),
        ("DELETE", "/networks/bridge", 501),
        ("POST", "/volumes/create", 501),
        ("DELETE", "/volumes/x", 501),
        ("POST", "/plugins/pull", 501),
    ] {
        assert_eq!(api.ask(method, path, "").await.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn no_swarm_is_said_as_docker_says_it() {
    let api = Api::new().await;
    for path in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/services/x", "/internal/v1/nodes"]
    {
        let (status, message) = api.get(path).await.error();
        assert_eq!(status, 503, "{path}");
        assert!(message.starts_with("This node is not a swarm manager."), "{message}");
    }
}

#[tokio::test]
async fn strict_gives_dockers_spelling_the_internal_answers() {
    let api = Api::spelled(DockerApi::Strict).await;
    for (method, path, sentence) in [
        ("POST", "/containers/x/attach", ATTACH),
        ("GET", "/v1.51/networks", NETWORKS),
        ("GET", "/networks/bridge", NETWORKS),
        ("POST", "/networks/prune", NETWORKS),
        ("GET", "/volumes", VOLUMES),
        ("POST", "/volumes/prune", VOLUMES),
        ("GET", "/plugins", "This backend (lambda) does not support plugins."),
        ("POST", "/networks/create", NETWORKS),
        ("DELETE", "/volumes/x", VOLUMES),
        (
            "GET",
            "/containers/x/stats",
            "This backend (lambda) does not support stats. Lambda's metrics are in CloudWatch.",
        ),
    ] {
        assert_eq!(api.ask(method, path, "").await.error(), (501, sentence.to_owned()), "{method} {path}");
    }
}
