//! The real binary on its sandbox, what it uses of this machine, and clients that speak HTTP by hand.

#[path = "../daemon/until.rs"]
mod until;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use until::until_within;

/// How long a state is waited for that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const BINARY: &str = env!("CARGO_BIN_EXE_sockerless-backend-lambda");

/// What the daemon uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

pub(crate) struct Daemon {
    child: Child,
    state: tempfile::TempDir,
    shared: tempfile::TempDir,
    tcp: String,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with_files(0)
    }

    /// `files`: how many it may have open; 0: as many as this test.
    pub(crate) fn start_with_files(files: u32) -> Self {
        let state = tempfile::Builder::new().prefix("skls").tempdir().unwrap();
        let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let socket = state.path().join("docker.sock");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let limit = if files == 0 { String::new() } else { format!("ulimit -n {files}; ") };
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), BINARY, "--sandbox"])
            .args(["--listen", &format!("unix://{},tcp://127.0.0.1:{port}", socket.display())])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("export DOCKER_HOST="), "the daemon did not start: {line:?}");
        Self { child, state, shared, tcp: format!("127.0.0.1:{port}") }
    }

    /// A file that programs in containers can see.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    pub(crate) fn usage(&self) -> Usage {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Usage { files: std::fs::read_dir(process.join("fd")).unwrap().count(), bytes: kib * 1_024 }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::new(UnixStream::connect(self.state.path().join("docker.sock")).await.unwrap())
    }

    /// A connection on which a request without a body was sent.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str) -> Client {
        let mut client = self.connect().await;
        client.write(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
        client
    }

    /// Status and body.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.send(method, path, "Connection: close\r\n").await.all().await
    }

    pub(crate) async fn ask_over_tcp(&self, method: &str, path: &str) -> (u16, String) {
        let mut client = Client::new(TcpStream::connect(&self.tcp).await.unwrap());
        client.write(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        client.all().await
    }

    /// A container whose program is running.
    pub(crate) async fn run(&self, name: &str, script: &str) {
        let began = self.file("began");
        let script = format!("touch {}; {script}", began.display());
        let body = serde_json::json!({ "Image": "host", "Cmd": ["sh", "-c", script] }).to_string();
        let mut client = self.connect().await;
        let head = format!("POST /containers/create?name={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        client
            .write(&format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
            .await;
        assert_eq!(client.all().await.0, 201);
        assert_eq!(self.ask("POST", &format!("/containers/{name}/start")).await.0, 204);
        until("the program runs", async || began.exists().then_some(())).await;
    }

    /// SIGTERM, and the exit code that follows.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

/// Ends the sandbox too: a killed daemon leaves it behind.
impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let rendezvous = self.state.path().join("sockerless-lambda/lambda.db.sandbox");
        let Ok(text) = std::fs::read_to_string(rendezvous) else { return };
        let Some(pid) = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|found| found["pid"].as_i64())
        else {
            return;
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A client.
pub(crate) struct Client {
    io: Box<dyn Io>,
    read: Vec<u8>,
}

impl Client {
    fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the text has come, and gives everything that has.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let reading = async {
            while !String::from_utf8_lossy(&self.read).contains(text) {
                assert!(self.io.read_buf(&mut self.read).await.unwrap() > 0, "closed before {text:?}");
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "{text:?} never came");
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Whether nothing comes for so long.
    pub(crate) async fn is_silent(&mut self, long: Duration) -> bool {
        tokio::time::timeout(long, self.io.read_buf(&mut self.read)).await.is_err()
    }

    /// Status and body of an answer that ends with its connection.
    async fn all(&mut self) -> (u16, String) {
        let reading = self.io.read_to_end(&mut self.read);
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer").unwrap();
        let text = String::from_utf8_lossy(&self.read).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// Waits for a state, and fails with `what` if it does not come.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}
