//! `run`, as a user types it: the real binary, with the embedded sandbox in the place of AWS.
#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The user's state, in a directory of its own; at the end no process of it may be left.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockerless-backend-lambda"));
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("XDG_STATE_HOME", self.0.path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(&[&["run", "--sandbox"], arguments].concat()).output().unwrap()
    }

    /// A daemon that is ready, with what it told.
    fn serve(&self) -> (Daemon, String) {
        let mut child = self.command(&["--sandbox"]).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Daemon(child), line)
    }

    fn state(&self) -> std::path::PathBuf {
        self.0.path().join("sockerless-lambda")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let rendezvous = self.state().join("lambda.db.sandbox");
        if let Ok(text) = std::fs::read(rendezvous) {
            let rendezvous: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let pid = rendezvous["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn assert_run(output: &Output, code: i32, stdout: &str) {
    let (out, err) = texts(output);
    assert_eq!((output.status.code(), out.as_str()), (Some(code), stdout), "{err}");
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

#[test]
fn a_program_hands_on_its_output_and_exit_code() {
    let home = Home::new();
    let output = home.run(&["host", "sh", "-c", "echo hello from lambda; echo oops >&2; exit 3"]);
    assert_run(&output, 3, "hello from lambda\n");
    assert_eq!(texts(&output).1, "oops\n");
    let (daemon, _) = home.serve();
    let socket = home.state().join("docker.sock");
    assert!(socket.exists());
    assert_eq!(daemon.stop(), Some(0));
    assert!(!socket.exists(), "the socket is tidied up");
    until("the sandbox has ended", || !home.state().join("lambda.db.sandbox").exists());
}

#[test]
fn environment_directory_and_payload_reach_the_program() {
    let home = Home::new();
    let script = "echo $GREETING; pwd; cat";
    let arguments = ["-e", "GREETING=hi", "-w", "/usr", "--payload", "{\"x\": 1}", "--timeout", "20", "-m", "256"];
    let output = home.run(&[&arguments[..], &["host", "sh", "-c", script]].concat());
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.starts_with("hi\n/usr\n") && stdout.contains("\"x\""), "{stdout}");
}

#[test]
fn the_result_follows_the_output() {
    let home = Home::new();
    let output = home.run(&["--result", "host", "sh", "-c", "echo out"]);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    let result = stdout.strip_prefix("out\n").unwrap();
    let result: serde_json::Value = serde_json::from_str(result).unwrap();
    assert_eq!(result["sockerless"]["exit_code"], 0, "{result}");
    assert_eq!(result["sockerless"]["token"], "(token)", "nobody may speak for the bootstrap");
}

#[test]
fn a_program_that_cannot_be_started_fails_like_in_a_shell_and_says_why() {
    let home = Home::new();
    for (program, code, reason) in [
        ("/does/not/exist", 127, "exec: \"/does/not/exist\": no such file or directory"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
    ] {
        let output = home.run(&["host", program]);
        assert_run(&output, code, "");
        assert_eq!(texts(&output).1, format!("sockerless: {reason}\n"));
    }
}

#[test]
fn a_program_whose_time_is_up_is_told_so() {
    let output = Home::new().run(&["--timeout", "1", "host", "sleep", "30"]);
    assert_run(&output, 137, "");
    let (_, stderr) = texts(&output);
    assert!(stderr.contains("time was up"), "{stderr}");
}

#[test]
fn what_fails_before_the_run_is_125_and_leaves_nothing() {
    let home = Home::new();
    let output = home.run(&["--name", "not a name!", "host", "true"]);
    assert_run(&output, 125, "");
    assert!(!texts(&output).1.is_empty());
}

#[test]
fn a_daemon_that_runs_already_is_used() {
    let home = Home::new();
    let (daemon, line) = home.serve();
    assert_eq!(line, format!("export DOCKER_HOST=unix://{}\n", home.state().join("docker.sock").display()));
    assert_run(&home.run(&["host", "echo", "over the socket"]), 0, "over the socket\n");
    assert_eq!(daemon.stop(), Some(0));
}

/// A layout with an image that has no file at all: enough to be found.
fn layout(directory: &Path, name: &str) {
    let oci = "application/vnd.oci.image";
    let config =
        r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config_digest = "eafab66ddebcaa70f00a09f5cfeabe7bed81fa6828246b53ee2ef7ab484ae753";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json","config":{{"mediaType":"{oci}.config.v1+json","digest":"sha256:{config_digest}","size":101}},"layers":[]}}"#
    );
    let digest = "3f80856ef009becbeb138b5d1969e5025b318ed413aeb4cb5f149a82a76b88f7";
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json","digest":"sha256:{digest}","size":{},"annotations":{{"io.containerd.image.name":"docker.io/library/{name}"}}}}]}}"#,
        manifest.len()
    );
    std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    for (path, text) in [
        ("oci-layout".to_owned(), "{}"),
        ("index.json".to_owned(), &index),
        (format!("blobs/sha256/{config_digest}"), config),
        (format!("blobs/sha256/{digest}"), &manifest),
    ] {
        std::fs::write(directory.join(path), text).unwrap();
    }
}

#[test]
fn an_image_that_the_sandbox_does_not_have_is_told_with_those_that_it_has() {
    let home = Home::new();
    let images = tempfile::tempdir().unwrap();
    layout(&images.path().join("one"), "one:1");
    let output = home.run(&["--sandbox-images", images.path().to_str().unwrap(), "nope", "true"]);
    assert_run(&output, 125, "");
    let known =
        "Source image nope:latest does not exist. Provide a valid source image. The sandbox has: host:latest, one:1.";
    assert!(texts(&output).1.contains(known), "{}", texts(&output).1);
}

#[test]
fn a_daemon_that_runs_already_hears_of_the_images() {
    let home = Home::new();
    let (daemon, _) = home.serve();
    let images = tempfile::tempdir().unwrap();
    layout(images.path(), "one:1");
    let output = home.run(&["--sandbox-images", images.path().to_str().unwrap(), "nope", "true"]);
    assert!(texts(&output).1.contains("The sandbox has: host:latest, one:1."), "{}", texts(&output).1);
    let missing = home.run(&["--sandbox-images", "/does/not/exist", "host", "true"]);
    assert_run(&missing, 125, "");
    assert!(texts(&missing).1.contains("/does/not/exist is neither a directory nor a file"), "{}", texts(&missing).1);
    let found = home.run(&["--sandbox-images", images.path().to_str().unwrap(), "one:1", "x"]);
    assert!(!texts(&found).1.contains("does not exist"), "{}", texts(&found).1);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn two_runs_at_once_share_one_database() {
    let home = Home::new();
    let spawn = |word: &str| {
        let script = format!("echo {word}; sleep 1; echo {word} again");
        home.command(&["run", "--sandbox", "host", "sh", "-c", &script]).spawn().unwrap()
    };
    let (one, two) = (spawn("one"), spawn("two"));
    assert_run(&one.wait_with_output().unwrap(), 0, "one\none again\n");
    assert_run(&two.wait_with_output().unwrap(), 0, "two\ntwo again\n");
}

#[test]
fn an_interrupt_leaves_a_state_that_the_next_start_tidies() {
    let home = Home::new();
    // Programs have a /tmp of their own.
    let shared = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let marker = shared.path().join("started");
    let script = format!("touch {}; sleep 2", marker.display());
    let child = home.command(&["run", "--sandbox", "host", "sh", "-c", &script]).spawn().unwrap();
    until("the program has started", || Path::exists(&marker));
    let running = Daemon(child);
    running.signal(Signal::SIGINT);
    let mut running = running;
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
    assert_run(&home.run(&["host", "echo", "after"]), 0, "after\n");
}

#[test]
fn a_killed_daemon_finds_its_sandbox_again() {
    let home = Home::new();
    let rendezvous = home.state().join("lambda.db.sandbox");
    let (daemon, _) = home.serve();
    let before = std::fs::read_to_string(&rendezvous).unwrap();
    drop(daemon);
    let (daemon, _) = home.serve();
    assert_eq!(std::fs::read_to_string(&rendezvous).unwrap(), before);
    assert_eq!(daemon.stop(), Some(0));
    until("the sandbox has ended", || !rendezvous.exists());
}
