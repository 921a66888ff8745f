//! A sandbox that cannot see what the bootstrap hides: one without root, or whose root has not all rights.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use caps::{CapSet, Capability};
use serde_json::json;
use sockerless_sandbox::runner::RunnerEvent;

use crate::{PATIENCE, Sandbox, bootstrap, config};

/// Names the bootstrap for the test that another user runs.
const BOOTSTRAP: &str = "SANDBOX_TEST_BOOTSTRAP";

#[tokio::test]
async fn bootstrap_is_served_where_what_it_hides_cannot_be_seen() {
    // Of this thread, and of those that it starts.
    caps::drop(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap();
    let mut sandbox = Sandbox::with_environment(false).await;
    assert_eq!(sandbox.sh(1, "a", "echo one").await.lines, ["one"]);
    assert_eq!(sandbox.sh(1, "b", "echo $AWS_LAMBDA_RUNTIME_API again").await.lines, ["again"]);
}

/// Asks every Runtime API of this user for an invocation, and prints each answer's first line.
const THIEF: &str = r#"
own='$2 ~ /^0100007F:/ && $4 == "0A" && $8 == user { sub(/.*:/, "", $2); print $2 }'
connections=
for port in $(awk -v user="$(id -u)" "$own" /proc/net/tcp)
do
    exec {connection}<>/dev/tcp/127.0.0.1/$((16#$port))
    printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&$connection
    connections="$connections $connection"
done
echo "asked" $connections
for connection in $connections
do
    read -r line <&$connection && echo "got $line"
done
"#;

/// Run by [`program_of_the_same_user_cannot_take_another_environments_invocation`] as a user without rights.
#[tokio::test]
#[ignore = "another test runs it as another user"]
async fn thief_gets_nothing() {
    let bootstrap = std::env::var(BOOTSTRAP).unwrap();
    let mut sandbox = Sandbox::new(&[&bootstrap], true);
    for environment in [1, 2] {
        sandbox.start(environment, config).await;
        while !matches!(sandbox.event().await, RunnerEvent::Ready { environment: ready, .. } if ready == environment) {}
    }
    let order =
        |script: &str| json!({ "sockerless": { "version": 1, "token": "t", "command": ["bash", "-c", script] } });
    sandbox.invoke(2, "thief", &order(THIEF), PATIENCE).await;
    let asked = loop {
        match sandbox.event().await {
            RunnerEvent::Line { text, .. } if text.starts_with("asked") => break text,
            RunnerEvent::Line { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(asked.split(' ').count() > 2, "its own environment's and the other's: {asked}");
    sandbox.invoke(1, "victim", &order("echo secret"), PATIENCE).await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match sandbox.event().await {
            RunnerEvent::Line { text, .. } => assert!(!text.contains("HTTP/1.1 200"), "{text}"),
            RunnerEvent::Ended { request_id, .. } => ended.push(request_id),
            other => panic!("{other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, ["thief", "victim"]);
}

#[test]
fn program_of_the_same_user_cannot_take_another_environments_invocation() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user, and is needed so that nobody else's ports are asked");
        return;
    }
    // Nobody can neither see root's temporary directories nor this repository.
    let place = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = |from: &std::path::Path, name: &str| {
        let to = place.path().join(name);
        std::fs::copy(from, &to).unwrap();
        OsString::from(to)
    };
    let test = copy(&std::env::current_exe().unwrap(), "test");
    let bootstrap = copy(&bootstrap(), "bootstrap");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(test)
        .args(["--ignored", "--exact", "without_rights::thief_gets_nothing"])
        .env(BOOTSTRAP, bootstrap)
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
