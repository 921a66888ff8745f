//! An AWS of which only the lists matter: it lists any number of functions without keeping them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Functions of one page. AWS has 50; with more the quota lets a sweep end sooner.
const PAGE: u64 = 2_000;

#[derive(Debug, Default)]
struct Inner {
    /// The function that was made, as it was asked for.
    made: Mutex<Option<Value>>,
    streams: Mutex<BTreeSet<String>>,
    functions: AtomicU64,
    lists: AtomicU64,
}

/// It serves as long as the test's runtime lives.
pub(crate) struct FakeAws {
    pub(crate) endpoint: String,
    inner: Arc<Inner>,
}

impl FakeAws {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner::default());
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { endpoint, inner }
    }

    /// Lists from now on the function that was made, as many others as rows were copied, and orphans.
    pub(crate) fn list(&self, containers: u64, orphans: u64) {
        self.inner.functions.store(containers - 1 + orphans, Ordering::SeqCst);
    }

    /// How often all functions were listed to the end.
    pub(crate) fn lists(&self) -> u64 {
        self.inner.lists.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, inner: Arc<Inner>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (mut target, mut length) = (String::new(), 0);
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await.ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "x-amz-target" => target = value.rsplit('.').next()?.to_owned(),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, answer) =
            if target.is_empty() { lambda(&inner, &method, &path, body) } else { logs(&inner, &target, &body) };
        let error = if status == 404 { "x-amzn-errortype: ResourceNotFoundException\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{error}content-length: ");
        stream.write_all(format!("{head}{}\r\n\r\n{answer}", answer.len()).as_bytes()).await.ok()?;
    }
}

fn logs(inner: &Inner, target: &str, body: &Value) -> (u16, String) {
    let stream = body["logStreamName"].as_str().unwrap_or_default().to_owned();
    let prefix = body["logStreamNamePrefix"].as_str().unwrap_or_default();
    let answer = match target {
        "DescribeLogGroups" => json!({ "logGroups": [{ "logGroupName": body["logGroupNamePrefix"] }] }),
        "CreateLogStream" => {
            inner.streams.lock().unwrap().insert(stream);
            json!({})
        }
        "DeleteLogStream" => {
            inner.streams.lock().unwrap().remove(&stream);
            json!({})
        }
        "DescribeLogStreams" => {
            let streams = inner.streams.lock().unwrap();
            let named: Vec<Value> = streams
                .iter()
                .filter(|name| name.starts_with(prefix))
                .map(|name| json!({ "logStreamName": name }))
                .collect();
            json!({ "logStreams": named })
        }
        "FilterLogEvents" => json!({ "events": [] }),
        _ => json!({}),
    };
    (200, answer.to_string())
}

fn lambda(inner: &Inner, method: &str, path: &str, body: Value) -> (u16, String) {
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    let made = || inner.made.lock().unwrap().clone();
    match (method, route.trim_end_matches('/')) {
        ("POST", "/2015-03-31/functions") => {
            let answer = described(&body, body["FunctionName"].as_str().unwrap_or_default());
            *inner.made.lock().unwrap() = Some(body);
            (201, answer.to_string())
        }
        ("GET", "/2015-03-31/functions") => (200, page(inner, query)),
        ("GET", _) => match made().filter(|made| route.ends_with(made["FunctionName"].as_str().unwrap_or("?"))) {
            Some(made) => {
                let name = made["FunctionName"].as_str().unwrap_or_default();
                let configuration = described(&made, name);
                (200, json!({ "Configuration": configuration, "Code": made["Code"], "Tags": made["Tags"] }).to_string())
            }
            None => (404, json!({ "Type": "User", "message": "Function not found" }).to_string()),
        },
        _ => (200, "{}".to_owned()),
    }
}

/// A page of the list: the function that was made, then copies of it under the names of copied rows, then orphans.
fn page(inner: &Inner, query: &str) -> String {
    let Some(made) = inner.made.lock().unwrap().clone() else { return json!({ "Functions": [] }).to_string() };
    let first: u64 = query.split('&').find_map(|part| part.strip_prefix("Marker=")?.parse().ok()).unwrap_or(0);
    let all = inner.functions.load(Ordering::SeqCst) + 1;
    let own = made["FunctionName"].as_str().unwrap_or_default();
    let (base, _) = own.rsplit_once('-').unwrap_or_default();
    let end = all.min(first + PAGE);
    let name = |n: u64| if n == 0 { own.to_owned() } else { format!("{base}-{n:016x}{:08x}", 0) };
    let functions: Vec<Value> = (first..end).map(|n| described(&made, &name(n))).collect();
    if end == all {
        inner.lists.fetch_add(1, Ordering::SeqCst);
        return json!({ "Functions": functions }).to_string();
    }
    json!({ "Functions": functions, "NextMarker": end.to_string() }).to_string()
}

fn described(made: &Value, name: &str) -> Value {
    let mut answer = made.clone();
    answer["FunctionName"] = json!(name);
    answer["FunctionArn"] = json!(format!("arn:aws:lambda:us-east-1:000000000000:function:{name}"));
    answer["State"] = json!("Active");
    answer["LastUpdateStatus"] = json!("Successful");
    answer["LastModified"] = json!("2026-01-01T00:00:00.000+0000");
    for only_asked in ["Code", "Tags", "ImageConfig"] {
        answer.as_object_mut().unwrap().remove(only_asked);
    }
    answer
}
