//! The bootstrap as a process of its own, against a Runtime API.

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sockerless_bootstrap::protocol::{MAX_LINE_BYTES, Marker, Reason};
use support::Session;

#[test]
fn a_program_runs_between_its_markers() {
    let mut session = Session::start(&[]);
    let run = session.run_for("t", &json!({ "command": ["echo", "hello  world"] }), Duration::from_secs(60));
    assert_eq!(run.text(), "hello  world\n");
    assert_eq!(
        run.markers,
        [
            Marker::Start { token: "t".into(), request_id: "request-1".into() },
            Marker::Exit { token: "t".into(), exit_code: 0, reason: Reason::Exited, signal: None },
        ]
    );
    assert_eq!((run.verdict.exit_code, run.verdict.reason, run.verdict.message), (0, Reason::Exited, None));
}

#[test]
fn the_end_is_told_as_a_shell_tells_it() {
    let mut session = Session::start(&[]);
    for (script, code, reason, signal) in [
        ("exit 0", 0, Reason::Exited, None),
        ("exit 3", 3, Reason::Exited, None),
        ("exit 255", 255, Reason::Exited, None),
        ("kill -KILL $$", 137, Reason::Signalled, Some(9)),
        ("kill -TERM $$", 143, Reason::Signalled, Some(15)),
        ("kill -SEGV $$", 139, Reason::Signalled, Some(11)),
    ] {
        let run = session.sh(script);
        let verdict = &run.verdict;
        assert_eq!((verdict.exit_code, verdict.reason, verdict.signal), (code, reason, signal), "{script}");
        let Some(Marker::Exit { exit_code, reason: told, signal: by, .. }) = run.markers.last() else {
            panic!("{:?}", run.markers)
        };
        assert_eq!((*exit_code, *told, *by), (code, reason, signal));
    }
}

