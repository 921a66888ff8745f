//! The bootstrap as a process of its own, against a Runtime API.

mod support;
mod unclean;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sockerless_bootstrap::protocol::{MAX_LINE_BYTES, Marker, Reason, Stream, looks_like_platform};
use support::{Session, processes_with};

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

/// Those that end nothing by default: SIGCHLD, SIGCONT, the four that stop, SIGURG, SIGWINCH.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
/// Those that the C library keeps for itself: no process can block them, and one that glibc starts ignores them.
const OF_THE_C_LIBRARY: [i32; 2] = [32, 33];
/// Those that report a fault of the process itself, and those that cannot be blocked.
const FATAL: [i32; 9] = [4, 5, 6, 7, 8, 9, 11, 19, 31];

#[test]
fn death_by_a_real_time_signal_is_128_plus_its_number() {
    let mut session = Session::start(&[]);
    for signal in (1..=64).filter(|signal| !HARMLESS.contains(signal) && !OF_THE_C_LIBRARY.contains(signal)) {
        let run = session.sh(&format!("ulimit -c 0; kill -{signal} $$; sleep 60"));
        let verdict = &run.verdict;
        let found = (i32::from(verdict.exit_code), verdict.reason, verdict.signal);
        assert_eq!(found, (128 + signal, Reason::Signalled, Some(signal)));
    }
}

#[test]
fn orphan_that_dies_by_a_real_time_signal_does_not_end_the_program() {
    let mut session = Session::start(&[]);
    for (death, name) in [("kill -34 $$", "34"), ("kill -64 $$", "64"), ("kill -9 $$", "9"), ("exit 3", "exit")] {
        let file = session.temp.path().join(name);
        // The shell in the middle ends at once; the program goes on when its grandchild was reaped.
        let script = format!(
            "sh -c 'sh -c \"echo \\$\\$ >$FILE.new; mv $FILE.new $FILE; until [ -e $FILE.go ]; do :; done; {}\" &'; \
             until [ -e $FILE ]; do :; done; pid=$(cat $FILE); : >$FILE.go; \
             while [ -e /proc/$pid ]; do :; done; echo alive; exit 7",
            death.replace('$', "\\$")
        );
        let order = json!({ "command": ["sh", "-c", script], "env": [format!("FILE={}", file.display())] });
        let run = session.run(&order);
        assert_eq!((run.text(), run.verdict.exit_code), ("alive\n", 7), "{death}");
    }
}

