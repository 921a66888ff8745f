//! How much memory the daemon needs for all the containers that it may keep: the real binary over a database of that many
//! rows, before an AWS that lists as many functions.
//!
//! `cargo test` takes a tenth of the rows, and of the memory that depends on their number; `just memory` takes all of them.
//! The last line has the figures.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and wait on this machine's clock"
)]

mod aws;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../daemon/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sockerless_lambda::clock::Timestamp;
use sockerless_lambda::state::model::{Cause, Exit, InvocationKind, Issued, Report, Run, RunPhase};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use aws::FakeAws;
use support::Home;

/// What the Kubernetes manifest allows the daemon.
const MOST_BYTES: u64 = 512 << 20;
/// Of that, what does not depend on the number of containers: images, orphans, slow clients, a page of everything. It
/// takes some 40 MiB.
const FIXED_BYTES: u64 = 48 << 20;
/// Containers at which the limit holds: all that the store keeps.
const MOST_CONTAINERS: u64 = 100_000;
/// Containers of the short run in `cargo test`.
const FEW_CONTAINERS: u64 = 10_000;
/// Functions without a container: more than a sweep notes.
const ORPHANS: u64 = 11_000;
/// Containers that a prune removes.
const PRUNED: u64 = 1_000;
/// Clients that ask for everything and read nothing.
const SLOW_CLIENTS: usize = 20;
/// How long a state is waited for that must come, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Fills the database: `count - 1` copies of the row named `job`, as they are after a run, all references of images, all
/// events. Every container is due once more, far in the future.
async fn fill(database: &Path, count: u64) {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(database)).await.unwrap();
    let run = serde_json::to_string(&run()).unwrap();
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1) \
        INSERT INTO container (id, name, created_at, generation, starts, started_at, cancelled, config, revision, status, \
        observed_generation, due_at, image_reference) \
        SELECT unhex(printf('%016x%048x', i, 0)), 'job-' || i, c.created_at + i, 2, 1, c.created_at, 0, \
        json_set(c.config, '$.labels.prune', CASE WHEN i % (?1 / ?3) = 1 THEN 'yes' ELSE 'no' END), 3, \
        json_set(c.status, '$.run', json(?2), '$.observed_generation', 2, '$.function.is.name', \
        replace(c.status ->> '$.function.is.name', lower(substr(hex(c.id), 1, 24)), printf('%016x%08x', i, 0))), \
        2, 7258118400000000000, c.image_reference FROM n, (SELECT * FROM container WHERE name = 'job') AS c";
    let count = i64::try_from(count).unwrap();
    let filled = sqlx::query(rows).bind(count).bind(run).bind(i64::try_from(PRUNED).unwrap());
    filled.execute(&mut connection).await.unwrap();
    let images = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
        INSERT INTO image (reference, id, created_at, digest) SELECT 'docker.io/library/app:' || i, \
        printf('sha256:%064x', i), i, printf('docker.io/library/app@sha256:%064x', i) FROM n";
    sqlx::query(images).execute(&mut connection).await.unwrap();
    let events = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9900) \
        INSERT INTO event (at, kind, action, actor_id, attributes) SELECT e.at, e.kind, 'die', e.actor_id, \
        json_set(e.attributes, '$.exitCode', '0', '$.execDuration', '12') \
        FROM n, (SELECT * FROM event WHERE kind = 'container' LIMIT 1) AS e";
    sqlx::query(events).execute(&mut connection).await.unwrap();
    let of = "SELECT avg(octet_length(config) + octet_length(status)) FROM container";
    let bytes: f64 = sqlx::query_scalar(of).fetch_one(&mut connection).await.unwrap();
    assert!((1_500.0..4_000.0).contains(&bytes), "a row of a realistic size, not of {bytes} bytes");
    connection.close().await.unwrap();
}

