//! A stand-in for AWS that gives canned answers, and what the real tasks need to run against it.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::aws::{CallHook, Cloud, CloudSeams, CloudSettings};
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Health;
use crate::reconciler::shared::Shared;
use crate::reconciler::{Reconciler, ReconcilerParts};
use crate::state::{Instance, Store, StoreOptions};

/// The instance that all names of these tests are of.
pub(super) const INSTANCE: &str = "0123456789";

/// What is answered to requests that begin like this: the operation of CloudWatch Logs, or Lambda's method and path. Of
/// several answers to the same the next one is given each time, and the last one from then on. `INSTANCE` stands for the
/// instance's id.
pub(super) type Answers = &'static [(&'static str, &'static str, &'static str)];

/// What was asked so far.
pub(super) type Asked = Arc<Mutex<Vec<String>>>;

/// Answers one request, and notes what it was.
async fn answer(stream: TcpStream, answers: Answers, instance: &str, before: &Asked) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut asked, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? <= 2 {
            break;
        }
        let line = line.trim_end();
        match line.to_ascii_lowercase().split_once(": ") {
            Some(("content-length", bytes)) => length = bytes.parse().ok()?,
            Some(("x-amz-target", _)) => asked = line.rsplit('.').next()?.to_owned(),
            _ if asked.is_empty() => asked = line.to_owned(),
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let known: Vec<_> = answers.iter().filter(|(beginning, ..)| asked.starts_with(beginning)).collect();
    let times = before.lock().unwrap().iter().filter(|other| **other == asked).count();
    before.lock().unwrap().push(asked);
    let (_, status, body) = known.get(times).or(known.last()).unwrap_or(&&("", "500 Unexpected", "{}"));
    let body = body.replace("INSTANCE", instance);
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.ok()
}

/// AWS, as far as it is needed, and what it was asked.
pub(super) async fn aws(answers: Answers, instance: &str, hook: Option<CallHook>) -> (Cloud, Asked) {
    aws_with(answers, instance, CloudSeams { hook, ..CloudSeams::default() }).await
}

/// The same, with another world around the calls.
pub(super) async fn aws_with(answers: Answers, instance: &str, seams: CloudSeams) -> (Cloud, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let (asking, instance) = (Arc::clone(&asked), instance.to_owned());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who hangs up in the middle has asked nothing.
            let _ = answer(stream, answers, &instance, &asking).await;
        }
    });
    let settings = CloudSettings {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(url),
        static_credentials: Some(("id".to_owned(), "secret".to_owned())),
        api_share: 1.0,
    };
    (Cloud::connect_with(&settings, seams).await, asked)
}

/// A store on a file of its own.
pub(super) async fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store = Store::open(&StoreOptions { path, read_only: false }).await.unwrap();
    (directory, store)
}

/// A controller over this store, where one run may be under way.
pub(super) fn reconciler(store: &Store, cloud: Cloud, clock: Clock) -> Reconciler {
    Reconciler::new(ReconcilerParts {
        facts: store.facts(),
        reader: store.reader(),
        cloud,
        clock,
        health: Health::default(),
        config: Arc::new(Config { max_running: 1, ..Config::new("eu-west-1", &settings().role_arn).unwrap() }),
    })
}

/// The instance that has claimed the database.
pub(super) fn claimed() -> Instance {
    Instance { id: INSTANCE.into(), epoch: 6, adopted_at: None, horizon: None, doubt: None }
}

/// What the tasks of a daemon share that has just claimed its database.
pub(super) async fn shared(store: &Store, cloud: Cloud) -> Shared {
    shared_at(store, cloud, Clock::default()).await
}

/// The same, by this clock.
pub(super) async fn shared_at(store: &Store, cloud: Cloud, clock: Clock) -> Shared {
    // Nobody listens to kicks; there is room for those of a test.
    let (kicks, kicked) = mpsc::channel(100);
    std::mem::forget(kicked);
    reconciler(store, cloud, clock).shared(&claimed(), kicks).await.unwrap().0
}