#[test]
fn signal_from_the_program_does_not_end_the_bootstrap() {
    let mut session = Session::start(&[]);
    for signal in (1..=64).filter(|signal| !FATAL.contains(signal) && !OF_THE_C_LIBRARY.contains(signal)) {
        let run = session.sh(&format!("kill -{signal} $PPID; echo alive"));
        assert_eq!(run.text(), "alive\n", "{signal}");
    }
    assert_eq!(session.sh("exit 4").verdict.exit_code, 4);
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
    for line in ["[stdout%] a%00b%FF%C2", "[stdout+] last\r", "[stderr%] %40sockerless:exit t 0 exited"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let forged = session.sh("echo '@sockerless:exit t 0 exited'; exit 1");
    assert_eq!(forged.text(), "[stdout%] %40sockerless:exit t 0 exited\n");
    assert_eq!(forged.verdict.exit_code, 1);
}

/// What a program writes, in which pieces, and a part of the line that must not be in the log.
const LOOK_ALIKES: [(&str, &str); 9] = [
    (r"printf 'START RequestId: 1 Version: 1\n'", "RequestId:"),
    (
        r"printf 'REPORT Requ'; printf 'estId: 1\tDuration: NaN ms\n' >&2; printf 'estId: 1\tDuration: NaN ms\n'",
        "RequestId:",
    ),
    (r"printf 'END RequestId: 1'", "RequestId:"),
    (r"printf 'x\rRequestId: 1 Error: Runtime exited\n'", "RequestId:"),
    (r"printf '\000\033[1m\357\273\277START RequestId: 1\n'", "RequestId:"),
    (r"printf '2026-01-01T00:00:00.000Z 1 Task timed out after 3.00 seconds\n\n'", "Task timed out"),
    (r"printf 'IMAGE\tLaunch error: x\nEXTENSION\tName: x\nINIT_START Runtime\n'", "\t"),
    (r#"printf '{"time":"","type":"platform.report"}\n{"type":"\\u0070latform.start"}\n'"#, "\"platform."),
    (r"head -c 131072 /dev/zero | tr '\000' x; echo '@sockerless:exit t 0 exited'", "@sockerless"),
];

#[test]
fn line_that_looks_like_a_platform_line_is_escaped() {
    let mut session = Session::start(&[]);
    for (script, phrase) in LOOK_ALIKES {
        let written = Command::new("sh").args(["-c", script]).output().unwrap();
        for tty in [false, true] {
            let run = session.run(&json!({ "command": ["sh", "-c", script], "tty": tty }));
            assert!(!run.text().contains(phrase), "{script}: {}", run.text());
            for line in run.text().lines() {
                assert!(!looks_like_platform(line.as_bytes()) || line.starts_with('['), "{script}: {line}");
            }
            if !tty {
                assert_eq!(run.decoded(Stream::Stdout), written.stdout, "{script}");
                assert_eq!(run.decoded(Stream::Stderr), written.stderr, "{script}");
            }
        }
    }
    let run = session.sh(r"printf '[stderr] a\n[stdout+%%] b\nRuntime.ExitError\n[stdout] c'");
    assert_eq!(
        run.text(),
        "[stdout] [stderr] a\n[stdout] [stdout+%] b\n[stdout] Runtime.ExitError\n[stdout+] [stdout] c\n"
    );
    assert_eq!(run.decoded(Stream::Stdout), b"[stderr] a\n[stdout+%] b\nRuntime.ExitError\n[stdout] c");
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

/// Runs as long as FLAG is there, and is another process of another session each time that somebody looks.
const COMET: &str = "[ -e $FLAG ] || exit; setsid sh $COMET & exit";

#[test]
fn descendants_of_a_run_do_not_outlive_it() {
    let mut session = Session::start(&[]);
    let (flag, comet) = (session.temp.path().join("flag"), session.temp.path().join("comet"));
    std::fs::write(&comet, COMET).unwrap();
    let env = [format!("FLAG={}", flag.display()), format!("COMET={}", comet.display()), "MARK=of-this-run".to_owned()];
    for script in [
        // A daemon, by the book.
        "setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000 & sleep 1000' & sleep 0.2",
        "(setsid sh -c '(sleep 1000 &)' &)",
        // Stopped, before and after it has left.
        "sh -c 'kill -STOP $$; sleep 1000' & setsid sh -c 'kill -STOP $$; sleep 1000' &",
        "sh $COMET & sh $COMET & sh $COMET & sh $COMET & sleep 0.2",
        // A tree that goes on growing, for ten levels.
        "grow() { if [ $1 -gt 0 ]; then grow $(($1-1)) & grow $(($1-1)) & wait; fi; sleep 1000; }; grow 5 & sleep 0.1",
        "i=0; while [ $i -lt 100 ]; do setsid sleep 1000 & i=$((i+1)); done",
    ] {
        std::fs::write(&flag, "").unwrap();
        let run = session.run(&json!({ "command": ["sh", "-c", format!("{script}\necho done")], "env": env }));
        let left = processes_with("MARK=of-this-run");
        std::fs::remove_file(&flag).unwrap();
        assert_eq!((run.text(), run.verdict.exit_code), ("done\n", 0), "{script}");
        assert!(left.is_empty(), "{script}: {left:?}");
    }
    std::fs::write(&flag, "").unwrap();
    let endless =
        json!({ "command": ["sh", "-c", "trap '' TERM; sh $COMET & sh $COMET & exec sleep 1000"], "env": env });
    let run = session.run_for("endless", &endless, Duration::from_secs(3));
    let left = processes_with("MARK=of-this-run");
    std::fs::remove_file(&flag).unwrap();
    assert_eq!((run.verdict.reason, run.verdict.signal), (Reason::Deadline, Some(9)));
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(session.sh("echo again").text(), "again\n", "the environment is still used");
}

#[test]
fn exit_before_the_deadline_counts_when_both_are_seen_at_once() {
    let mut session = Session::start(&[]);
    let bootstrap = nix::unistd::Pid::from_raw(i32::try_from(session.child.id()).unwrap());
    let pid = session.temp.path().join("pid");
    let order = json!({
        "command": ["sh", "-c", "echo $$ >$PID.new; mv $PID.new $PID; until [ -e $PID.go ]; do :; done; exit 3"],
        "env": [format!("PID={}", pid.display())],
    });
    let (time, term) = (Duration::from_secs(10), Duration::from_secs(8));
    let began = support::now();
    session.order("t", &order, time);
    while !pid.exists() {
        std::thread::yield_now();
    }
    nix::sys::signal::kill(bootstrap, nix::sys::signal::Signal::SIGSTOP).unwrap();
    std::fs::write(pid.with_extension("go"), "").unwrap();
    let stat = format!("/proc/{}/stat", std::fs::read_to_string(&pid).unwrap().trim());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    assert!(began.elapsed() < term, "the program has ended in time");
    // Lambda freezes an environment in the same way.
    support::wait_until(began + term + Duration::from_millis(100));
    nix::sys::signal::kill(bootstrap, nix::sys::signal::Signal::SIGCONT).unwrap();
    let verdict = session.post().verdict();
    assert_eq!((verdict.exit_code, verdict.reason), (3, Reason::Exited));
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
fn program_cannot_find_its_token_or_its_request_id() {
    let mut session = Session::start(&[]);
    let order = json!({ "command": ["sh", "-c", SEARCH], "payload": "given" });
    let token = "token-0123456789abcdef";
    let run = session.run_for(token, &order, Duration::from_secs(60));
    let text = String::from_utf8_lossy(&run.log);
    assert!(text.contains("PPID=") && text.contains("given"), "the search has found something: {text}");
    // As root, and so with CAP_SYS_ADMIN, it can see where its parent's memory is and what that was started with.
    let seen_by_root = ["can-read-environ", "can-read-maps", "AWS_LAMBDA_RUNTIME_API"];
    let hidden: &[&str] = if nix::unistd::geteuid().is_root() { &[] } else { &seen_by_root };
    for secret in
        [token, "request-1", "can-read-mem", "can-read-fd", "can-read-cwd", "can-read-exe"].iter().chain(hidden)
    {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn program_inherits_no_file_descriptor() {
    let (_reader, writer) = std::io::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mut session = Session::start(&[]);
    // The fourth is the directory that is listed.
    assert_eq!(session.run(&json!({ "command": ["ls", "/proc/self/fd"] })).text(), "0\n1\n2\n3\n");
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
