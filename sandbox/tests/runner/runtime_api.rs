//! The Runtime API as a runtime sees it, and as others do.

use bytes::Bytes;
use serde_json::json;
use sockerless_sandbox::runner::{End, RunnerConfig, RunnerEvent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{PATIENCE, Sandbox, bootstrap, config};

/// One call of a Runtime API whose address an environment has printed; gives status and body.
async fn call(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer, and hang up, before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A runtime that leaves the calls to the test, and the address to call.
async fn puppet() -> (Sandbox, String) {
    puppet_of(true).await
}

/// `open`: the test may call it, from outside.
async fn puppet_of(open_runtime_api: bool) -> (Sandbox, String) {
    let words = ["/bin/sh", "-c", "echo $AWS_LAMBDA_RUNTIME_API; exec sleep 1000"];
    let mut sandbox = Sandbox::with(RunnerConfig { isolate: true, open_runtime_api, ..RunnerConfig::default() });
    sandbox.start(1, |config| config.entrypoint = words.map(str::to_owned).to_vec()).await;
    let RunnerEvent::Line { text, .. } = sandbox.event().await else { panic!() };
    (sandbox, text)
}

#[tokio::test]
async fn the_runtime_api_is_lambdas() {
    let (mut sandbox, address) = puppet().await;
    let (head, _) = call(&address, "GET", "invocation/soon", "", b"").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    sandbox.invoke(1, "a", &json!({ "n": 1 }), PATIENCE).await;
    let (head, body) = call(&address, "GET", "invocation/next", "", b"").await;
    assert!(head.starts_with("HTTP/1.1 200") && body == r#"{"n":1}"#, "{head} {body}");
    for header in [
        "lambda-runtime-aws-request-id: a",
        "lambda-runtime-deadline-ms: 1",
        "lambda-runtime-invoked-function-arn: arn:aws:lambda:",
        "lambda-runtime-trace-id: Root=1-trace",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    for (method, path, status) in [
        ("POST", "invocation/b/response", "400"),
        ("POST", "invocation/b/error", "400"),
        ("GET", "invocation/next", "403"),
        ("POST", "init/error", "403"),
    ] {
        let (head, body) = call(&address, method, path, "", b"{}").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head} {body}");
    }
    let kind = "Lambda-Runtime-Function-Error-Type: Function.Bad\r\n";
    let (head, body) = call(&address, "POST", "invocation/a/error", kind, b"{\"errorType\":\"x\"}").await;
    assert!(head.starts_with("HTTP/1.1 202") && body == r#"{"status":"OK"}"#, "{head} {body}");
    let end = sandbox.ended("a").await.end;
    assert_eq!(end, End::Error { error_type: "Function.Bad".into(), body: Bytes::from("{\"errorType\":\"x\"}") });
    let (head, _) = call(&address, "POST", "invocation/a/response", "", b"{}").await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
}

#[tokio::test]
async fn runtime_api_of_another_environment_is_refused() {
    let (sandbox, address) = puppet_of(false).await;
    sandbox.invoke(1, "a", &json!({ "secret": 1 }), PATIENCE).await;
    let mut outside = tokio::net::TcpStream::connect(&address).await.unwrap();
    outside.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // It is closed without a word, or reset, as the request was not read.
    let _ = tokio::time::timeout(PATIENCE, outside.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
}

/// Asks its environment's Runtime API for more work, and to take an end.
const INTRUDER: &str = r#"
ask() {
    exec 3<>/dev/tcp/127.0.0.1/$FOUND_PORT
    printf '%s /2018-06-01/runtime/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}' "$1" "$2" >&3
    read -r line <&3; echo "$2 $line"; exec 3>&-
}
ask GET invocation/next; ask POST init/error; ask POST invocation/x/response; ask POST invocation/x/error
"#;

#[tokio::test]
async fn program_that_finds_the_runtime_api_can_take_no_invocation() {
    let finder = "address=${AWS_LAMBDA_RUNTIME_API%%/*}; export FOUND_PORT=${address#*:}; exec \"$0\"";
    // Without namespaces: this tree may be below the /tmp that they hide.
    let mut sandbox = Sandbox::new(&["/bin/sh", "-c", finder, bootstrap().to_str().unwrap()], false);
    sandbox.start(1, config).await;
    let order = json!({ "sockerless": { "version": 1, "token": "t", "command": ["bash", "-c", INTRUDER] } });
    sandbox.invoke(1, "a", &order, PATIENCE).await;
    let ended = sandbox.ended("a").await;
    assert_eq!(ended.verdict().exit_code, 0, "{:?}", ended.lines);
    // Without root, it would have to know the bootstrap's secret.
    let result = if nix::unistd::geteuid().is_root() { 400 } else { 403 };
    assert_eq!(ended.lines.len(), 4 + 2, "{:?}", ended.lines);
    for expected in [
        "invocation/next HTTP/1.1 403",
        "init/error HTTP/1.1 403",
        &format!("invocation/x/response HTTP/1.1 {result}"),
        &format!("invocation/x/error HTTP/1.1 {result}"),
    ] {
        assert!(ended.lines.iter().any(|line| line.starts_with(expected)), "{expected}: {:?}", ended.lines);
    }
    assert_eq!(sandbox.sh(1, "b", "echo again").await.lines, ["again"]);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_an_error() {
    let (mut sandbox, address) = puppet().await;
    sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
    call(&address, "GET", "invocation/next", "", b"").await;
    let body = vec![b' '; 7 * 1024 * 1024];
    tokio::join!(call_too_long(&address, &body), async {
        let End::Error { error_type, .. } = sandbox.ended("a").await.end else { panic!() };
        assert_eq!(error_type, "Function.ResponseSizeTooLarge");
    });
}

/// The answer, if it arrives at all before the connection breaks, is 413.
async fn call_too_long(address: &str, body: &[u8]) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /2018-06-01/runtime/invocation/a/response HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let _ = stream.write_all(body).await;
    let mut status = [0; 12];
    if stream.read_exact(&mut status).await.is_ok() {
        assert_eq!(&status, b"HTTP/1.1 413");
    }
}

#[tokio::test]
async fn a_runtime_that_cannot_start_says_why() {
    let (mut sandbox, address) = puppet().await;
    let kind = "Lambda-Runtime-Function-Error-Type: Runtime.Broken\r\n";
    let (head, _) = call(&address, "POST", "init/error", kind, b"{}").await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
    sandbox.runner.kill(1).await;
    let end = sandbox.ended("a").await.end;
    assert_eq!(end, End::InitError { error_type: "Runtime.Broken".into(), body: Bytes::from("{}") });
    sandbox.gone(1).await;
}

/// The connection on which a runtime waits for its next invocation.
async fn ask_for_next(address: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream
}

/// The first line of an answer.
async fn status_of(stream: &mut tokio::net::TcpStream) -> String {
    let mut status = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

#[tokio::test]
async fn second_call_for_the_next_invocation_is_refused_and_the_first_gets_it() {
    let (mut sandbox, address) = puppet().await;
    let mut first = ask_for_next(&address).await;
    assert!(matches!(sandbox.event().await, RunnerEvent::Ready { .. }), "the first call waits");
    let mut second = ask_for_next(&address).await;
    assert_eq!(status_of(&mut second).await, "HTTP/1.1 403");
    sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
    assert_eq!(status_of(&mut first).await, "HTTP/1.1 200");
    let mut during = ask_for_next(&address).await;
    assert_eq!(status_of(&mut during).await, "HTTP/1.1 403", "an invocation is under way");
}

#[tokio::test]
async fn call_for_the_next_invocation_after_the_first_was_hung_up_gets_it() {
    let (mut sandbox, address) = puppet().await;
    drop(ask_for_next(&address).await);
    assert!(matches!(sandbox.event().await, RunnerEvent::Ready { .. }));
    sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
    // Refused until the sandbox has seen that the first has gone.
    loop {
        let mut again = ask_for_next(&address).await;
        if status_of(&mut again).await == "HTTP/1.1 200" {
            break;
        }
    }
}

#[tokio::test]
async fn answer_that_breaks_off_does_not_end_the_invocation() {
    let (mut sandbox, address) = puppet().await;
    sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
    call(&address, "GET", "invocation/next", "", b"").await;
    for path in ["invocation/a/response", "invocation/a/error"] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let half = format!("POST /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf");
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    let (head, _) = call(&address, "POST", "invocation/a/response", "", b"whole").await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    assert_eq!(sandbox.ended("a").await.end, End::Response(Bytes::from("whole")));
}
