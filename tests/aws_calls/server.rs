//! A server that gives canned answers and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sockerless_lambda::aws::{Cloud, CloudSettings};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `GET /path`, or the operation of a JSON-RPC request such as `CreateLogGroup`.
    pub(crate) fn what(&self) -> String {
        match self.header("x-amz-target") {
            Some(target) => target.rsplit('.').next().unwrap().to_owned(),
            None => format!("{} {}", self.method, self.path),
        }
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Closes the connection without a word.
    Close,
    /// Resets the connection.
    Reset,
    /// Says nothing, and keeps the connection.
    Silence,
    /// Begins an answer and closes the connection.
    Half,
}

pub(crate) fn answer(status: u16, body: impl ToString) -> Reply {
    Reply::Answer { status, headers: Vec::new(), body: body.to_string() }
}

/// An error as Lambda and CloudWatch Logs write it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    answer(status, serde_json::json!({ "message": message })).with("x-amzn-errortype", code)
}

impl Reply {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

/// Gives the replies in turn; a request too many gets the status 599.
pub(crate) struct Server {
    pub(crate) address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies: Arc<[Reply]> = replies.into_iter().collect();
        let asked = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&replies), Arc::clone(&asked)));
            }
        });
        Self { address, requests }
    }

    /// AWS, as far as this server is it.
    pub(crate) async fn cloud(&self) -> Cloud {
        cloud(&format!("http://{}", self.address)).await
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request.
    pub(crate) fn request(&self) -> Request {
        let [request] = <[Request; 1]>::try_from(self.requests()).unwrap();
        request
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(Request::what).collect()
    }
}

pub(crate) const SECRET: &str = "wJalrXUtnFEMI-secret";

pub(crate) async fn cloud(url: &str) -> Cloud {
    Cloud::connect(&CloudSettings {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(url.to_owned()),
        static_credentials: Some(("AKIDEXAMPLE".to_owned(), SECRET.to_owned())),
        api_share: 1.0,
    })
    .await
}

async fn serve(stream: TcpStream, replies: Arc<[Reply]>, requests: Arc<Mutex<Vec<Request>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        let reply = replies.get(number).cloned().unwrap_or_else(|| answer(599, "a request too many"));
        match reply {
            Reply::Answer { status, headers, body } => write(&mut stream, status, &headers, &body).await,
            Reply::Close => return,
            Reply::Reset => return stream.into_inner().set_zero_linger().unwrap(),
            Reply::Silence => tokio::time::sleep(Duration::MAX).await,
            Reply::Half => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
                return;
            }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines[1..].iter().filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

async fn write(stream: &mut BufReader<TcpStream>, status: u16, headers: &[(&str, String)], body: &str) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
}
