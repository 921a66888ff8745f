//! Real programs behind the real bootstrap, through the real Runtime API.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a test that cannot go on should fail; real processes run on real time"
)]

#[path = "../build/mod.rs"]
mod build;
mod runtime_api;
mod without_rights;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use build::build;
use bytes::Bytes;
use serde_json::{Value, json};
use sockerless_bootstrap::protocol::{Answer, Marker, Reason, Verdict};
use sockerless_sandbox::runner::{
    End, EnvironmentConfig, Invocation, Root, Runner, RunnerConfig, RunnerError, RunnerEvent,
};
use tokio::sync::mpsc;

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS: usize = 64;

/// The bootstrap, built like this test. Its crate is another one, so Cargo does not tell where it is.
fn bootstrap() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(["--bin", "sockerless-bootstrap"])).clone()
}

struct Sandbox {
    runner: Runner,
    events: mpsc::Receiver<RunnerEvent>,
}

/// What an invocation left.
struct Ended {
    end: End,
    lines: Vec<String>,
    duration_ms: f64,
    max_memory_mb: u32,
}

impl Ended {
    fn verdict(&self) -> Verdict {
        let End::Response(body) = &self.end else { panic!("{:?}, {:?}", self.end, self.lines) };
        serde_json::from_slice::<Answer>(body).unwrap().sockerless
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Sandbox {
    fn new(bootstrap: &[&str], isolate: bool) -> Self {
        let bootstrap = bootstrap.iter().map(OsString::from).collect();
        Self::with(RunnerConfig { bootstrap, isolate, ..RunnerConfig::default() })
    }

    fn with(config: RunnerConfig) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self { runner: Runner::new(config, sender), events }
    }

    async fn with_environment(isolate: bool) -> Self {
        let sandbox = Self::new(&[bootstrap().to_str().unwrap()], isolate);
        sandbox.start(1, config).await;
        sandbox
    }

    async fn start(&self, id: u64, change: impl FnOnce(&mut EnvironmentConfig)) {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let unique = (u64::from(std::process::id()) << 32) | u64::from(STARTED.fetch_add(1, Ordering::Relaxed));
        let mut config = EnvironmentConfig {
            environment: id,
            name: format!("{unique:032x}"),
            root: Root::Machine,
            entrypoint: Vec::new(),
            command: Vec::new(),
            working_dir: None,
            env: BTreeMap::from([("AWS_LAMBDA_FUNCTION_NAME".to_owned(), "f".to_owned())]),
            memory_mb: 128,
            tmp_mb: 512,
        };
        change(&mut config);
        self.runner.start(config).await.unwrap();
    }

    async fn event(&mut self) -> RunnerEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn invoke(&self, environment: u64, request_id: &str, payload: &Value, time: Duration) {
        let invocation = Invocation {
            request_id: request_id.to_owned(),
            payload: Bytes::from(payload.to_string()),
            deadline_ms: now_ms() + i64::try_from(time.as_millis()).unwrap(),
            function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
            client_context: None,
            trace_id: "Root=1-trace".to_owned(),
        };
        self.runner.invoke(environment, invocation).await.unwrap();
    }

    /// Events up to the end of this invocation.
    async fn ended(&mut self, request: &str) -> Ended {
        let mut lines = Vec::new();
        loop {
            match self.event().await {
                RunnerEvent::Line { text, .. } => lines.push(text),
                RunnerEvent::Ended { request_id, end, duration_ms, max_memory_mb, .. } => {
                    assert_eq!(request_id, request);
                    return Ended { end, lines, duration_ms, max_memory_mb };
                }
                RunnerEvent::Ready { .. } => {}
                RunnerEvent::Gone { .. } => panic!("gone: {lines:?}"),
            }
        }
    }

    /// Runs a shell script; gives what it printed between the markers, too.
    async fn sh(&mut self, environment: u64, request: &str, script: &str) -> Ended {
        self.sh_for(environment, request, script, Duration::from_secs(300)).await
    }

    async fn sh_for(&mut self, environment: u64, request: &str, script: &str, time: Duration) -> Ended {
        let order = json!({ "version": 1, "token": format!("token-{request}"), "command": ["sh", "-c", script] });
        self.invoke(environment, request, &json!({ "sockerless": order }), time).await;
        let mut ended = self.ended(request).await;
        ended.lines.retain(|line| Marker::parse(line).is_none());
        ended
    }

    async fn gone(&mut self, environment: u64) {
        loop {
            if matches!(self.event().await, RunnerEvent::Gone { environment: id } if id == environment) {
                return;
            }
        }
    }
}

fn config(_: &mut EnvironmentConfig) {}

/// How long a process of this test run sleeps, in seconds: a word to find it by.
fn word(test: u32) -> String {
    format!("{test}{:07}", std::process::id())
}

/// Whether any process has this word among its arguments.
fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).split('\0').any(|argument| argument == word)
    })
}

