//! The daemon itself: ping, versions, capabilities, info, health.

use serde_json::json;
use sockerless_lambda::clock::Clock;

use crate::support::{Api, plain};

#[tokio::test]
async fn ping_tells_clients_what_they_need() {
    let api = Api::new().await;
    for (method, body) in [("GET", "OK"), ("HEAD", "")] {
        for path in ["/_ping", "/v1.24/_ping", "/internal/v1/_ping"] {
            let answer = api.ask(method, path, "").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, body), "{method} {path}");
            for (header, value) in [
                ("Api-Version", "1.51"),
                ("Docker-Experimental", "false"),
                ("Ostype", "linux"),
                ("Swarm", "inactive"),
                ("Builder-Version", "1"),
            ] {
                assert_eq!(answer.header(header), Some(value), "{header} of {method} {path}");
            }
            assert!(answer.header("Server").is_some());
        }
    }
}

#[tokio::test]
async fn versions_have_bounds() {
    let api = Api::new().await;
    for good in ["", "/v1.24", "/v1.32", "/v1.51"] {
        assert_eq!(api.get(&format!("{good}/version")).await.status, 200, "{good}");
    }
    for (version, sentence) in [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
        ),
    ] {
        assert_eq!(api.get(&format!("/v{version}/info")).await.error(), (400, sentence.to_owned()));
    }
    for (method, path) in
        [("GET", "/nowhere"), ("PUT", "/containers/json"), ("GET", "/capabilities"), ("GET", "/internal/v2/info")]
    {
        assert_eq!(api.ask(method, path, "").await.error(), (404, "page not found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn capabilities_are_exact_in_both_places() {
    let api = Api::new().await;
    let flags = json!({
        "exec": false, "attach": false, "logs": true, "logs_follow": false, "volumes": false, "networks": false,
        "health_checks": false, "image_pull": true, "image_load": false, "max_timeout_seconds": 900,
        "agent_required": false
    });
    let mut expected = flags.clone();
    expected["backend"] = json!("lambda");
    expected["version"] = json!(env!("CARGO_PKG_VERSION"));
    expected["capabilities"] = flags;
    assert_eq!(api.get("/internal/v1/capabilities").await.json(), expected);
}

#[tokio::test]
async fn info_and_version_have_the_keys_that_clients_read() {
    let api = Api::new().await;
    api.running("one", &plain()).await;
    for path in ["/info", "/internal/v1/info"] {
        let info = api.get(path).await.json();
        for key in [
            "ID",
            "Name",
            "ServerVersion",
            "Containers",
            "ContainersRunning",
            "ContainersPaused",
            "ContainersStopped",
            "Images",
            "Driver",
            "OperatingSystem",
            "OSType",
            "Architecture",
            "NCPU",
            "MemTotal",
            "KernelVersion",
        ] {
            assert!(!info[key].is_null(), "{key} of {path}");
        }
        assert_eq!(
            (&info["Containers"], &info["ContainersRunning"], &info["Images"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert_eq!(info["OperatingSystem"], "AWS Lambda");
    }
    for path in ["/version", "/internal/v1/version"] {
        let version = api.get(path).await.json();
        assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.51"), &json!("1.24")), "{path}");
    }
}

#[tokio::test]
async fn health_disk_usage_and_credentials() {
    let api = Api::new().await;
    assert_eq!(api.get("/healthz").await.status, 200);
    let unready = api.get("/readyz").await;
    assert_eq!((unready.status, &unready.json()["status"]), (503, &json!("not ready")));
    api.health.beat(Clock::real().now());
    assert_eq!(api.get("/readyz").await.json(), json!({ "status": "ready", "problems": {} }));
    let df = api.get("/system/df").await.json();
    assert_eq!((&df["LayersSize"], &df["Containers"], &df["Volumes"]), (&json!(0), &json!([]), &json!([])));
    let auth = api.ask("POST", "/auth", "{\"username\":\"x\",\"password\":\"y\"}").await;
    assert!(auth.status == 200 && auth.json()["Status"].as_str().unwrap().contains("not used"), "{}", auth.text());
}
