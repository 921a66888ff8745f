//! Programs that resist: what they cannot hold up, and when an environment is given up.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sockerless_bootstrap::protocol::Reason;

use crate::support::{self, Session};

/// Attaches to the process that its environment names, says so, and never lets go of it. Not a test of its own.
#[test]
fn tracer() {
    let Some(victim) = support::variable("TRACER_OF") else { return };
    let victim = Pid::from_raw(victim.parse().unwrap());
    // Where it is forbidden, the program is one like any other.
    let _ = ptrace::seize(victim, ptrace::Options::empty());
    std::fs::write(support::variable("TRACER_READY").unwrap(), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn end_that_another_process_holds_back_does_not_hold_the_deadline() {
    let mut session = Session::start(&[]);
    let ready = session.temp.path().join("ready");
    let script = "TRACER_OF=$$ setsid \"$TRACER\" --exact unclean::tracer --nocapture >/dev/null & \
                  until [ -e $TRACER_READY ]; do :; done; exit 3";
    let order = json!({
        "command": ["sh", "-c", script],
        "env": [format!("TRACER={}", std::env::current_exe().unwrap().display()),
                format!("TRACER_READY={}", ready.display())],
    });
    let run = session.run_for("traced", &order, Duration::from_secs(3));
    let verdict = (run.verdict.exit_code, run.verdict.reason);
    assert!(verdict == (137, Reason::Deadline) || verdict == (3, Reason::Exited), "{verdict:?}");
    assert_eq!(session.sh("echo again").text(), "again\n", "the environment is still used");
}

#[test]
fn deadline_is_kept_while_nobody_reads_the_log() {
    let scripts = ["exec yes", "trap 'exit 0' TERM; yes & wait", "trap '' TERM; yes; while :; do sleep 1; done"];
    std::thread::scope(|scope| {
        for script in scripts {
            scope.spawn(move || {
                let mut session = Session::start(&[]);
                // Leaves 300 ms for the answer.
                let time = Duration::from_secs(9);
                let began = support::now();
                session.order("t", &json!({ "command": ["sh", "-c", script] }), time);
                let verdict = session.post().verdict();
                assert!(began.elapsed() < time, "{script}: {:?}", began.elapsed());
                assert_eq!((verdict.exit_code, verdict.reason), (137, Reason::Deadline), "{script}");
                // The next run's log would begin with the rest of this one's.
                assert_eq!(session.child.wait().unwrap().code(), Some(1), "{script}");
            });
        }
    });
}

/// What a bootstrap that ended by itself said last, and its exit code.
fn last_words(mut session: Session) -> (Option<i32>, String) {
    let code = session.child.wait().unwrap().code();
    let mut said = String::new();
    std::io::Read::read_to_string(session.child.stderr.as_mut().unwrap(), &mut said).unwrap();
    (code, said)
}

fn with_stderr(command: &mut Command) {
    command.stderr(Stdio::piped());
}

#[test]
fn environment_whose_log_nobody_reads_serves_no_other_invocation() {
    let mut session = Session::start_with(&[], Arc::new(tempfile::tempdir().unwrap()), with_stderr);
    session.order("t", &json!({ "command": ["sh", "-c", "yes"] }), Duration::from_secs(3));
    session.order("next", &json!({ "command": ["true"] }), Duration::from_secs(60));
    assert_eq!(session.post().verdict().token, "t");
    let (code, said) = last_words(session);
    assert_eq!(code, Some(1));
    assert!(said.contains("This environment cannot be used again: nobody reads the log."), "{said}");
}

#[test]
fn exit_is_reported_while_nobody_reads_the_log() {
    let mut session = Session::start(&[]);
    let script = "yes & yes >&2 & while [ \"$(ls $TMPDIR/go 2>/dev/null)\" = '' ]; do :; done; exit 3";
    session.order("t", &json!({ "command": ["sh", "-c", script] }), Duration::from_secs(60));
    std::fs::write(session.temp.path().join("go"), "").unwrap();
    let verdict = session.post().verdict();
    assert_eq!((verdict.exit_code, verdict.reason), (3, Reason::Exited));
}

/// Sends real-time signals, which queue, to the process that its environment names, without end. Not a test of its own.
#[test]
fn signaller() {
    let Some(victim) = support::variable("SIGNALLER_OF") else { return };
    let victim: i32 = victim.parse().unwrap();
    loop {
        support::signal(victim, 40);
    }
}

#[test]
fn deadline_is_kept_while_the_program_sends_signals_without_end() {
    let mut session = Session::start(&[]);
    let order = json!({
        "command": ["sh", "-c", "trap '' TERM; SIGNALLER_OF=$PPID exec \"$SIGNALLER\" --exact unclean::signaller >/dev/null"],
        "env": [format!("SIGNALLER={}", std::env::current_exe().unwrap().display())],
    });
    let run = session.run_for("signals", &order, Duration::from_secs(3));
    assert_eq!((run.verdict.reason, run.verdict.signal), (Reason::Deadline, Some(9)));
}

/// An order whose program writes its id to a file and goes on when another file is there.
fn gated(session: &Session, then: &str) -> (Value, std::path::PathBuf) {
    let pid = session.temp.path().join("pid");
    let script = format!("echo $$ >$PID.new; mv $PID.new $PID; until [ -e $PID.go ]; do :; done; {then}");
    (json!({ "command": ["sh", "-c", script], "env": [format!("PID={}", pid.display())] }), pid)
}

fn pid_in(file: &std::path::Path) -> Pid {
    while !file.exists() {
        std::thread::yield_now();
    }
    Pid::from_raw(std::fs::read_to_string(file).unwrap().trim().parse().unwrap())
}

#[test]
fn environment_in_which_a_process_does_not_end_serves_no_other_invocation() {
    let mut session = Session::start_with(&[], Arc::new(tempfile::tempdir().unwrap()), with_stderr);
    let (order, pid) = gated(&session, "exit 3");
    session.order("t", &order, Duration::from_secs(3));
    session.order("next", &json!({ "command": ["true"] }), Duration::from_secs(60));
    // A dead process is there until its tracer has looked after it.
    if ptrace::seize(pid_in(&pid), ptrace::Options::empty()).is_err() {
        eprintln!("skipped: no process may be traced here");
        return;
    }
    std::fs::write(pid.with_extension("go"), "").unwrap();
    let verdict = session.post().verdict();
    assert_eq!((verdict.token.as_str(), verdict.reason), ("t", Reason::Deadline));
    let (code, said) = last_words(session);
    assert_eq!(code, Some(1));
    assert!(said.contains("This environment cannot be used again: processes of a run do not end."), "{said}");
}

#[test]
fn bootstrap_that_is_started_again_beside_what_a_killed_one_has_left_is_not_fooled() {
    let temp = Arc::new(tempfile::tempdir().unwrap());
    let mut session = Session::start_with(&[], Arc::clone(&temp), |_| {});
    let (mut order, pid) = gated(&session, "echo of the run before; exit 3");
    order["payload"] = json!("of the run before");
    session.order("t", &order, Duration::from_secs(900));
    let program = pid_in(&pid);
    session.finish();
    assert!(kill(program, None).is_ok(), "the program is left over");
    let mut again = Session::start_with(&[], Arc::clone(&temp), |_| {});
    let run = again.sh("ls $TMPDIR | grep -c payload; echo 'of this run'");
    assert_eq!(run.text(), "0\nof this run\n");
    again.order("t", &order, Duration::from_secs(60));
    assert_eq!(again.post().verdict().reason, Reason::Duplicate);
    assert!(kill(program, None).is_ok(), "it is nobody's child here");
    std::fs::write(pid.with_extension("go"), "").unwrap();
    while kill(program, None).is_ok() {
        std::thread::yield_now();
    }
    assert!(!String::from_utf8_lossy(&again.finish()).contains("of the run before"));
    // Not needed where the program has ended.
    let _ = kill(program, Signal::SIGKILL);
}