#[tokio::test]
async fn a_program_runs_and_its_lines_come_before_its_end() {
    let mut sandbox = Sandbox::with_environment(true).await;
    let order = json!({ "version": 1, "token": "t", "command": ["sh", "-c", "echo out; echo err >&2; exit 3"] });
    sandbox.invoke(1, "a", &json!({ "sockerless": order }), PATIENCE).await;
    let RunnerEvent::Ready { environment: 1, init_ms } = sandbox.event().await else { panic!() };
    assert!(init_ms > 0.0);
    let ended = sandbox.ended("a").await;
    assert_eq!(ended.lines.first().unwrap(), "@sockerless:start t a");
    assert_eq!(ended.lines.last().unwrap(), "@sockerless:exit t 3 exited");
    assert!(ended.lines.contains(&"out".to_owned()) && ended.lines.contains(&"[stderr] err".to_owned()));
    assert_eq!((ended.verdict().exit_code, ended.verdict().reason), (3, Reason::Exited));
    assert!(ended.duration_ms > 0.0 && ended.max_memory_mb > 0, "{} {}", ended.duration_ms, ended.max_memory_mb);
}

#[tokio::test]
async fn all_lines_come_before_the_end_however_many_there_are() {
    let mut sandbox = Sandbox::with_environment(true).await;
    for request in ["a", "b", "c"] {
        let ended = sandbox.sh(1, request, "seq 1 5000").await;
        assert_eq!(ended.lines.len(), 5000);
        assert_eq!(ended.lines.last().unwrap(), "5000");
    }
}

#[tokio::test]
async fn an_environment_is_used_again_and_keeps_its_tmp_to_itself() {
    let mut sandbox = Sandbox::with_environment(true).await;
    sandbox.start(2, config).await;
    let name = format!("private-{}", std::process::id());
    assert_eq!(sandbox.sh(1, "a", &format!("echo kept > /tmp/{name}")).await.verdict().exit_code, 0);
    assert_eq!(sandbox.sh(1, "b", &format!("cat /tmp/{name}")).await.lines, ["kept"]);
    assert_eq!(sandbox.sh(2, "c", &format!("cat /tmp/{name}; ls -A /tmp/")).await.verdict().exit_code, 0);
    assert!(!Path::new("/tmp").join(name).exists());
}

#[tokio::test]
async fn the_bootstrap_may_be_where_the_private_tmp_hides_it() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let copy = directory.path().join("bootstrap");
    // By another process: a fork of this one would have the copy open for writing, and what is open so cannot be executed.
    assert!(Command::new("cp").arg(bootstrap()).arg(&copy).status().unwrap().success());
    let mut sandbox = Sandbox::new(&[copy.to_str().unwrap()], true);
    sandbox.start(1, config).await;
    assert_eq!(sandbox.sh(1, "a", "echo here").await.lines, ["here"]);
}

#[tokio::test]
async fn processes_see_only_their_own_environment() {
    let mut sandbox = Sandbox::with_environment(true).await;
    let ended = sandbox.sh(1, "a", "echo $$; env | cut -d= -f1 | sort; pwd; ls -d /proc/[0-9]* | wc -l").await;
    assert!(ended.lines.first().unwrap().parse::<u32>().unwrap() < 100, "{:?}", ended.lines);
    for name in ["AWS_LAMBDA_FUNCTION_NAME", "HOME", "LANG", "PATH", "/"] {
        assert!(ended.lines.iter().any(|line| line == name), "{name}: {:?}", ended.lines);
    }
    assert!(!ended.lines.iter().any(|line| line.starts_with("CARGO")), "{:?}", ended.lines);
}

