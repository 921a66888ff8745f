//! What callers can make the sandbox hold, and for how long.

use std::time::Duration;

use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{Credentials, Limits, Options, Programs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Aws, by_payload};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The secret as a bearer token.
const KNOWN: &str = "Authorization: Bearer good secret\r\n";
/// A caller that knows the key's id, which is no secret.
const UNKNOWN: &str = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAGOOD/20260101/us-east-1/lambda/aws4_request, \
                       SignedHeaders=host, \
                       Signature=0000000000000000000000000000000000000000000000000000000000000000\r\n";
/// Bytes of a body that is large.
const LARGE: usize = 1_024 * 1_024;

async fn sandbox(limits: Limits) -> Aws {
    let credentials = Credentials { access_key_id: "AKIAGOOD".to_owned(), secret_access_key: "good secret".to_owned() };
    let options = Options::new(Settings::instant(), Programs::scripted(by_payload));
    Aws::with(Options { credentials: Some(credentials), limits, ..options }).await
}

async fn connect(aws: &Aws) -> TcpStream {
    TcpStream::connect(aws.sandbox.endpoint().trim_start_matches("http://")).await.unwrap()
}

/// The head of a request with a body.
fn head(authorization: &str, length: usize) -> Vec<u8> {
    format!("POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {length}\r\n\r\n")
        .into_bytes()
}

/// The first line of an answer, up to the status.
async fn status(stream: &mut TcpStream) -> String {
    let mut status = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
    String::from_utf8_lossy(&status).into_owned()
}

#[tokio::test]
async fn caller_that_sends_no_whole_request_in_time_is_cut_off() {
    let aws = sandbox(Limits { patience: Duration::from_millis(50), ..Limits::default() }).await;
    let whole = head(KNOWN, 2);
    for sent in [&[][..], &whole[..10], &whole[..], &head(UNKNOWN, 2)] {
        let mut stream = connect(&aws).await;
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        // A reset does as well.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn known_caller_may_be_silent_between_requests() {
    let aws = sandbox(Limits { patience: Duration::from_millis(50), ..Limits::default() }).await;
    let (mut known, mut unknown) = (connect(&aws).await, connect(&aws).await);
    known.write_all(&[&head(KNOWN, 2)[..], b"{}"].concat()).await.unwrap();
    assert_eq!(status(&mut known).await, "HTTP/1.1 400");
    let mut none = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, unknown.read_to_end(&mut none)).await.unwrap();
    // More than the whole patience has passed since the other was known.
    known.write_all(&[&head(KNOWN, 2)[..], b"{}"].concat()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, async {
        while rest.windows(8).filter(|window| window == b"HTTP/1.1").count() < 1 {
            assert!(known.read_buf(&mut rest).await.unwrap() > 0, "{}", String::from_utf8_lossy(&rest));
        }
    })
    .await
    .unwrap();
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn caller_with_no_right_is_refused_before_its_body_is_read() {
    let aws = sandbox(Limits::default()).await;
    let bad_key = UNKNOWN.replace("AKIAGOOD", "AKIABAD");
    for authorization in ["", "Authorization: Bearer wrong\r\n", &bad_key, "Origin: http://x\r\n"] {
        let mut stream = connect(&aws).await;
        stream.write_all(&head(authorization, LARGE)).await.unwrap();
        assert_eq!(status(&mut stream).await, "HTTP/1.1 403", "{authorization}");
    }
    let mut admin = connect(&aws).await;
    admin.write_all(b"POST /_sandbox/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    assert_eq!(status(&mut admin).await, "HTTP/1.1 403");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn large_bodies_of_unknown_callers_do_not_keep_known_ones_waiting() {
    let aws = sandbox(Limits { unproven_bodies: 1, ..Limits::default() }).await;
    let mut known = connect(&aws).await;
    known.write_all(&[&head(KNOWN, 2)[..], b"{}"].concat()).await.unwrap();
    assert_eq!(status(&mut known).await, "HTTP/1.1 400");
    let mut unknown = connect(&aws).await;
    unknown.write_all(&head(UNKNOWN, LARGE)).await.unwrap();
    let body = vec![b' '; LARGE];
    // Small ones need no place, and who is known needs none.
    let mut small = connect(&aws).await;
    small.write_all(&[&head(UNKNOWN, 2)[..], b"{}"].concat()).await.unwrap();
    assert_eq!(status(&mut small).await, "HTTP/1.1 403");
    known.write_all(&[&head(KNOWN, LARGE)[..], &body].concat()).await.unwrap();
    let mut answers = Vec::new();
    while !String::from_utf8_lossy(&answers).contains("HTTP/1.1 400") {
        assert!(tokio::time::timeout(PATIENCE, known.read_buf(&mut answers)).await.unwrap().unwrap() > 0);
    }
    // The place is free again when its body has come.
    unknown.write_all(&body).await.unwrap();
    assert_eq!(status(&mut unknown).await, "HTTP/1.1 403");
    let mut next = connect(&aws).await;
    next.write_all(&[&head(UNKNOWN, LARGE)[..], &body].concat()).await.unwrap();
    assert_eq!(status(&mut next).await, "HTTP/1.1 403");
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn unknown_callers_take_no_place_of_known_ones() {
    let aws = sandbox(Limits { connections: 8, unproven_connections: 2, ..Limits::default() }).await;
    let _idle = connect(&aws).await;
    let mut open = Vec::new();
    // All come through the one place that is left, and stay open.
    for _ in 0..4 {
        let mut known = connect(&aws).await;
        known.write_all(&[&head(KNOWN, 2)[..], b"{}"].concat()).await.unwrap();
        assert_eq!(status(&mut known).await, "HTTP/1.1 400");
        open.push(known);
    }
    aws.sandbox.stop().await;
}

#[tokio::test]
async fn sandbox_that_has_no_place_left_stops() {
    let aws = sandbox(Limits { connections: 1, unproven_connections: 1, ..Limits::default() }).await;
    let mut unfinished = connect(&aws).await;
    unfinished.write_all(&head(KNOWN, 2)).await.unwrap();
    let _queued = connect(&aws).await;
    tokio::time::timeout(Limits::default().patience / 2, aws.sandbox.stop()).await.unwrap();
}
