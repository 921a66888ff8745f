//! Two daemons that claim the same epoch: the claim that comes second.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::aws::{Cloud, CloudSettings};
use crate::reconciler::claim::{Claim, Claimant};
use crate::state::{Store, StoreOptions};

/// CloudWatch Logs as who comes second sees it: no claim when it looks, and then the stream exists.
const ANSWERS: [(&str, &str, &str); 3] = [
    ("DescribeLogStreams", "200 OK", r#"{"logStreams":[]}"#),
    ("DescribeLogGroups", "200 OK", r#"{"logGroups":[{"logGroupName":"/claims"}]}"#),
    ("CreateLogStream", "400 Bad Request", r#"{"__type":"ResourceAlreadyExistsException","message":"it exists"}"#),
];

/// Answers one request, and tells which operation it was.
async fn answer(stream: TcpStream) -> Option<String> {
    let mut stream = BufReader::new(stream);
    let (mut operation, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? <= 2 {
            break;
        }
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", bytes)) => length = bytes.parse().ok()?,
            Some(("x-amz-target", _)) => operation = line.trim_end().rsplit('.').next()?.to_owned(),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let known = ANSWERS.iter().find(|(name, ..)| *name == operation);
    let (_, status, body) = known.unwrap_or(&("", "400 Bad Request", "{}"));
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    Some(operation)
}

/// CloudWatch Logs, and what it was asked.
async fn logs() -> (Cloud, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let operation = answer(stream).await;
            asking.lock().unwrap().extend(operation);
        }
    });
    let settings = CloudSettings {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(url),
        static_credentials: Some(("id".to_owned(), "secret".to_owned())),
        api_share: 1.0,
    };
    (Cloud::connect(&settings).await, asked)
}

#[tokio::test]
async fn who_comes_second_has_lost_and_keeps_its_epoch_below() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = Store::open(&StoreOptions { path, read_only: false }).await.unwrap();
    let (facts, (cloud, asked)) = (store.facts(), logs().await);
    let claimant =
        Claimant { facts: &facts, cloud: &cloud, log_group: "/claims", log_retention_days: None, adopt: false };
    let claim = claimant.claim(t(0)).await.unwrap();
    assert!(matches!(&claim, Claim::Lost { why } if why.contains("epoch 1")), "{claim:?}");
    assert_eq!(facts.instance().await.unwrap().epoch, 0, "the winner's epoch stays above, also for the next start");
    assert_eq!(asked.lock().unwrap().last().unwrap(), "CreateLogStream", "nothing is asked or changed after that");
}