#[tokio::test]
async fn the_deadline_kills_everything() {
    // A runtime that takes an invocation and never answers.
    let word = word(1);
    let script = "curl() { exec 3<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/:/\\/}; \
                  printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; }; \
                  curl; read -r line <&3; echo \"$line\"; sleep $0 & sleep $0";
    let mut sandbox = Sandbox::new(&[], true);
    let runtime = ["/bin/bash", "-c", script, &word].map(str::to_owned).to_vec();
    sandbox.start(1, |config| config.entrypoint = runtime).await;
    sandbox.invoke(1, "a", &json!({}), Duration::from_millis(1500)).await;
    let ended = sandbox.ended("a").await;
    assert_eq!(ended.end, End::TimedOut);
    assert_eq!(ended.lines, ["HTTP/1.1 200 OK\r"]);
    assert!(!is_running(&word));
    sandbox.gone(1).await;
    let again = sandbox.runner.invoke(1, invocation()).await;
    assert!(matches!(again, Err(RunnerError::UnknownEnvironment(1))), "{again:?}");
}

fn invocation() -> Invocation {
    Invocation {
        request_id: "late".to_owned(),
        payload: Bytes::new(),
        deadline_ms: now_ms(),
        function_arn: String::new(),
        client_context: None,
        trace_id: String::new(),
    }
}

#[tokio::test]
async fn the_bootstrap_ends_a_program_before_the_deadline() {
    let mut sandbox = Sandbox::with_environment(true).await;
    let ended = sandbox.sh_for(1, "a", "sleep 1000", Duration::from_secs(3)).await;
    assert_eq!((ended.verdict().exit_code, ended.verdict().reason), (137, Reason::Deadline));
    assert_eq!(sandbox.sh(1, "b", "echo again").await.lines, ["again"]);
}

#[tokio::test]
async fn too_much_memory_kills_everything() {
    for isolate in [true, false] {
        let mut sandbox = Sandbox::with_environment(isolate).await;
        let ended = sandbox.sh(1, "a", "x=0123456789; while :; do x=$x$x; done").await;
        assert_eq!(ended.end, End::OutOfMemory, "{:?}", ended.lines);
        assert!(ended.max_memory_mb > 32, "{}", ended.max_memory_mb);
        sandbox.gone(1).await;
    }
}

#[tokio::test]
async fn a_runtime_that_exits_ends_its_invocation() {
    for (script, end) in [
        ("exit 5", End::Exited { code: 5 }),
        ("echo hello; exit 0", End::Exited { code: 0 }),
        ("kill -SEGV $$; sleep 1000", End::Signalled { signal: 11 }),
    ] {
        // Without a PID namespace: in one, the first process cannot be killed from inside.
        let directory = tempfile::tempdir().unwrap();
        let gate = directory.path().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        let script = format!("read x <{}; {script}", gate.display());
        let mut sandbox = Sandbox::new(&["/bin/sh", "-c", &script], false);
        sandbox.start(1, config).await;
        sandbox.invoke(1, "a", &json!({}), PATIENCE).await;
        std::fs::write(&gate, "go\n").unwrap();
        assert_eq!(sandbox.ended("a").await.end, end);
        sandbox.gone(1).await;
    }
}

#[tokio::test]
async fn an_environment_that_exits_before_its_first_invocation_says_how() {
    let mut sandbox = Sandbox::new(&["/bin/false"], true);
    sandbox.start(1, config).await;
    assert_eq!(sandbox.ended("").await.end, End::Exited { code: 1 });
    let RunnerEvent::Gone { environment: 1 } = sandbox.event().await else { panic!() };
}

#[tokio::test]
async fn nothing_is_left_after_a_kill() {
    for (isolate, word) in [(true, word(2)), (false, word(3))] {
        let mut sandbox = Sandbox::with_environment(isolate).await;
        let script = format!("sleep {word} & setsid sh -c 'sleep {word} & sleep {word}' & echo up; sleep {word}");
        let order = json!({ "version": 1, "token": "t", "command": ["sh", "-c", script] });
        sandbox.invoke(1, "a", &json!({ "sockerless": order }), PATIENCE).await;
        while !matches!(sandbox.event().await, RunnerEvent::Line { text, .. } if text == "up") {}
        sandbox.runner.kill(1).await;
        assert_eq!(sandbox.ended("a").await.end, End::Signalled { signal: 9 });
        sandbox.gone(1).await;
        assert!(!is_running(&word));
        sandbox.runner.kill(1).await;
    }
}

