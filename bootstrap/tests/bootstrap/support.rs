//! A Lambda Runtime API as small as it can be, and a bootstrap that talks to it.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that cannot go on should fail")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sockerless_bootstrap::protocol::{Answer, Marker, Stream, Verdict, decode_line};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the runtime posted.
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn verdict(&self) -> Verdict {
        assert!(self.path.ends_with("/response"), "{}", self.path);
        serde_json::from_slice::<Answer>(&self.body).unwrap().sockerless
    }
}

struct Work {
    request_id: String,
    deadline_ms: i64,
    payload: Vec<u8>,
}

/// A bootstrap in its own process, and its Runtime API.
pub(crate) struct Session {
    pub(crate) child: Child,
    pub(crate) temp: Arc<tempfile::TempDir>,
    log: BufReader<ChildStdout>,
    work: SyncSender<Work>,
    posts: Receiver<Post>,
    runs: usize,
}

/// What a run left.
pub(crate) struct Run {
    pub(crate) verdict: Verdict,
    /// The program's part of the log: everything between the two markers.
    pub(crate) log: Vec<u8>,
    pub(crate) markers: Vec<Marker>,
}

impl Run {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.log).unwrap()
    }

    /// What the program wrote, as a daemon decodes it.
    pub(crate) fn decoded(&self, stream: Stream) -> Vec<u8> {
        let mut written = Vec::new();
        for line in self.text().split_terminator('\n') {
            let (of, bytes, complete) = decode_line(line).unwrap();
            if of == stream {
                written.extend_from_slice(&bytes);
                written.extend(complete.then_some(b'\n'));
            }
        }
        written
    }
}

impl Session {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Arc::new(tempfile::tempdir().unwrap()), |_| {})
    }

    pub(crate) fn start_with(
        arguments: &[&str],
        temp: Arc<tempfile::TempDir>,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (work, work_in) = sync_channel(16);
        let (posts_in, posts) = sync_channel(16);
        let work_in = Arc::new(Mutex::new(work_in));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (work, posts) = (Arc::clone(&work_in), posts_in.clone());
                std::thread::spawn(move || serve(connection, &work, &posts));
            }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockerless-bootstrap"));
        command.args(arguments).stdout(Stdio::piped()).stdin(Stdio::null());
        command.env("AWS_LAMBDA_RUNTIME_API", address).env("TMPDIR", temp.path());
        // The API is to be asked directly, whatever the function's environment says.
        command.env("http_proxy", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        Self { child, temp, log, work, posts, runs: 0 }
    }

    pub(crate) fn invoke(&mut self, payload: Vec<u8>, time: Duration) {
        self.runs += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let deadline_ms = i64::try_from((now + time).as_millis()).unwrap();
        self.work.send(Work { request_id: format!("request-{}", self.runs), deadline_ms, payload }).unwrap();
    }

    pub(crate) fn post(&self) -> Post {
        self.posts.recv_timeout(PATIENCE).unwrap()
    }

    /// Runs an order with a new token.
    pub(crate) fn run(&mut self, order: &Value) -> Run {
        let token = format!("token-{}-{}", self.child.id(), self.runs);
        self.run_for(&token, order, Duration::from_secs(900))
    }

    /// Hands an order over, and waits for nothing.
    pub(crate) fn order(&mut self, token: &str, order: &Value, time: Duration) {
        let mut order = order.clone();
        order["version"] = json!(1);
        order["token"] = json!(token);
        self.invoke(json!({ "sockerless": order }).to_string().into_bytes(), time);
    }

    pub(crate) fn run_for(&mut self, token: &str, order: &Value, time: Duration) -> Run {
        self.order(token, order, time);
        let (mut log, mut markers) = (Vec::new(), Vec::new());
        loop {
            let line = self.line();
            match std::str::from_utf8(&line).ok().and_then(Marker::parse) {
                Some(marker @ Marker::Start { .. }) => markers.push(marker),
                Some(last) => {
                    markers.push(last);
                    break;
                }
                None => log.extend(line),
            }
        }
        let verdict = self.post().verdict();
        assert_eq!(verdict.token, token);
        Run { verdict, log, markers }
    }

    pub(crate) fn sh(&mut self, script: &str) -> Run {
        self.run(&json!({ "command": ["sh", "-c", script] }))
    }

    pub(crate) fn line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        assert_ne!(self.log.read_until(b'\n', &mut line).unwrap(), 0, "the bootstrap has ended");
        line
    }

    /// Ends the bootstrap; gives the rest of the log.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.child.kill().unwrap();
        let mut rest = Vec::new();
        self.log.read_to_end(&mut rest).unwrap();
        rest
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(connection: TcpStream, work: &Mutex<Receiver<Work>>, posts: &SyncSender<Post>) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut writer = connection;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if path == "/2018-06-01/runtime/invocation/next" {
            let work = work.lock().ok()?.recv().ok()?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
                 Lambda-Runtime-Trace-Id: Root=1-trace\r\nContent-Length: {}\r\n\r\n",
                work.request_id,
                work.deadline_ms,
                work.payload.len()
            );
            writer.write_all(&[head.into_bytes(), work.payload].concat()).ok()?;
        } else {
            posts.send(Post { path, headers, body }).ok()?;
            writer.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n").ok()?;
        }
    }
}

/// The processes with this in their environment.
pub(crate) fn processes_with(variable: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has = |path: &std::path::PathBuf| {
        let environ = std::fs::read(path.join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    processes.filter(has).map(|path| std::fs::read_to_string(path.join("stat")).unwrap_or_default()).collect()
}

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// For what depends on the time alone.
pub(crate) fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(now()));
}

/// A variable of this process's environment.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Sends any signal, a real-time one included.
#[expect(unsafe_code, reason = "nix knows no real-time signals")]
pub(crate) fn signal(process: i32, number: i32) {
    // SAFETY: the call touches no memory. A process that is gone, and a full queue, are refused.
    unsafe { nix::libc::kill(process, number) };
}
