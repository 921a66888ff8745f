//! What a client gets wrong, and the words it is told.

use serde_json::{Value, json};

use crate::support::{Api, filters, plain};

async fn refused(api: &Api, body: &Value) -> (u16, String) {
    api.ask("POST", "/containers/create", &body.to_string()).await.error()
}

#[tokio::test]
async fn bodies_that_are_no_container() {
    let api = Api::new().await;
    for (body, sentence) in [
        ("", "invalid JSON: got EOF"),
        ("{x", "invalid JSON: "),
        ("[]", "invalid JSON: a map is needed"),
        ("{}", "config cannot be empty in order to create a container"),
        ("{\"Cmd\":[\"true\"]}", "Image: the name of an image is needed"),
        ("{\"Image\":1}", "invalid JSON: Image: a string is needed"),
        ("{\"Image\":\"a\",\"Env\":[1]}", "invalid JSON: Env: a list of strings is needed"),
        ("{\"Image\":\"a\",\"HostConfig\":[]}", "invalid JSON: HostConfig: a map is needed"),
        (
            "{\"Image\":\"a\",\"HostConfig\":{\"Memory\":\"1\"}}",
            "invalid JSON: HostConfig.Memory: a whole number is needed",
        ),
    ] {
        for path in ["/containers/create", "/internal/v1/containers"] {
            let (status, message) = api.ask("POST", path, body).await.error();
            assert!(status == 400 && message.starts_with(sentence), "{body}: {message}");
        }
    }
    let nulls = json!({ "Image": "a", "Cmd": null, "Env": null, "Labels": null, "HostConfig": null, "Unknown": [1] });
    api.create("nulls", &nulls).await;
}

#[tokio::test]
async fn settings_out_of_range_name_the_field_and_the_limit() {
    let api = Api::new().await;
    let label =
        |name: &str, value: &str| json!({ "Image": "a", "Labels": { format!("sockerless.lambda.{name}"): value } });
    let native =
        |env: &str| json!({ "Image": "a", "Env": [env], "Labels": { "sockerless.lambda.protocol": "native" } });
    for (body, field, limit) in [
        (json!({ "Image": "a", "HostConfig": { "Memory": 20_000_000_000_u64 } }), "HostConfig.Memory", "10240"),
        (label("memory", "10241"), "sockerless.lambda.memory", "10240"),
        (label("memory", "127"), "sockerless.lambda.memory", "128"),
        (label("timeout", "901"), "sockerless.lambda.timeout", "900"),
        (label("timeout", "0"), "sockerless.lambda.timeout", "900"),
        (label("nope", "1"), "sockerless.lambda.nope", "no such setting"),
        (native(&format!("A1={}", "x".repeat(4_096))), "Env", "4096"),
        (native("AWS_REGION=x"), "AWS_REGION", "reserved"),
        (native("A-B=x"), "A-B", "no name"),
        (json!({ "Image": "a", "Env": ["=x"] }), "environment variable", "=x"),
    ] {
        let (status, message) = refused(&api, &body).await;
        assert!(status == 400 && message.contains(field) && message.contains(limit), "{body}: {status} {message}");
    }
}

#[tokio::test]
async fn what_a_function_cannot_have() {
    let api = Api::new().await;
    let no_source = "invalid mount config for type \"bind\": bind source path does not exist: /nope/x";
    for host in [json!({ "Binds": ["/nope/x:/y"] }), json!({ "Mounts": [{ "Type": "bind", "Source": "/nope/x" }] })] {
        let body = json!({ "Image": "a", "HostConfig": host });
        assert_eq!(refused(&api, &body).await, (400, no_source.to_owned()));
    }
    for (host, field) in [
        (json!({ "Binds": ["named:/y"] }), "HostConfig.Binds"),
        (json!({ "Privileged": true }), "HostConfig.Privileged"),
        (json!({ "NetworkMode": "mine" }), "HostConfig.NetworkMode"),
        (json!({ "Devices": [{}] }), "HostConfig.Devices"),
    ] {
        let (status, message) = refused(&api, &json!({ "Image": "a", "HostConfig": host })).await;
        assert!(status == 501 && message.starts_with(field), "{status} {message}");
    }
    let harmless = json!({ "Image": "a", "HostConfig": { "PublishAllPorts": true, "CpuShares": 2 } });
    let answer = api.ask("POST", "/containers/create", &harmless.to_string()).await;
    assert_eq!((answer.status, answer.json()["Warnings"].as_array().unwrap().len()), (201, 2), "{}", answer.text());
}

