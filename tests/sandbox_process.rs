//! The sandbox as a process of its own: the real binary, started, killed and stopped.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The user's state, in a directory of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockerless-backend-lambda"));
        command.env_clear().env("XDG_STATE_HOME", self.0.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A daemon that is ready.
    fn serve(&self) -> Process {
        let mut process = Process(self.command(&["--sandbox"]).spawn().unwrap());
        let line = process.line();
        assert!(line.starts_with("export DOCKER_HOST=unix:///"), "{line}");
        process
    }

    fn beside_the_database(&self, end: &str) -> PathBuf {
        self.0.path().join(format!("sockerless-lambda/lambda.db.{end}"))
    }

    /// The process id of the sandbox, as the rendezvous tells it.
    fn sandbox(&self) -> Option<Pid> {
        let text = std::fs::read(self.beside_the_database("sandbox")).ok()?;
        let rendezvous: serde_json::Value = serde_json::from_slice(&text).unwrap();
        Some(Pid::from_raw(i32::try_from(rendezvous["pid"].as_i64().unwrap()).unwrap()))
    }
}

/// Ends a sandbox that a failed test has left.
impl Drop for Home {
    fn drop(&mut self) {
        if let Some(sandbox) = self.sandbox() {
            let _ = kill(sandbox, Signal::SIGTERM);
        }
    }
}

struct Process(Child);

impl Process {
    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

/// As with `kill -9`.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(25));
    }
    panic!("in vain: {what}");
}

fn has_ended(process: Pid) -> bool {
    kill(process, None) == Err(Errno::ESRCH)
}

#[test]
fn it_outlives_a_killed_daemon_and_ends_with_a_clean_stop() {
    let home = Home::new();
    drop(home.serve());
    let sandbox = home.sandbox().unwrap();
    let daemon = home.serve();
    assert_eq!(home.sandbox(), Some(sandbox), "found again");
    assert_eq!(daemon.stop(), Some(0));
    until("the sandbox has ended", || home.sandbox().is_none() && has_ended(sandbox));
}

#[test]
fn a_rendezvous_with_a_dead_process_is_stale() {
    let home = Home::new();
    drop(home.serve());
    let dead = home.sandbox().unwrap();
    kill(dead, Signal::SIGKILL).unwrap();
    until("the sandbox is dead", || has_ended(dead));
    let daemon = home.serve();
    assert_ne!(home.sandbox(), Some(dead));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let home = Home::new();
    let daemon = home.serve();
    let sandbox = home.sandbox();
    let second = home.command(&["--sandbox"]).output().unwrap();
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    assert!(second.stdout.is_empty() && stderr.contains("is in use by another daemon"), "{stderr}");
    assert_eq!(home.sandbox(), sandbox);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn there_is_never_a_second_one_for_a_database() {
    let home = Home::new();
    let daemon = home.serve();
    let rendezvous = home.beside_the_database("sandbox");
    let before = std::fs::read(&rendezvous).unwrap();
    let second = home.command(&["sandbox", "--rendezvous", rendezvous.to_str().unwrap()]).output().unwrap();
    assert!(second.status.success() && second.stdout.is_empty());
    assert_eq!(std::fs::read(&rendezvous).unwrap(), before);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn alone_it_tells_how_an_sdk_gets_there() {
    let home = Home::new();
    let mut sandbox = Process(home.command(&["sandbox", "--region", "eu-west-1"]).spawn().unwrap());
    let mut told = String::new();
    let mut stdout = BufReader::new(sandbox.0.stdout.take().unwrap());
    while !told.contains("AWS_SECRET_ACCESS_KEY") {
        assert_ne!(stdout.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(told.starts_with("export AWS_ENDPOINT_URL=http://127.0.0.1:"), "{told}");
    assert!(told.contains("\nexport AWS_REGION=eu-west-1\nexport AWS_ACCESS_KEY_ID=SANDBOX"), "{told}");
    let secret = told.trim().rsplit_once("AWS_SECRET_ACCESS_KEY=").unwrap().1;
    assert!(secret.len() == 64 && secret.bytes().all(|digit| digit.is_ascii_hexdigit()), "{told}");
    assert_eq!(sandbox.stop(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty(), "{rest}");
}

/// A request without the key, and one with it, of the sandbox's own surface.
fn ask(endpoint: &str, path: &str, authorization: &str) -> String {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{authorization}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn sandbox_key_is_random_and_only_in_a_file_of_its_owner() {
    let home = Home::new();
    let daemon = home.serve();
    let path = home.beside_the_database("sandbox");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let rendezvous: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let word = |name: &str| rendezvous[name].as_str().unwrap().to_owned();
    let (endpoint, secret) = (word("endpoint"), word("secret_access_key"));
    assert!(secret.len() == 64 && word("access_key_id").len() > 16 && word("identity").len() == 64);
    for path in ["/_sandbox/state", "/_sandbox/identity", "/2015-03-31/functions"] {
        for wrong in ["", "Authorization: Bearer sandbox\r\n"] {
            let answer = ask(&endpoint, path, wrong);
            assert!(answer.starts_with("HTTP/1.0 403"), "{path}: {answer}");
        }
        let answer = ask(&endpoint, path, &format!("Authorization: Bearer {secret}\r\n"));
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    }
    // What other users see of the processes, and what both have written.
    let sandbox = home.sandbox().unwrap().as_raw();
    let mut shown = Vec::new();
    for pid in [sandbox, i32::try_from(daemon.0.id()).unwrap()] {
        for file in ["cmdline", "environ"] {
            shown.extend(std::fs::read(format!("/proc/{pid}/{file}")).unwrap());
        }
    }
    shown.extend(std::fs::read(home.beside_the_database("sandbox.log")).unwrap());
    shown.extend(std::fs::read(home.beside_the_database("sandbox").with_extension("")).unwrap());
    let shown = String::from_utf8_lossy(&shown);
    assert!(!shown.contains(&secret) && !shown.contains(&word("identity")));
    assert_eq!(daemon.stop(), Some(0));

    let other = Home::new();
    let daemon = other.serve();
    let another: serde_json::Value =
        serde_json::from_slice(&std::fs::read(other.beside_the_database("sandbox")).unwrap()).unwrap();
    assert_ne!(another["secret_access_key"], rendezvous["secret_access_key"]);
    assert_eq!(daemon.stop(), Some(0));
}
