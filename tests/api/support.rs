//! The API on both kinds of socket over a real store, with logs and facts that a test writes by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sockerless_lambda::api::{ApiContext, Listeners};
use sockerless_lambda::clock::Clock;
use sockerless_lambda::config::{Config, DockerApi, Listen};
use sockerless_lambda::health::Health;
use sockerless_lambda::state::model::{
    Cause, Container, ContainerId, Exit, Failure, FailureKind, InvocationKind, Issued, LastIssued, LogTail, Report,
    Run, RunPhase,
};
use sockerless_lambda::state::{ContainerEvent, FactWrite, Facts, Issue, Reader, Store, StoreOptions, Written};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::described::Described;
use crate::logs::Logs;

/// How long a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The invocation of every run that is issued here.
pub(crate) const REQUEST_ID: &str = "11111111-2222-3333-4444-555555555555";
/// The log stream of every run that is issued here.
pub(crate) const STREAM: &str = "2026/11/23/function[1]abc";

fn config(docker_api: DockerApi) -> Config {
    Config {
        docker_api,
        allowed_hosts: vec!["docker.internal".to_owned()],
        drain_timeout: Duration::from_secs(1),
        sandbox: true,
        ..Config::new("eu-west-1", "arn:aws:iam::123456789012:role/r").unwrap()
    }
}

