//! What is no HTTP, or too much of it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Api;

/// What is no HTTP costs its own connection only.
#[tokio::test]
async fn what_is_no_http_is_no_harm() {
    let api = Api::new().await;
    for (method, headers) in [("\u{1}\u{2}", ""), ("GET", "No colon\r\n"), ("GET", "Content-Length: x\r\n")] {
        let head = api.send(method, "/_ping", headers, "").await.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
    let many: String = (0..200).map(|number| format!("X-{number}: x\r\n")).collect();
    let head = api.send("GET", "/_ping", &many, "").await.head().await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert_eq!(api.get("/_ping").await.text(), "OK");
}

/// A head that comes in one piece is limited, too: not only one that is still on its way.
#[tokio::test]
async fn a_head_is_limited_however_it_comes() {
    let api = Api::new().await;
    let large = |bytes: usize| format!("GET /_ping HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(bytes));
    for (bytes, status) in [(65_000, 200), (65_536, 431), (66_000, 431), (70_000, 431), (130_000, 431), (900_000, 431)]
    {
        let mut connection = api.send_raw(large(bytes).as_bytes()).await;
        let head = connection.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {head}");
    }
    let path = format!("/containers/{}/json", "x".repeat(65_000));
    let (status, message) = api.get(&path).await.error();
    assert_eq!((status, message.len()), (404, "No such container: ".len() + 65_000));
    for (bytes, statuses) in [(65_530, [431, 414]), (66_000, [431, 414]), (200_000, [431, 414])] {
        let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(bytes));
        let head = api.send_raw(request.as_bytes()).await.head().await;
        assert!(statuses.iter().any(|status| head.starts_with(&format!("HTTP/1.1 {status} "))), "{bytes}: {head}");
    }
}

#[tokio::test]
async fn a_body_is_limited_however_it_comes() {
    let api = Api::new().await;
    let announced = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{}";
    let head = api.send_raw(announced.as_bytes()).await.head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    let piece = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    let chunked = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = api.send_raw(format!("{chunked}{}", piece.repeat(5)).as_bytes()).await.head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    // A body that nobody wants is as little a way in.
    let unwanted = announced.replace("/containers/create", "/build");
    let head = api.send_raw(unwanted.as_bytes()).await.head().await;
    assert!(head.starts_with("HTTP/1.1 501 "), "{head}");
}

/// As moby answers it.
#[tokio::test]
async fn the_head_of_a_ping_has_a_length() {
    let api = Api::new().await;
    for path in ["/_ping", "/v1.51/_ping", "/internal/v1/_ping"] {
        let ping = api.send("HEAD", path, "", "").await.only_head().await;
        assert_eq!((ping.status, ping.header("content-length")), (200, Some("0")), "{}", ping.head);
        assert_eq!(ping.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(ping.header("api-version"), Some("1.51"));
    }
    let refused = api.send("HEAD", "/containers/x/archive", "", "").await.only_head().await;
    let told = api.get("/containers/x/archive").await;
    assert_eq!((refused.status, refused.header("content-length")), (501, told.header("content-length")));
    assert!(told.body.len() > 20);
}

/// Over TCP, a connection that closes before the client has sent everything is reset, and takes the answer with it.
#[tokio::test]
async fn refusal_is_seen_by_a_client_that_sends_a_large_body() {
    let api = Api::new().await;
    let long = format!("X-Long: {}\r\n", "x".repeat(100 << 10));
    for (path, headers, status, words) in [
        ("/v1.60/build", "", 400, "client version 1.60 is too new"),
        ("/no/such/page", "", 404, "page not found"),
        ("/containers/create", "Content-Type: application/json\r\n", 413, "4194304"),
        ("/containers/x/start", "Content-Type: application/json\r\n", 413, "4194304"),
        ("/build", long.as_str(), 431, ""),
    ] {
        // More than the buffers of both sides hold.
        let body = " ".repeat(8 << 20);
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let length = format!("Content-Length: {}\r\n", body.len());
        for (length, body) in [(length.as_str(), &body), ("Transfer-Encoding: chunked\r\n", &chunk)] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{length}{headers}\r\n");
            let mut client = TcpStream::connect(api.address).await.unwrap();
            let sent = client.write_all(format!("{head}{body}").as_bytes()).await;
            assert!(sent.is_ok(), "{path} {length}: {sent:?}");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {length}: {answer}");
            assert!(answer.contains(words), "{path} {length}: {answer}");
        }
    }
}