#[tokio::test]
async fn names_and_ids() {
    let api = Api::new().await;
    let id = api.create("taken", &plain()).await;
    let in_use = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    );
    for path in ["/containers/create?name=taken", "/internal/v1/containers?name=/taken"] {
        assert_eq!(api.ask("POST", path, "{\"Image\":\"a\"}").await.error(), (409, in_use.clone()));
    }
    let bad = api.ask("POST", "/containers/create?name=a%20b", "{\"Image\":\"a\"}").await.error();
    assert_eq!(bad, (400, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed".to_owned()));
    // More containers than hexadecimal digits: two ids begin alike.
    let mut ids = vec![id];
    for number in 0..16 {
        ids.push(api.create(&format!("c{number}"), &plain()).await);
    }
    let first = |id: &String| id[..1].to_owned();
    let twice = ids.iter().map(first).find(|digit| ids.iter().filter(|id| first(id) == *digit).count() > 1).unwrap();
    let ambiguous = format!("multiple IDs found with provided prefix: {twice}");
    assert_eq!(api.get(&format!("/containers/{twice}/json")).await.error(), (400, ambiguous));
    for (method, path) in [
        ("GET", "/containers/nope/json"),
        ("GET", "/internal/v1/containers/nope"),
        ("DELETE", "/containers/nope"),
        ("POST", "/containers/nope/start"),
        ("POST", "/containers/nope/stop"),
        ("POST", "/containers/nope/kill"),
        ("POST", "/containers/nope/restart"),
        ("POST", "/containers/nope/wait"),
        ("POST", "/containers/nope/rename?name=ab"),
        ("POST", "/containers/nope/attach"),
        ("GET", "/containers/nope/logs?stdout=1"),
        ("GET", "/containers/nope/stats"),
    ] {
        let answer = api.ask(method, path, "").await;
        assert_eq!(answer.error(), (404, "No such container: nope".to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn parameters_that_cannot_be_read() {
    let api = Api::new().await;
    api.create("ax", &plain()).await;
    let nobody = filters(&json!({ "before": ["nobody"] }));
    for query in [&nobody, "since=nobody", "before=nobody"] {
        let answer = api.get(&format!("/containers/json?{query}")).await;
        assert_eq!(answer.error(), (404, "No such container: nobody".to_owned()), "{query}");
    }
    let unknown = filters(&json!({ "foo": ["x"] }));
    for (method, path, sentence) in [
        ("GET", format!("/containers/json?{unknown}"), "invalid filter 'foo'"),
        ("GET", format!("/images/json?{unknown}"), "invalid filter 'foo'"),
        ("GET", format!("/events?{unknown}"), "invalid filter 'foo'"),
        ("GET", "/containers/json?filters=%7Bx".to_owned(), "invalid filter"),
        ("POST", "/containers/ax/wait?condition=foo".to_owned(), "invalid condition: \"foo\""),
        ("POST", "/containers/ax/kill?signal=FOO".to_owned(), "cannot kill container: ax: invalid signal: FOO"),
        ("POST", "/containers/ax/rename".to_owned(), "Neither old nor new names may be empty"),
        ("GET", "/containers/ax/logs".to_owned(), "must specify at least one of 'stdout' or 'stderr'"),
        (
            "GET",
            "/containers/ax/logs?stdout=1&since=abc".to_owned(),
            "invalid value for \"since\": invalid timestamp \"abc\": invalid seconds \"abc\": invalid syntax",
        ),
    ] {
        assert_eq!(api.ask(method, &path, "").await.error(), (400, sentence.to_owned()), "{method} {path}");
    }
}

#[tokio::test]
async fn too_much_is_answered() {
    let api = Api::new().await;
    let body = format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20));
    let (status, _) = api.ask("POST", "/containers/create", &body).await.error();
    assert_eq!(status, 413);
    let mut long = api.send("GET", "/_ping", &format!("X-Long: {}\r\n", "x".repeat(256 << 10)), "").await;
    let head = long.head().await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert_eq!(api.get("/_ping").await.status, 200, "and others are served");
}
