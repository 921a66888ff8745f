//! The admin surface, and bad input.

use std::time::Duration;

use aws_sdk_lambda::types::InvocationType;
use sockerless_sandbox::settings::{Settings, Span};
use sockerless_sandbox::{Options, Programs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Aws, FOREVER_MS, by_payload};

fn options() -> Options {
    Options { identity: "me".to_owned(), ..Options::new(Settings::instant(), Programs::scripted(by_payload)) }
}

pub(crate) async fn send(aws: &Aws, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(aws.sandbox.endpoint().trim_start_matches("http://")).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The sandbox may reset a connection that sends nonsense.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(aws: &Aws, method: &str, operation: &str, body: &str) -> (String, serde_json::Value) {
    let length = body.len();
    let request = format!(
        "{method} /_sandbox/{operation} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer = send(aws, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn identity_state_and_faults() {
    let aws = Aws::with(options()).await;
    let (_, identity) = ask(&aws, "GET", "identity", "").await;
    assert_eq!((&identity["identity"], &identity["pid"]), (&"me".into(), &std::process::id().into()));
    let rule = r#"{"rules":[{"operation":"CreateFunction","nth":1,"kind":{"type":"access_denied"}}]}"#;
    assert_eq!(ask(&aws, "POST", "faults", rule).await.0, "HTTP/1.1 200 OK");
    assert!(aws.create("f").send().await.is_err());
    aws.create("f").tags("owner", "me").send().await.unwrap();
    let payload = r#"{"sockerless":{"version":1,"token":"abc","command":[]}}"#;
    aws.lambda
        .invoke()
        .function_name("f")
        .payload(aws_sdk_lambda::primitives::Blob::new(payload))
        .send()
        .await
        .unwrap();
    let (_, state) = ask(&aws, "GET", "state", "").await;
    assert_eq!(state["functions"][0]["tags"]["owner"], "me");
    assert_eq!(state["functions"][0]["state"], "Active");
    assert_eq!(state["invocations"][0]["token"], "abc");
    assert_eq!(state["invocations"][0]["kind"], "RequestResponse");
    assert_eq!(state["calls"]["CreateFunction"], 2);
    assert_eq!(state["log_streams"][crate::GROUP], 1);
    let (_, calls) = ask(&aws, "GET", "calls", "").await;
    let of = |call: &serde_json::Value| call["operation"].as_str().unwrap().to_owned();
    let operations: Vec<String> = calls.as_array().unwrap().iter().map(of).collect();
    assert_eq!(
        operations,
        ["CreateFunction", "CreateFunction", "Invoke", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    );
    assert_eq!(calls[0]["resource_tags"], serde_json::Value::Null, "refused calls are recorded, too");
    assert_eq!((&calls[1]["request_tags"]["owner"], &calls[1]["tag_keys"][0]), (&"me".into(), &"owner".into()));
    assert_eq!((&calls[2]["resource"], &calls[2]["resource_tags"]["owner"]), (&"f".into(), &"me".into()));
    assert_eq!((&calls[4]["by_role"], &calls[4]["resource"]), (&calls[1]["role"], &crate::GROUP.into()));
    assert!(calls[4]["stream"].as_str().unwrap().contains("/f[$LATEST]"), "{calls}");
    assert!(ask(&aws, "POST", "faults", "{\"rules\":1}").await.0.contains("400"));
    assert!(ask(&aws, "GET", "nothing", "").await.0.contains("404"));
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn it_stops_when_idle() {
    let mut busy = options();
    busy.settings.timing.event_delay = Span::exactly(FOREVER_MS);
    let aws = Aws::with(busy).await;
    aws.create("f").send().await.unwrap();
    aws.lambda.invoke().function_name("f").invocation_type(InvocationType::Event).send().await.unwrap();
    assert_eq!(ask(&aws, "POST", "stop", r#"{"when_idle":true}"#).await.1["stopping"], false);
    aws.create("g").send().await.unwrap();
    assert_eq!(ask(&aws, "POST", "stop", "").await.1["stopping"], true);
    aws.sandbox.ended().await;
    aws.sandbox.stop().await;

    let aws = Aws::with(options()).await;
    assert_eq!(ask(&aws, "POST", "stop", r#"{"when_idle":true}"#).await.1["stopping"], true);
    aws.sandbox.ended().await;
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn it_ends_alone_but_not_while_attended() {
    let limit = Duration::from_secs(1);
    let aws = Aws::with(Options { alone_limit: Some(limit), ..options() }).await;
    let mut attendant = TcpStream::connect(aws.sandbox.endpoint().trim_start_matches("http://")).await.unwrap();
    attendant.write_all(b"GET /_sandbox/attend HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    attendant.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert!(tokio::time::timeout(limit * 2, aws.sandbox.ended()).await.is_err());
    drop(attendant);
    tokio::time::timeout(Duration::from_secs(20), aws.sandbox.ended()).await.unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused() {
    let aws = Aws::with(options()).await;
    let post = |path: &str, headers: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (request, expected) in [
        (post("/2015-03-31/functions", "", "{"), "SerializationException"),
        (post("/2015-03-31/functions", "", "[]"), "SerializationException"),
        (post("/2015-03-31/functions", "", "{}"), "ValidationException"),
        (post("/2015-03-31/functions/%ff%00/invocations", "", "{}"), "ValidationException"),
        (post("/2015-03-31/functions/x/invocations", "X-Amz-Invocation-Type: Often\r\n", "{}"), "ValidationException"),
        (post("/2099-01-01/x", "", "{}"), "UnknownOperationException"),
        (post("/", "X-Amz-Target: Logs_20140328.Nothing\r\n", "{}"), "UnknownOperationException"),
        (post("/", "X-Amz-Target: Logs_20140328.Invoke\r\n", "{}"), "UnknownOperationException"),
        (post("/", "X-Amz-Target: Logs_20140328.FilterLogEvents\r\n", "[1"), "SerializationException"),
        (post("/", "X-Amz-Target: Logs_20140328.FilterLogEvents\r\n", r#"{"limit":-1}"#), "InvalidParameterException"),
    ] {
        let answer = send(&aws, request.as_bytes()).await;
        assert!(answer.contains(expected), "{request}\n{answer}");
        assert!(answer.contains("x-amzn-requestid: "), "{answer}");
    }
    let from_a_page = post("/2015-03-31/functions", "Origin: http://example.com\r\n", "{}");
    assert!(send(&aws, from_a_page.as_bytes()).await.starts_with("HTTP/1.1 403"));
    assert!(send(&aws, b"nonsense\r\n\r\n").await.contains("400"));
    aws.sandbox.stop().await;
}