/// A run that has ended, with what is known of one.
fn run() -> Run {
    let at = Timestamp::from_secs(1_700_000_000);
    let issued = Issued {
        token: "0123456789abcdef0123456789abcdef".to_owned(),
        kind: InvocationKind::Event,
        function_name: "skls-0123456789-0123456789abcdef01234567".to_owned(),
        at,
        deadline: at.after(Duration::from_secs(600)),
    };
    let exit = Exit { code: 0, cause: Cause::Exited, message: String::new(), started_at: Some(at), finished_at: at };
    Run {
        request_id: Some("11111111-2222-3333-4444-555555555555".to_owned()),
        log_stream: Some("2026/11/23/skls-0123456789-0123456789abcdef01234567[$LATEST]0123456789abcdef".to_owned()),
        report: Some(Report::default()),
        log_closed: true,
        ..Run::new(1, 1, Some(issued), RunPhase::Exited(exit))
    }
}

/// A process whose memory is watched.
struct Watched {
    child: Child,
    socket: PathBuf,
}

impl Watched {
    /// The daemon. It sweeps and takes everything up again every few seconds.
    fn serve(home: &Home, aws: &FakeAws, metrics: &str) -> Self {
        let socket = home.directory().join("docker.sock");
        let mut command = home.account_command(&aws.endpoint, "test");
        command.args(["--listen", &format!("unix://{}", socket.display()), "--metrics-listen", metrics]);
        command.args(["--gc-interval", "5s", "--resync-interval", "5s", "--drain-timeout", "0s"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, socket }
    }

    /// The most memory that it has ever had.
    fn most_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(most.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024)
    }

    async fn send(&self, request: &str, body: &str) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        Ok(stream)
    }

    /// Status and body; an answer that is cut off is an error.
    async fn ask(&self, request: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let mut answer = Vec::new();
        self.send(request, body).await?.read_to_end(&mut answer).await?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = &answer[end + 4..];
        Ok((status, if head.contains("transfer-encoding: chunked") { dechunk(body)? } else { body.to_vec() }))
    }

    async fn json(&self, request: &str) -> Value {
        let (status, body) = self.ask(request, "").await.unwrap();
        assert_eq!(status, 200, "{request}");
        serde_json::from_slice(&body).unwrap()
    }

    fn stop(mut self) -> u64 {
        let most = self.most_bytes().unwrap();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        most
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dechunk(mut body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(body.get(line + 2..line + 2 + size).ok_or(std::io::ErrorKind::UnexpectedEof)?);
        body = &body[line + 2 + size + 2..];
    }
}

async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    support::until_within(PATIENCE, what, look).await
}

/// The most memory of another process over the same database, from its start to its end.
async fn most_of(home: &Home, aws: &FakeAws, args: &[&str]) -> u64 {
    let mut command = home.account_command(&aws.endpoint, "test");
    let child = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut watched = Watched { child, socket: PathBuf::new() };
    let mut most = 0;
    until("the pass ends", async || {
        most = watched.most_bytes().unwrap_or(0).max(most);
        watched.child.try_wait().unwrap()
    })
    .await;
    most
}

