//! Requests that a page of another site could send: cross-site request forgery and DNS rebinding.

use sockerless_lambda::api::endpoints;

use crate::support::{Answer, Api, plain};

/// The request of a page: what a browser sends without asking first.
async fn posted(api: &Api, path: &str, headers: &str, body: &str) -> Answer {
    api.send("POST", path, &format!("Connection: close\r\n{headers}"), body).await.all().await
}

fn nothing_is_allowed_across_origins(answer: &Answer) {
    assert!(!answer.head.to_ascii_lowercase().contains("access-control-"), "{}", answer.head);
}

#[tokio::test]
async fn post_with_foreign_origin_is_refused() {
    let api = Api::new().await;
    let id = api.create("one", &plain()).await;
    let other_scheme = format!("https://{}", api.address);
    for origin in ["https://evil.example", "null", "http://localhost", "", &other_scheme] {
        let created = "/containers/create?name=two".to_owned();
        for (path, body) in [(created, plain().to_string()), (format!("/containers/{id}/start"), String::new())] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                api.address,
                body.len()
            );
            let mut answers = vec![api.send_raw_over_tcp(request.as_bytes()).await.all().await];
            // Behind a Unix socket the scheme is not known: a proxy may have spoken TLS.
            if origin != other_scheme {
                answers.push(api.send_raw(request.as_bytes()).await.all().await);
            }
            for answer in answers {
                let (status, message) = answer.error();
                assert!(status == 403 && message.starts_with("requests from other origins are refused: "), "{origin}");
                nothing_is_allowed_across_origins(&answer);
            }
        }
    }
    assert_eq!(api.get("/containers/two/json").await.status, 404);
    assert_eq!(api.container(&id).await.spec.starts, 0);
}

/// Every line of the route table, upgrades, paths that no route knows, and methods that none has.
#[tokio::test]
async fn foreign_origin_is_refused_on_every_path_and_method() {
    let api = Api::new().await;
    let mut asked = vec![
        ("GET".to_owned(), "/nowhere".to_owned()),
        ("OPTIONS".to_owned(), "/containers/create".to_owned()),
        ("OPTIONS".to_owned(), "*".to_owned()),
        ("PATCH".to_owned(), "/internal/v1/volumes".to_owned()),
        ("GET".to_owned(), "/v9.99/info".to_owned()),
    ];
    for endpoint in endpoints() {
        let prefix = if endpoint.internal { "/internal/v1" } else { "" };
        let path = format!("{prefix}{}", endpoint.template.replace(['{', '}', '*'], ""));
        asked.push((endpoint.method.unwrap_or("GET").to_owned(), path));
    }
    assert!(asked.len() > 100, "{}", asked.len());
    for (method, path) in asked {
        for upgrade in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Connection: Upgrade\r\nUpgrade: tcp\r\n"]
        {
            let headers = format!("Origin: https://evil.example\r\n{upgrade}");
            let answer = api.send(&method, &path, &headers, "").await.only_head().await;
            assert_eq!(answer.status, 403, "{method} {path}");
            nothing_is_allowed_across_origins(&answer);
        }
    }
}

#[tokio::test]
async fn request_of_same_origin_is_answered() {
    let api = Api::new().await;
    let headers = format!("Host: {0}\r\nOrigin: http://{0}\r\nConnection: close\r\n", api.address);
    let request = format!("GET /_ping HTTP/1.1\r\n{headers}\r\n");
    let answer = api.send_raw_over_tcp(request.as_bytes()).await.all().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "OK"));
    nothing_is_allowed_across_origins(&answer);
}

#[tokio::test]
async fn preflight_is_never_granted() {
    let api = Api::new().await;
    let headers =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\nConnection: close\r\n";
    let answer = api.send("OPTIONS", "/containers/create", headers, "").await.all().await;
    assert_eq!(answer.status, 404);
    nothing_is_allowed_across_origins(&answer);
}

