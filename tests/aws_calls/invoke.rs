use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sockerless_lambda::aws::{AwsError, AwsErrorKind, InvokeReply, InvokeRequest};

use crate::server::{Reply, SECRET, Server, answer, cloud, error};

const PAYLOAD: &str = r#"{"password":"hunter2"}"#;

pub(crate) fn request() -> InvokeRequest {
    InvokeRequest {
        function_name: "f".to_owned(),
        asynchronous: false,
        payload: PAYLOAD.as_bytes().to_vec(),
        client_context: Some(r#"{"custom":{"token":"t1"}}"#.to_owned()),
        answer_within: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn a_request_and_its_response() {
    let tail = "START RequestId: r-1 Version: $LATEST\nhällo\n";
    let server = Server::start([answer(200, r#"{"ok":true}"#)
        .with("x-amzn-requestid", "r-1")
        .with("x-amz-log-result", &STANDARD.encode(tail))])
    .await;
    let reply = server.cloud().await.invoke(&request()).await.unwrap();
    let expected = InvokeReply {
        request_id: Some("r-1".to_owned()),
        status: 200,
        function_error: None,
        payload: br#"{"ok":true}"#.to_vec(),
        log_tail: Some(tail.to_owned()),
    };
    assert_eq!(reply, expected);

    let request = server.request();
    assert_eq!(request.what(), "POST /2015-03-31/functions/f/invocations");
    assert_eq!(request.header("x-amz-invocation-type"), Some("RequestResponse"));
    assert_eq!(request.header("x-amz-log-type"), Some("Tail"));
    let context = STANDARD.encode(r#"{"custom":{"token":"t1"}}"#);
    assert_eq!(request.header("x-amz-client-context"), Some(context.as_str()));
    assert_eq!(request.json(), json!({ "password": "hunter2" }));
}

#[tokio::test]
async fn a_function_that_failed_is_a_reply() {
    let body = r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: r-1 Error: exit status 3"}"#;
    // The tail may begin within a character.
    let tail = STANDARD.encode([0x84, b'x']);
    let reply = answer(200, body).with("x-amz-function-error", "Unhandled").with("x-amz-log-result", &tail);
    let server = Server::start([reply]).await;
    let reply = server.cloud().await.invoke(&request()).await.unwrap();
    assert_eq!(reply.function_error.as_deref(), Some("Unhandled"));
    assert_eq!(reply.payload, body.as_bytes());
    assert_eq!(reply.log_tail.as_deref(), Some("\u{fffd}x"));
    assert_eq!(reply.request_id, None);
}

#[tokio::test]
async fn an_event_is_accepted() {
    let server = Server::start([answer(202, "").with("x-amzn-requestid", "r-2")]).await;
    let event = InvokeRequest { asynchronous: true, client_context: None, ..request() };
    let reply = server.cloud().await.invoke(&event).await.unwrap();
    assert_eq!((reply.status, reply.request_id.as_deref()), (202, Some("r-2")));
    assert_eq!((reply.payload.as_slice(), reply.log_tail), (&b""[..], None));
    let request = server.request();
    assert_eq!(request.header("x-amz-invocation-type"), Some("Event"));
    assert_eq!(request.header("x-amz-log-type"), None);
    assert_eq!(request.header("x-amz-client-context"), None);
}

/// Invokes against a server that does this; there is one request at most, and no secret is told.
async fn failure(reply: Reply, answer_within: Duration) -> AwsError {
    let server = Server::start([reply.clone()]).await;
    let error = server.cloud().await.invoke(&InvokeRequest { answer_within, ..request() }).await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "{reply:?}");
    tells_no_secret(&error);
    error
}

fn tells_no_secret(error: &AwsError) {
    for secret in ["hunter2", SECRET, "AKIDEXAMPLE"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
}

#[tokio::test]
async fn there_is_one_attempt_whatever_happens() {
    let long = Duration::from_secs(20);
    let rows = [
        (Reply::Close, long, AwsErrorKind::NoAnswer),
        (Reply::Reset, long, AwsErrorKind::NoAnswer),
        (Reply::Silence, Duration::from_millis(100), AwsErrorKind::NoAnswer),
        (Reply::Half, long, AwsErrorKind::Malformed),
        (error(500, "ServiceException", "later"), long, AwsErrorKind::ServiceError),
        (error(429, "TooManyRequestsException", "Rate Exceeded."), long, AwsErrorKind::Throttled),
        (error(503, "ServiceUnavailable", ""), long, AwsErrorKind::ServiceError),
    ];
    for (reply, answer_within, kind) in rows {
        let error = failure(reply.clone(), answer_within).await;
        assert_eq!(error.kind, kind, "{reply:?}: {error}");
        assert_eq!(error.kind.surely_not_done(), kind == AwsErrorKind::Throttled);
    }
}

#[tokio::test]
async fn a_connection_that_was_used_before_gives_no_second_attempt() {
    let server = Server::start([answer(200, "1"), Reply::Close]).await;
    let cloud = server.cloud().await;
    cloud.invoke(&request()).await.unwrap();
    let error = cloud.invoke(&request()).await.unwrap_err();
    assert_eq!(error.kind, AwsErrorKind::NoAnswer);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    // The socket holds the port, and does not listen.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    for url in [format!("http://{address}"), format!("https://{address}")] {
        let error = cloud(&url).await.invoke(&request()).await.unwrap_err();
        assert_eq!(error.kind, AwsErrorKind::Unreachable, "{error}");
        assert!(error.kind.surely_not_done());
        assert!(error.message.starts_with("nothing was sent"), "{error}");
        assert!(error.message.contains("onnection refused"), "{error}");
    }
}

#[tokio::test]
async fn a_failed_handshake_sends_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let error = cloud(&format!("https://{address}")).await.invoke(&request()).await.unwrap_err();
    assert_eq!(error.kind, AwsErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("handshake"), "{error}");
}

/// The SDK prints the whole request, with the payload, into this error.
#[tokio::test]
async fn an_address_that_is_none_tells_no_secret() {
    let error = cloud("nonsense").await.invoke(&request()).await.unwrap_err();
    tells_no_secret(&error);
    assert_eq!(error.kind, AwsErrorKind::Unreachable);
    assert_eq!(error.to_string(), "lambda: invoke: endpoint must contain scheme");
}