/// The API, serving.
pub(crate) struct Api {
    directory: tempfile::TempDir,
    /// Open as long as requests are answered.
    _store: Store,
    facts: Facts,
    pub(crate) reader: Reader,
    pub(crate) logs: Arc<Logs>,
    pub(crate) health: Health,
    pub(crate) address: SocketAddr,
    docker_api: DockerApi,
    stop: CancellationToken,
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::spelled(DockerApi::Compatible).await
    }

    pub(crate) async fn spelled(docker_api: DockerApi) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let store = Store::open(&options).await.unwrap();
        let (logs, health, stop) = (Arc::<Logs>::default(), Health::default(), CancellationToken::new());
        store.report_to(&health);
        let listen = [Listen::Unix(directory.path().join("docker.sock")), Listen::Tcp((Ipv4Addr::LOCALHOST, 0).into())];
        let listeners = Listeners::bind(&listen, None).await.unwrap();
        let tcp = listeners.addresses().into_iter().find_map(|listen| match listen {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        });
        let context = ApiContext {
            reader: store.reader(),
            wishes: store.wishes(),
            logs: logs.clone(),
            clock: Clock::real(),
            health: health.clone(),
            config: Arc::new(config(docker_api)),
        };
        tokio::spawn(listeners.serve(context, stop.clone(), Duration::from_secs(1)));
        let (facts, reader, address) = (store.facts(), store.reader(), tcp.unwrap());
        Self { directory, _store: store, facts, reader, logs, health, address, docker_api, stop }
    }

    /// As when the daemon is being stopped.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("state.db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// One request on a connection of its own, and its whole answer, which the daemon's own document must describe.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let answer = self.ask_unjudged(method, path, body).await;
        if self.docker_api == DockerApi::Compatible {
            let described = match Described::known() {
                Some(described) => described,
                None => Described::of(&self.ask_unjudged("GET", "/internal/v1/openapi.json", "").await.body),
            };
            described.judge(method, path, &answer);
        }
        answer
    }

    async fn ask_unjudged(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = self.send(method, path, "Connection: close\r\n", body).await;
        connection.all().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, "").await
    }

    /// Sends a request over TCP; the answer is still to be read.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Connection::new(stream, request(method, path, headers, body).as_bytes()).await
    }

    /// As `send`, over the Unix socket.
    pub(crate) async fn send_locally(&self, method: &str, path: &str, headers: &str, body: &str) -> Connection {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        Connection::new(stream, request(method, path, headers, body).as_bytes()).await
    }

    /// Bytes as they are, over the Unix socket.
    pub(crate) async fn send_raw(&self, bytes: &[u8]) -> Connection {
        Connection::new(UnixStream::connect(self.socket()).await.unwrap(), bytes).await
    }

    /// As `send_raw`, over TCP.
    pub(crate) async fn send_raw_over_tcp(&self, bytes: &[u8]) -> Connection {
        Connection::new(TcpStream::connect(self.address).await.unwrap(), bytes).await
    }

    /// As `send_locally`, with a body of any bytes.
    pub(crate) async fn send_bytes(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Connection {
        let stream = UnixStream::connect(self.socket()).await.unwrap();
        let length = body.len();
        let of_type = typed(headers, !body.is_empty());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{of_type}{headers}\r\n");
        Connection::new(stream, &[head.as_bytes(), body].concat()).await
    }

    /// A new container; gives its id.
    pub(crate) async fn create(&self, name: &str, body: &Value) -> String {
        let answer = self.ask("POST", &format!("/containers/create?name={name}"), &body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["Id"].as_str().unwrap().to_owned()
    }

    /// A new container that was started and whose run is under way.
    pub(crate) async fn running(&self, name: &str, body: &Value) -> String {
        let id = self.create(name, body).await;
        assert_eq!(self.post(&format!("/containers/{id}/start")).await.status, 204);
        self.issue(&id).await;
        id
    }

    /// As `running`, and the run has ended.
    pub(crate) async fn ended(&self, name: &str, body: &Value, code: u8) -> String {
        let id = self.running(name, body).await;
        self.exit(&id, code).await;
        id
    }

    pub(crate) async fn container(&self, id: &str) -> Container {
        let id: ContainerId = id.parse().unwrap();
        self.reader.container(&id).await.unwrap().unwrap()
    }

    /// The fact that the latest start was issued, and that its program runs.
    pub(crate) async fn issue(&self, id: &str) {
        let container = self.container(id).await;
        let now = Clock::real().now();
        let issued = Issued {
            token: "token".to_owned(),
            kind: InvocationKind::RequestResponse,
            function_name: "function".to_owned(),
            at: now,
            deadline: now.after(Duration::from_secs(300)),
        };
        let mut write = facts_of(&container);
        let start = container.spec.starts;
        write.status.run = Some(Run {
            request_id: Some(REQUEST_ID.to_owned()),
            log_stream: Some(STREAM.to_owned()),
            ..Run::new(start, start, Some(issued), RunPhase::Running { since: now })
        });
        let issue = self.facts.issue(write, container.spec.generation).await.unwrap();
        assert!(matches!(issue, Issue::Granted(..)), "{issue:?}");
    }

    /// As `running`, but nothing of the run was seen yet: neither its request id nor its stream is known.
    pub(crate) async fn running_unseen(&self, name: &str, body: &Value) -> String {
        let id = self.running(name, body).await;
        self.note(&id, |write| {
            let run = write.status.run.as_mut().unwrap();
            (run.request_id, run.log_stream) = (None, None);
        })
        .await;
        id
    }

    /// As `running_unseen`, and nobody knows whether the program runs yet.
    pub(crate) async fn cold(&self, name: &str, body: &Value) -> String {
        let id = self.running_unseen(name, body).await;
        self.note(&id, |write| write.status.run.as_mut().unwrap().phase = RunPhase::Issued).await;
        id
    }

    /// A status in which the run's request id is known.
    pub(crate) async fn name_run(&self, id: &str) {
        self.note(id, |write| write.status.run.as_mut().unwrap().request_id = Some(REQUEST_ID.to_owned())).await;
    }

    /// The fact that the run has ended, with the event that belongs to it; its log is complete.
    pub(crate) async fn exit(&self, id: &str, code: u8) {
        self.end(id, code, true).await;
    }

    /// As `exit`, but the log's end was not seen yet.
    pub(crate) async fn exit_before_its_log(&self, id: &str, code: u8) {
        self.end(id, code, false).await;
    }

    async fn end(&self, id: &str, code: u8, reported: bool) {
        let now = Clock::real().now();
        self.note(id, |write| {
            let run = write.status.run.as_mut().unwrap();
            let (cause, message) = (Cause::Exited, String::new());
            run.phase = RunPhase::Exited(Exit { code, cause, message, started_at: Some(now), finished_at: now });
            run.report = reported.then(|| Report { seen_at: now, memory_mb: 1_024, ..Report::default() });
            let attributes = vec![("exitCode", code.to_string())];
            write.events.push(ContainerEvent { at: now, action: "die", attributes });
        })
        .await;
    }

    /// Records that the log of a run that has ended is complete, with the tail that came with its answer.
    pub(crate) async fn close_log(&self, id: &str, tail: Option<&str>) {
        self.note(id, |write| {
            let run = write.status.run.as_mut().unwrap();
            run.tail = tail.map(|text| LogTail { text: text.to_owned(), complete: true });
            run.log_closed = true;
        })
        .await;
    }

    /// Records that the container's output was also seen in these streams.
    pub(crate) async fn wrote_to(&self, id: &str, streams: &[String]) {
        self.note(id, |write| write.status.log_streams.extend_from_slice(streams)).await;
    }

    /// Records that the run ended an hour ago: nothing waits for the rest of its log any more.
    pub(crate) async fn end_long_ago(&self, id: &str) {
        self.note(id, |write| {
            let RunPhase::Exited(exit) = &mut write.status.run.as_mut().unwrap().phase else { panic!("it runs") };
            exit.finished_at = exit.finished_at.before(Duration::from_secs(3_600));
        })
        .await;
    }

    /// The fact that the run could not be carried out, with this text in every place that takes one.
    pub(crate) async fn end_with(&self, id: &str, text: &str) {
        let now = Clock::real().now();
        self.note(id, |write| {
            let text = text.to_owned();
            let run = write.status.run.as_mut().unwrap();
            let (code, cause) = (125, Cause::NeverRan);
            run.phase =
                RunPhase::Exited(Exit { code, cause, message: text.clone(), started_at: None, finished_at: now });
            run.report = Some(Report { seen_at: now, stream: text.clone(), ..Report::default() });
            run.log_stream = Some(text.clone());
            write.status.log_streams.push(text.clone());
            write.status.past_request_ids.push(text.clone());
            let kind = FailureKind::ServiceError;
            let (action, message, request_id) = (text.clone(), text.clone(), Some(text.clone()));
            let failure = Failure { kind, action, message, request_id, at: now, terminal_for: None };
            write.status.retry.failure = Some(failure);
            write.events.push(ContainerEvent { at: now, action: "die", attributes: vec![("error", text)] });
        })
        .await;
    }

    /// The fact that there was an earlier run.
    pub(crate) async fn ran_before(&self, id: &str, request_id: &str) {
        self.note(id, |write| write.status.past_request_ids.push(request_id.to_owned())).await;
    }

    /// A status in which an earlier run has written to [`STREAM`] and the latest run's stream is unknown.
    pub(crate) async fn ran_before_elsewhere(&self, id: &str, request_id: &str) {
        self.note(id, |write| {
            write.status.past_request_ids.push(request_id.to_owned());
            write.status.log_streams = vec![STREAM.to_owned()];
            write.status.run.as_mut().unwrap().log_stream = None;
        })
        .await;
    }

    /// Records that the latest start was cancelled before its run, and that no line of the run before was seen.
    pub(crate) async fn cancelled_after(&self, id: &str, request_id: &str) {
        self.note(id, |write| {
            let run = write.status.run.as_mut().unwrap();
            let issued = run.issued.take().unwrap();
            (run.request_id, run.log_stream, run.report) = (None, None, None);
            let looked_for_until = issued.at.after(Duration::from_secs(300));
            write.status.last_issued =
                Some(LastIssued { function_name: issued.function_name, at: issued.at, looked_for_until });
            write.status.past_request_ids.push(request_id.to_owned());
            write.status.log_streams.clear();
        })
        .await;
    }

    /// The fact that the container was removed after its run, as `--rm` asks.
    pub(crate) async fn auto_remove(&self, id: &str) {
        self.note(id, |write| write.status.auto_removed = Some(Clock::real().now())).await;
    }

    /// The fact that AWS has refused the function for good.
    pub(crate) async fn refuse(&self, id: &str, message: &str) {
        self.note(id, |write| {
            let (kind, action, message) =
                (FailureKind::InvalidParameter, "CreateFunction".to_owned(), message.to_owned());
            let (at, terminal_for) = (Clock::real().now(), Some(write.status.observed_generation));
            let failure = Failure { kind, action, message, request_id: None, at, terminal_for };
            write.status.retry.failure = Some(failure);
        })
        .await;
    }

    async fn note(&self, id: &str, change: impl FnOnce(&mut FactWrite)) {
        let mut write = facts_of(&self.container(id).await);
        change(&mut write);
        assert!(matches!(self.facts.write(write).await.unwrap(), Written::At(_)));
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn facts_of(container: &Container) -> FactWrite {
    let mut status = container.status.clone();
    status.observed_generation = container.spec.generation;
    let (id, revision) = (container.id, container.revision);
    FactWrite { id, revision, status, due_at: None, watched: false, events: Vec::new() }
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let of_type = typed(headers, !body.is_empty());
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{of_type}{headers}\r\n{body}")
}

/// The type of a body that has none yet.
fn typed(headers: &str, has_body: bool) -> &'static str {
    let has_type = headers.to_ascii_lowercase().contains("content-type:");
    if has_body && !has_type { "Content-Type: application/json\r\n" } else { "" }
}

/// What a connection is made of.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Io for T {}

/// A connection on which a request was sent.
pub(crate) struct Connection {
    io: Box<dyn Io>,
    read: Vec<u8>,
}

impl Connection {
    async fn new(io: impl Io + 'static, bytes: &[u8]) -> Self {
        let mut io: Box<dyn Io> = Box::new(io);
        // A server that refuses early closes its side early: its answer counts.
        let _ = io.write_all(bytes).await;
        Self { io, read: Vec::new() }
    }

    /// Sends more.
    pub(crate) async fn write(&mut self, bytes: &str) {
        self.io.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come, and gives everything that has.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let reading = async {
            let mut piece = [0; 4_096];
            while !String::from_utf8_lossy(&self.read).contains(text) {
                let count = self.io.read(&mut piece).await.unwrap();
                assert!(count > 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&self.read));
                self.read.extend_from_slice(piece.get(..count).unwrap());
            }
        };
        let come = tokio::time::timeout(PATIENCE, reading).await;
        let read = String::from_utf8_lossy(&self.read).into_owned();
        assert!(come.is_ok(), "{text:?} never came, but {read:?}");
        read
    }

    /// The head of the answer.
    pub(crate) async fn head(&mut self) -> String {
        let read = self.until("\r\n\r\n").await;
        read.split_once("\r\n\r\n").unwrap().0.to_owned()
    }

    /// The answer as far as its length is told; of one that comes as a stream only the head. Answers of which nothing
    /// counts but what follows them (100) are left out.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let head = self.head().await;
            let answer = Answer::parse(format!("{head}\r\n\r\n").as_bytes());
            if answer.status == 100 {
                self.read.drain(..head.len() + 4);
                continue;
            }
            let length = answer.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
            let body = self.bytes(head.len() + 4, length).await;
            return Answer { body, ..answer };
        }
    }

    /// The answer to a HEAD request, which has no body whatever its length says.
    pub(crate) async fn only_head(&mut self) -> Answer {
        let head = self.head().await;
        Answer::parse(format!("{head}\r\n\r\n").as_bytes())
    }

    /// So many bytes from this place on; fewer if the other side closes before.
    async fn bytes(&mut self, from: usize, count: usize) -> Vec<u8> {
        let reading = async {
            while self.read.len() < from + count && self.io.read_buf(&mut self.read).await.unwrap_or(0) > 0 {}
        };
        assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "the body does not come");
        self.read[from..].iter().take(count).copied().collect()
    }

    /// Sends nothing more, and goes on listening.
    pub(crate) async fn half_close(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    /// Forgets what was read.
    pub(crate) fn forget(&mut self) {
        self.read.clear();
    }

    /// Everything until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let closed = tokio::time::timeout(PATIENCE, self.io.read_to_end(&mut self.read)).await;
        assert!(closed.is_ok(), "the connection stays open");
        closed.unwrap().unwrap();
        std::mem::take(&mut self.read)
    }

    /// The whole answer of a connection that closes after it.
    pub(crate) async fn all(&mut self) -> Answer {
        Answer::parse(&self.rest().await)
    }

    /// Whether nothing more comes: the answer is still being waited for. Only what has been sent before counts.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let before = self.read.len();
        let reading = self.io.read_buf(&mut self.read);
        let came = tokio::time::timeout(Duration::from_millis(100), reading).await;
        came.is_err() && self.read.len() == before
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let body = &bytes[end + 4..];
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        Self { status, head, body: if chunked && !body.is_empty() { dechunk(body) } else { body.to_vec() } }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The status, and the message of an error, which is sent as Docker's clients need it.
    pub(crate) fn error(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        let body = self.json();
        let message = body["message"].as_str().unwrap().to_owned();
        assert_eq!(body, json!({ "message": message }), "nothing but the message");
        (self.status, message)
    }
}

fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
}

/// Returns when no more tasks than these are alive in this runtime.
pub(crate) async fn until_tasks(most: usize, patience: Duration) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let waiting = async {
        while metrics.num_alive_tasks() > most {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(patience, waiting).await;
    assert!(done.is_ok(), "{} tasks are left, {most} would be right", metrics.num_alive_tasks());
}

/// A body of `create` that nothing is wrong with.
pub(crate) fn plain() -> Value {
    json!({ "Image": "alpine", "Cmd": ["true"], "Labels": { "team": "blue" } })
}

/// `filters=` for a query.
pub(crate) fn filters(filters: &Value) -> String {
    let text: String =
        form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters.to_string()).finish();
    text
}