#[test]
fn what_cannot_be_started_is_told_in_dockers_words() {
    let mut session = Session::start(&[]);
    let directory = session.temp.path().to_owned();
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let garbage = file("garbage", "\0garbage");
    let orphan = file("orphan", "#!/nonexistent/interpreter\n");
    for (order, code, message) in [
        (json!({ "command": ["foo"] }), 127, r#"exec: "foo": executable file not found in $PATH"#.to_owned()),
        (json!({ "command": ["/etc/passwd"] }), 126, r#"exec: "/etc/passwd": permission denied"#.to_owned()),
        (json!({ "command": ["/"] }), 126, r#"exec: "/": is a directory"#.to_owned()),
        (json!({ "command": [&garbage] }), 126, format!("exec {garbage:?}: exec format error")),
        (json!({ "command": [&orphan] }), 127, format!("exec {orphan:?}: no such file or directory")),
        (json!({ "command": [] }), 127, "no command specified".to_owned()),
        (
            json!({ "command": ["true"], "working_dir": "/nonexistent" }),
            127,
            r#"chdir to working directory "/nonexistent": no such file or directory"#.to_owned(),
        ),
    ] {
        let run = session.run(&order);
        assert_eq!((run.verdict.exit_code, run.verdict.reason), (code, Reason::NotStarted), "{order}");
        assert_eq!(run.text(), format!("[stderr] sockerless: {message}\n"));
        assert_eq!(run.verdict.message, Some(message));
        assert_eq!(run.markers.len(), 2);
    }
}

#[test]
fn stdout_and_stderr_are_told_apart_and_keep_their_order() {
    let mut session = Session::start(&[]);
    let run = session.sh("echo out; printf part; echo err >&2; printf 'ial\\nend'; printf 'bad' >&2");
    let lines: Vec<_> = run.text().lines().collect();
    let of = |stderr: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.starts_with("[stderr") == stderr).copied().collect()
    };
    assert_eq!(of(false), ["out", "partial", "[stdout+] end"]);
    assert_eq!(of(true), ["[stderr] err", "[stderr+] bad"]);
}

#[test]
fn with_tty_stdout_and_stderr_are_one_stream_in_the_order_of_writing() {
    let mut session = Session::start(&[]);
    let script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; tty";
    let run = session.run(&json!({ "command": ["sh", "-c", script], "tty": true }));
    let lines: String = (0..200).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(run.text(), lines + "not a tty\n");
    assert_eq!(run.verdict.exit_code, 1);
}

#[test]
fn lines_of_two_writers_never_mix() {
    let mut session = Session::start(&[]);
    let run = session.sh("line=$(head -c 9000 /dev/zero | tr '\\0' x); \
         (i=0; while [ $i -lt 200 ]; do echo \"$line\"; i=$((i+1)); done) & \
         i=0; while [ $i -lt 200 ]; do echo \"$line\" >&2; i=$((i+1)); done; wait");
    let whole = "x".repeat(9000);
    let stderr = format!("[stderr] {whole}");
    assert_eq!(run.text().lines().filter(|line| *line == whole).count(), 200);
    assert_eq!(run.text().lines().filter(|line| *line == stderr).count(), 200);
    assert_eq!(run.text().lines().count(), 400);
}

#[test]
fn any_byte_may_be_printed() {
    let mut session = Session::start(&[]);
    let run = session.sh(r"printf 'a\000b\377\302\nlast\r'; printf '@sockerless:exit t 0 exited\n' >&2");
    let lines: Vec<&str> = run.text().split_terminator('\n').collect();
    for line in ["[stdout%] a%00b%FF%C2", "[stdout+] last\r", "[stderr] @sockerless:exit t 0 exited"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let forged = session.sh("echo '@sockerless:exit t 0 exited'; exit 1");
    assert_eq!(forged.text(), "[stdout] @sockerless:exit t 0 exited\n");
    assert_eq!(forged.verdict.exit_code, 1);
}

#[test]
fn a_long_line_comes_in_pieces() {
    let mut session = Session::start(&[]);
    let length = 2 * MAX_LINE_BYTES + 10;
    let run = session.sh(&format!("head -c {length} /dev/zero | tr '\\0' x; echo"));
    let lengths: Vec<_> = run.text().lines().map(str::len).collect();
    let piece = "[stdout+] ".len() + MAX_LINE_BYTES;
    assert_eq!(lengths, [piece, piece, 10]);
}

#[test]
fn nothing_is_left_of_a_run() {
    let mut session = Session::start(&[]);
    let pids = session.temp.path().join("pids");
    let run = session.run(&json!({
        "command": ["sh", "-c",
            "(trap '' TERM HUP; echo $$ >/dev/null; exec sleep 1000) & echo $! >>$PIDS; \
             setsid sh -c 'sleep 1000 & echo $! >>$PIDS; echo $$ >>$PIDS; sleep 1000' & \
             while [ \"$(wc -l <$PIDS)\" -lt 3 ]; do :; done; echo done"],
        "env": [format!("PIDS={}", pids.display())],
    }));
    assert_eq!((run.text(), run.verdict.exit_code), ("done\n", 0));
    for pid in std::fs::read_to_string(pids).unwrap().lines() {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    }
}

#[test]
fn the_deadline_is_kept() {
    let mut session = Session::start(&[]);
    let obedient =
        json!({ "command": ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.05; done"] });
    let run = session.run_for("obedient", &obedient, Duration::from_secs(3));
    // A shell may remark on stderr that its `sleep` was terminated, too.
    assert!(run.text().starts_with("hi\n") && run.text().contains("bye\n"), "{}", run.text());
    assert_eq!((run.verdict.exit_code, run.verdict.reason, run.verdict.signal), (137, Reason::Deadline, None));

    let stubborn = json!({ "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"] });
    let run = session.run_for("stubborn", &stubborn, Duration::from_secs(2));
    assert_eq!((run.verdict.exit_code, run.verdict.reason, run.verdict.signal), (137, Reason::Deadline, Some(9)));
}

#[test]
fn a_program_that_never_stops_printing_is_ended_in_time() {
    let mut session = Session::start(&[]);
    let run = session.run_for("loud", &json!({ "command": ["yes"] }), Duration::from_secs(1));
    assert_eq!((run.verdict.exit_code, run.verdict.reason), (137, Reason::Deadline));
}

#[test]
fn a_token_is_good_for_one_run() {
    let mut session = Session::start(&[]);
    let order = json!({ "command": ["echo", "once"] });
    let time = Duration::from_secs(60);
    assert_eq!(session.run_for("t", &order, time).text(), "once\n");
    let again = session.run_for("t", &order, time);
    assert_eq!((again.text(), again.verdict.reason), ("", Reason::Duplicate));
    assert_eq!(again.markers, [Marker::Duplicate { token: "t".into(), request_id: "request-2".into() }]);

    // The bootstrap crashes; the environment and its /tmp stay.
    let temp = Arc::clone(&session.temp);
    session.finish();
    let mut session = Session::start_with(&[], temp, |_| {});
    assert_eq!(session.run_for("t", &order, time).verdict.reason, Reason::Duplicate);
    assert_eq!(session.run_for("u", &order, time).text(), "once\n");
}

#[test]
fn the_payload_is_on_stdin_and_in_a_file() {
    let mut session = Session::start(&[]);
    let payload = "line\n".repeat(100_000);
    let run = session.run(&json!({
        "command": ["sh", "-c", "cmp - \"$SOCKERLESS_PAYLOAD_FILE\" && wc -c <\"$SOCKERLESS_PAYLOAD_FILE\""],
        "payload": payload,
    }));
    assert_eq!(run.text().trim(), payload.len().to_string());
    // Unread, it disturbs nobody; afterwards, the file is gone.
    let run = session.run(&json!({ "command": ["sh", "-c", "echo $SOCKERLESS_PAYLOAD_FILE"], "payload": payload }));
    assert!(!std::path::Path::new(run.text().trim()).exists());
    assert_eq!(session.sh("cat; echo \"${SOCKERLESS_PAYLOAD_FILE-none}\"").text(), "none\n");
}

#[test]
fn a_program_gets_its_environment_and_nothing_of_the_bootstraps() {
    let mut session = Session::start_with(&[], Arc::new(tempfile::tempdir().unwrap()), |command| {
        command.env("INHERITED", "yes").env("TAKEN", "away").env("HOME", "/nonexistent");
    });
    let run = session.run_for(
        "secret-token",
        &json!({ "command": ["sh", "-c", "env; cat /proc/self/cmdline | tr '\\0' ' '; pwd"],
                 "env": ["ADDED=a=b", "INHERITED=changed", "TAKEN"], "working_dir": "/usr" }),
        Duration::from_secs(60),
    );
    for line in ["ADDED=a=b", "INHERITED=changed", "HOME=/tmp", "_X_AMZN_TRACE_ID=Root=1-trace", "PWD=/usr"] {
        assert!(run.text().lines().any(|other| other == line), "{line} in {}", run.text());
    }
    for word in ["TAKEN", "AWS_LAMBDA_RUNTIME_API", "secret-token"] {
        assert!(!run.text().contains(word), "{word} in {}", run.text());
    }
    assert!(run.text().ends_with("/usr\n"));

    let home = tempfile::tempdir().unwrap();
    let order = json!({ "command": ["sh", "-c", "echo $HOME"], "env": [format!("HOME={}", home.path().display())] });
    assert_eq!(session.run(&order).text().trim(), home.path().display().to_string());
}

/// Everything that a program can read of itself and of its parent, and the places that it may not read.
const SEARCH: &str = "\
    for process in self $PPID; do
        for file in environ cmdline auxv maps mem stack syscall status; do
            cat /proc/$process/$file 2>/dev/null
        done
    done
    ls -l /proc/self/fd /proc/$PPID/fd 2>/dev/null
    for file in environ mem maps fd/1 fd/2 cwd root exe; do
        if [ -e /proc/$PPID/$file ] && head -c 0 /proc/$PPID/$file 2>/dev/null; then echo can-read-$file; fi
    done
    set; env; find \"$TMPDIR\" -type f -exec cat {} +";

#[test]
fn a_program_cannot_find_its_runs_token() {
    let mut session = Session::start(&[]);
    let order = json!({ "command": ["sh", "-c", SEARCH], "payload": "given" });
    let token = "token-0123456789abcdef";
    let run = session.run_for(token, &order, Duration::from_secs(60));
    let text = String::from_utf8_lossy(&run.log);
    assert!(text.contains("PPID=") && text.contains("given"), "the search has found something: {text}");
    // As root, and so with CAP_SYS_ADMIN, it can see where its parent's memory is and what that was started with.
    let seen_by_root = ["can-read-environ", "can-read-maps", "AWS_LAMBDA_RUNTIME_API"];
    let hidden: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &seen_by_root };
    for secret in [token, "can-read-mem", "can-read-fd", "can-read-cwd", "can-read-exe"].iter().chain(hidden) {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // No file is open in it but those of any program that is started here.
    let run = session.run_for("other-token", &json!({ "command": ["ls", "/proc/self/fd"] }), Duration::from_secs(60));
    let of_any = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    assert_eq!(run.text(), String::from_utf8(of_any.stdout).unwrap());
}

#[test]
fn signals_are_as_usual_in_the_program() {
    let mut session = Session::start(&[]);
    // Without a shell in between, which would unblock signals itself.
    let run = session.run(&json!({ "command": ["grep", "SigBlk", "/proc/self/status"] }));
    assert_eq!(run.text(), "SigBlk:\t0000000000000000\n");
    assert_eq!(session.sh("yes | head -n 1").text(), "y\n");
}

#[test]
fn the_images_own_command_is_run_when_none_is_ordered() {
    let mut session = Session::start(&["sh", "-c", "echo own; cat"]);
    assert_eq!(session.run(&json!({ "payload": "given" })).text(), "own\n[stdout+] given\n");
    assert_eq!(session.run(&json!({})).text(), "own\n");
}

#[test]
fn a_command_is_given_to_the_images_own_entrypoint() {
    let mut session = Session::start(&["--entrypoint=echo", "--entrypoint=--", "--", "own"]);
    assert_eq!(session.run(&json!({ "after_entrypoint": true })).text(), "-- own\n");
    assert_eq!(session.run(&json!({ "after_entrypoint": true, "command": ["given"] })).text(), "-- given\n");
    assert_eq!(session.run(&json!({ "command": ["echo", "all"] })).text(), "all\n");
}

#[test]
fn an_entrypoint_without_its_end_is_told_to_lambda() {
    let mut session = Session::start(&["--entrypoint=echo", "own"]);
    let post = session.post();
    assert!(post.path.ends_with("/init/error"), "{}", post.path);
    assert_eq!(post.headers["lambda-runtime-function-error-type"], "Runtime.InvalidEntrypoint");
    assert_eq!(session.child.wait().unwrap().code(), Some(64));
}

#[test]
fn a_payload_of_somebody_else_is_given_to_the_images_own_command() {
    let mut session = Session::start(&["sh", "-c", "cat; exit 4"]);
    session.invoke(br#"{"key":"value"}"#.to_vec(), Duration::from_secs(60));
    let verdict = session.post().verdict();
    assert_eq!((verdict.exit_code, verdict.reason, verdict.token.as_str()), (4, Reason::Exited, ""));
    assert_eq!(session.finish(), b"[stdout+] {\"key\":\"value\"}\n");
}

#[test]
fn what_cannot_be_followed_is_a_function_error() {
    let mut session = Session::start(&[]);
    for payload in ["{}", r#"{"sockerless":{"version":9,"token":"t"}}"#, r#"{"sockerless":{"command":["ls"]}}"#] {
        session.invoke(payload.as_bytes().to_vec(), Duration::from_secs(60));
        let post = session.post();
        assert!(post.path.ends_with("/error"), "{}", post.path);
        assert_eq!(post.headers["lambda-runtime-function-error-type"], "Function.InvalidEnvelope");
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(body["errorType"], "Function.InvalidEnvelope");
        assert!(body["errorMessage"].as_str().is_some_and(|message| message.ends_with('.')), "{body}");
    }
    assert_eq!(session.sh("echo still here").text(), "still here\n");
}

#[test]
fn outside_lambda_it_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_sockerless-bootstrap"))
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let sentence = String::from_utf8(output.stderr).unwrap();
    assert!(sentence.starts_with("sockerless-bootstrap: AWS_LAMBDA_RUNTIME_API is not set."), "{sentence}");
}

#[test]
fn a_runtime_api_that_is_gone_ends_the_bootstrap() {
    let output = Command::new(env!("CARGO_BIN_EXE_sockerless-bootstrap"))
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}