#[tokio::test]
async fn foreign_host_on_loopback_listener_is_refused() {
    let api = Api::new().await;
    for (lines, status) in [
        ("Host: localhost\r\n", 200),
        ("Host: 127.0.0.1:2375\r\n", 200),
        ("Host: [::1]:2375\r\n", 200),
        ("Host: docker.internal:2375\r\n", 200),
        ("Host: evil.example\r\n", 403),
        ("Host: evil.example:2375\r\nOrigin: http://evil.example:2375\r\n", 403),
        ("Host: docker\r\n", 403),
        ("", 400),
        ("Host: \r\n", 400),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
        ("Host: localhost\r\nHost: evil.example\r\n", 400),
        ("Host: localhost evil.example\r\n", 400),
        ("Host: user@localhost\r\n", 400),
    ] {
        for (path, target_status) in [("/_ping", 200), ("/healthz", 200), ("/nowhere", 404)] {
            let request = format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n");
            let answer = api.send_raw_over_tcp(request.as_bytes()).await.all().await;
            assert_eq!(answer.status, if status == 200 { target_status } else { status }, "{lines:?} {path}");
            if status != 200 {
                assert!(answer.error().1.contains(if status == 400 { "Host header" } else { "allowed_hosts" }));
            }
            let local = api.send_raw(request.as_bytes()).await.all().await;
            assert_eq!(local.status, target_status, "{lines:?} {path}: there is no rule for Unix sockets");
        }
    }
}

#[tokio::test]
async fn target_in_absolute_form_names_a_host_too() {
    let api = Api::new().await;
    for (target, host, status) in [
        ("http://localhost/_ping", "localhost", 200),
        ("http://evil.example/_ping", "localhost", 400),
        ("http://localhost/_ping", "evil.example", 400),
        ("http://evil.example/_ping", "evil.example", 403),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(api.send_raw_over_tcp(request.as_bytes()).await.all().await.status, status, "{target} {host}");
    }
}

#[tokio::test]
async fn body_of_another_type_is_refused_and_creates_nothing() {
    let api = Api::new().await;
    let body = plain().to_string();
    let id = api.create("one", &plain()).await;
    for (kind, said) in [
        ("Content-Type: text/plain\r\n", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "unsupported Content-Type header (application/x-www-form-urlencoded): must be 'application/json'",
        ),
        ("Content-Type:\r\n", "unsupported Content-Type header (): must be 'application/json'"),
    ] {
        for path in [
            "/containers/create?name=two".to_owned(),
            "/internal/v1/containers?name=two".to_owned(),
            "/internal/v1/images/pull".to_owned(),
            "/auth".to_owned(),
            format!("/containers/{id}/start"),
            "/containers/prune".to_owned(),
        ] {
            assert_eq!(posted(&api, &path, kind, &body).await.error(), (400, said.to_owned()), "{path}");
            let chunked = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\n{kind}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            );
            assert_eq!(api.send_raw(chunked.as_bytes()).await.all().await.error(), (400, said.to_owned()), "{path}");
        }
    }
    let untyped = format!(
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let malformed = "malformed Content-Type header (): mime: no media type".to_owned();
    assert_eq!(api.send_raw(untyped.as_bytes()).await.all().await.error(), (400, malformed));
    assert_eq!(api.get("/containers/two/json").await.status, 404);
    assert_eq!(api.container(&id).await.spec.starts, 0);
    let with_charset = "Content-Type: application/json; charset=utf-8\r\n";
    assert_eq!(posted(&api, "/containers/create", with_charset, &body).await.status, 201);
}

/// What real clients send: an empty body with any type, tar where tar is due, streams that are taken over.
#[tokio::test]
async fn types_that_docker_clients_send_are_taken() {
    let api = Api::new().await;
    let id = api.create("one", &plain()).await;
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/octet-stream\r\n",
        "Content-Type: application/tar\r\n",
    ] {
        assert!(matches!(posted(&api, &format!("/containers/{id}/start"), kind, "").await.status, 204 | 304), "{kind}");
        let pulled = posted(&api, "/images/create?fromImage=busybox", kind, "").await;
        assert_eq!(pulled.status, 200, "{kind}");
        let chunked = format!(
            "POST /containers/prune HTTP/1.1\r\nHost: x\r\n{kind}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        );
        assert_eq!(api.send_raw(chunked.as_bytes()).await.all().await.status, 200, "{kind}");
    }
    let tar = "Content-Type: application/x-tar\r\n";
    for path in ["/build", "/images/load?quiet=1", "/images/create?fromSrc=-&repo=foo"] {
        assert_eq!(posted(&api, path, tar, "tar").await.status, 501, "{path}");
    }
    let hijacked = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: text/plain\r\n";
    let mut attached =
        api.send_locally("POST", &format!("/containers/{id}/attach?stream=1&stdout=1"), hijacked, "").await;
    assert!(attached.head().await.starts_with("HTTP/1.1 101 "));
}