/// Asks for everything that shows all containers or images; clients that do not read are connected meanwhile.
async fn ask_for_everything(daemon: &Watched, count: u64) {
    let mut slow = Vec::new();
    for path in ["/containers/json?all=1", "/system/df"].repeat(SLOW_CLIENTS / 2) {
        slow.push(daemon.send(&format!("GET {path}"), "").await.unwrap());
    }
    let count = usize::try_from(count).unwrap();
    let (status, all) = daemon.ask("GET /containers/json?all=1", "").await.unwrap();
    assert_eq!((status, serde_json::from_slice::<Vec<IgnoredAny>>(&all).unwrap().len()), (200, count));
    drop(all);
    assert_eq!(daemon.json("GET /containers/json").await, json!([]), "none is running");
    let usage = daemon.json("GET /system/df").await;
    assert_eq!(usage["Containers"].as_array().unwrap().len(), count);
    let users: i64 =
        usage["Images"].as_array().unwrap().iter().map(|image| image["Containers"].as_i64().unwrap()).sum();
    assert_eq!((users, usage["Images"].as_array().unwrap().len()), (i64::try_from(count).unwrap(), 10_000));
    drop(usage);
    let info = daemon.json("GET /info").await;
    assert_eq!((info["Containers"].as_u64(), info["Images"].as_u64()), (Some(count as u64), Some(10_000)));
    assert_eq!(daemon.json("GET /images/json").await.as_array().unwrap().len(), 10_000);
    let (status, events) = daemon.ask("GET /events?since=1&until=2", "").await.unwrap();
    assert_eq!((status, events.len()), (200, 0));
    let filter = "%7B%22label%22%3A%5B%22prune%3Dyes%22%5D%7D";
    let pruned = daemon.json(&format!("POST /containers/prune?filters={filter}")).await;
    let pruned = pruned["ContainersDeleted"].as_array().unwrap().len();
    assert_eq!(daemon.json("GET /info").await["Containers"].as_u64(), Some((count - pruned) as u64));
    assert!(pruned as u64 >= PRUNED, "{pruned}");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_at_100000_containers_stays_below_512_mib() {
    let count = match std::env::var("SOCKERLESS_MEMORY_CONTAINERS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => FEW_CONTAINERS,
    };
    let home = Home::new();
    let aws = FakeAws::start().await;
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let metrics = format!("127.0.0.1:{}", port());

    // An empty daemon, which also makes the row that all others are copies of.
    let daemon = Watched::serve(&home, &aws, &metrics);
    let body = json!({ "Image": "host", "Cmd": ["sh", "-c", "exit 0"], "Env": vec!["NAME=value"; 20] }).to_string();
    let create = "POST /containers/create?name=job";
    let (status, answer) = until("it serves", async || daemon.ask(create, &body).await.ok()).await;
    assert_eq!(status, 201, "{}", String::from_utf8_lossy(&answer));
    until("its function is there", async || {
        let (_, body) = daemon.ask("GET /containers/job/json", "").await.ok()?;
        let found: Value = serde_json::from_slice(&body).ok()?;
        found["Sockerless"]["FunctionArn"].as_str().map(drop)
    })
    .await;
    let base = daemon.stop();
    fill(&home.database(), count).await;
    aws.list(count, ORPHANS);

    let fixed = base + FIXED_BYTES;
    let most = fixed + (MOST_BYTES - fixed) * count / MOST_CONTAINERS;
    let began = Instant::now();
    let daemon = Watched::serve(&home, &aws, &metrics);
    let begun = aws.lists();
    until("it sweeps twice", async || (aws.lists() >= begun + 2).then_some(())).await;
    let after_sweeps = daemon.most_bytes().unwrap();
    ask_for_everything(&daemon, count).await;
    let (status, _) = support::http(&format!("http://{metrics}"), "GET", "/ui/state", "").unwrap();
    assert_eq!(status, 200);
    let after_lists = daemon.most_bytes().unwrap();
    let rehearsed = most_of(&home, &aws, &["--reconcile-once", "--dry-run"]).await;
    let begun = aws.lists();
    until("it sweeps again", async || (aws.lists() > begun).then_some(())).await;
    let served = daemon.stop();
    let passed = most_of(&home, &aws, &["--reconcile-once", "--deadline", "60s"]).await;

    let mib = |bytes: u64| bytes >> 20;
    println!(
        "memory: {count} containers, daemon {} MiB (start and sweeps {}, lists {}), dry run {} MiB, pass {} MiB, empty {} \
         MiB, allowed {} MiB, {} s",
        mib(served),
        mib(after_sweeps),
        mib(after_lists),
        mib(rehearsed),
        mib(passed),
        mib(base),
        mib(most),
        began.elapsed().as_secs()
    );
    for (what, bytes) in [("the daemon", served), ("a dry run", rehearsed), ("a pass", passed)] {
        assert!(bytes < most, "{what} took {} MiB of {}", mib(bytes), mib(most));
    }
}