/// Without a PID namespace, where the kernel kills the rest: there, nobody inside can kill the first process either.
#[tokio::test]
async fn nothing_is_left_of_an_environment_whose_bootstrap_is_killed() {
    let word = word(5);
    let mut sandbox = Sandbox::with_environment(false).await;
    let script = format!(
        "sleep {word} & setsid sleep {word} & \
         setsid sh -c 'env -i sleep {word} & sleep {word}' & kill -9 $PPID; sleep {word}"
    );
    let order = json!({ "version": 1, "token": "t", "command": ["sh", "-c", script] });
    sandbox.invoke(1, "a", &json!({ "sockerless": order }), PATIENCE).await;
    assert_eq!(sandbox.ended("a").await.end, End::Signalled { signal: 9 });
    sandbox.gone(1).await;
    assert!(!is_running(&word));
}

#[tokio::test]
async fn shutdown_and_drop_end_all_environments() {
    let word = word(4);
    let mut sandbox = Sandbox::new(&["/bin/sleep"], true);
    for id in [1, 2] {
        sandbox.start(id, |config| config.command = vec![word.clone()]).await;
    }
    assert!(is_running(&word));
    sandbox.runner.shutdown().await;
    assert!(!is_running(&word));
    for _ in [1, 2] {
        while !matches!(sandbox.event().await, RunnerEvent::Gone { .. }) {}
    }
    sandbox.start(3, |config| config.command = vec![word.clone()]).await;
    let Sandbox { runner, mut events } = sandbox;
    drop(runner);
    while events.recv().await.is_some() {}
    assert!(!is_running(&word));
}

#[tokio::test]
async fn an_entry_point_takes_the_place_of_the_bootstrap() {
    let mut sandbox = Sandbox::new(&["/nonexistent"], true);
    let script = "echo native $0; exit 7";
    sandbox
        .start(1, |config| {
            config.entrypoint = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
            config.command = [script, "runtime"].map(str::to_owned).to_vec();
        })
        .await;
    let mut lines = Vec::new();
    loop {
        match sandbox.event().await {
            RunnerEvent::Line { text, .. } => lines.push(text),
            RunnerEvent::Ended { end, .. } => {
                assert_eq!(end, End::Exited { code: 7 });
                break;
            }
            _ => {}
        }
    }
    assert_eq!(lines, ["native runtime"]);
}

#[tokio::test]
async fn without_namespaces_there_is_a_private_tmpdir() {
    let mut sandbox = Sandbox::with_environment(false).await;
    let ended = sandbox.sh(1, "a", "echo $TMPDIR; echo x >$TMPDIR/file").await;
    let directory = PathBuf::from(ended.lines.first().unwrap());
    assert!(directory.join("file").exists());
    sandbox.runner.kill(1).await;
    sandbox.gone(1).await;
    // It goes when the environment's task has ended, right after its last event.
    tokio::time::timeout(PATIENCE, async {
        while directory.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// Names follow from the seed, which two sandboxes of one process may share.
#[tokio::test]
async fn two_environments_of_one_name_do_not_meet() {
    let bootstrap = bootstrap();
    let (mut one, mut two) =
        (Sandbox::new(&[bootstrap.to_str().unwrap()], false), Sandbox::new(&[bootstrap.to_str().unwrap()], false));
    for sandbox in [&one, &two] {
        sandbox.start(1, |config| config.name = format!("{:032x}", 7)).await;
    }
    assert_eq!(one.sh(1, "r1", "echo one > $TMPDIR/word").await.verdict().exit_code, 0);
    assert_eq!(two.sh(1, "r2", "test -e $TMPDIR/word").await.verdict().exit_code, 1);
    assert_eq!(one.sh(1, "r3", "test -e $TMPDIR/word").await.verdict().exit_code, 0);
}

#[tokio::test]
async fn what_cannot_be_started_is_an_error() {
    let sandbox = Sandbox::new(&["/nonexistent"], true);
    let config = EnvironmentConfig {
        environment: 1,
        name: format!("{:032x}", std::process::id()),
        root: Root::Machine,
        entrypoint: Vec::new(),
        command: Vec::new(),
        working_dir: Some("/nonexistent".to_owned()),
        env: BTreeMap::new(),
        memory_mb: 128,
        tmp_mb: 512,
    };
    assert!(matches!(sandbox.runner.start(config.clone()).await, Err(RunnerError::Start(_))));
    let sandbox = Sandbox::new(&["/bin/true"], true);
    assert!(matches!(sandbox.runner.start(config.clone()).await, Err(RunnerError::WorkingDir { .. })));
    let sandbox = Sandbox::new(&[], true);
    assert!(matches!(sandbox.runner.start(config).await, Err(RunnerError::NoBootstrap)));
}
