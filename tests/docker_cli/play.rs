//! Plays a section: step by step, as a user would at a shell.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Outcome;
use super::daemon::Daemon;
use super::pattern::{fits, lines};
use super::script::{Section, Step};

/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Functions that a shell of a step may use.
const PRELUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_cli/prelude.sh");

/// What came of a step.
struct Came {
    stdout: String,
    stderr: String,
    /// `None`: it had to be ended.
    status: Option<i32>,
}

/// Plays one section on a daemon of its own.
pub(crate) fn section(cli: &Path, section: &Section) -> Outcome {
    let daemon = Daemon::start();
    let folder = daemon.folder();
    std::fs::create_dir(folder.join("bin"))?;
    std::fs::create_dir(folder.join("work"))?;
    std::os::unix::fs::symlink(cli, folder.join("bin/docker"))?;
    write_hold(&daemon)?;
    for step in &section.steps {
        let came = run(&daemon, &step.command);
        if let Some(report) = difference(step, &came) {
            let log = daemon.log();
            let tail = log.get(log.floor_char_boundary(log.len().saturating_sub(3_000))..).unwrap_or_default();
            return Err(format!("{report}\nthe daemon's log:\n{tail}").into());
        }
    }
    leaves_nothing(&daemon)
}

/// The program of containers that must not end before the section says so: it waits for the file `$GO`.
fn write_hold(daemon: &Daemon) -> std::io::Result<()> {
    let script = format!("#!/bin/sh\nuntil [ -e '{}' ]; do sleep 0.05; done\n", daemon.shared("go").display());
    std::fs::write(daemon.shared("hold"), script)?;
    std::fs::set_permissions(daemon.shared("hold"), Permissions::from_mode(0o755))
}

/// Removes what the section left, after which nothing may be left in AWS.
fn leaves_nothing(daemon: &Daemon) -> Outcome {
    run(daemon, "docker ps -aq --no-trunc | xargs -r docker rm -f");
    let begin = Instant::now();
    loop {
        let functions = daemon.functions();
        if functions.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(format!("functions are left: {functions:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(daemon: &Daemon, command: &str) -> Came {
    let folder = daemon.folder();
    let path = std::env::var("PATH").unwrap();
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    // Into files: a program that a step leaves behind cannot hold up the next one.
    let mut child = Command::new("sh")
        .args(["-c", &format!(". {PRELUDE}\n{command}")])
        .current_dir(folder.join("work"))
        .env_clear()
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .env("DOCKER_HOST", &daemon.host)
        .env("DOCKER_CONFIG", folder.join("docker"))
        .env("HOME", folder)
        .env("HOLD", daemon.shared("hold"))
        .env("GO", daemon.shared("go"))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status.code().unwrap_or(-1));
        }
        if begin.elapsed() > PATIENCE {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
    let read = |file: &Path| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    Came { stdout: read(&out), stderr: read(&err), status }
}

/// What is not as expected, in words.
fn difference(step: &Step, came: &Came) -> Option<String> {
    let mut report = String::new();
    for (what, expected, actual) in [("stdout", &step.stdout, &came.stdout), ("stderr", &step.stderr, &came.stderr)] {
        if !fits(expected, actual) {
            let actual = lines(actual).join("\n    ");
            write!(report, "\n  {what} expected:\n    {}\n  {what}:\n    {actual}", expected.join("\n    ")).unwrap();
        }
    }
    match came.status {
        None => write!(report, "\n  not ended after {PATIENCE:?}").unwrap(),
        Some(status) if status != step.status => {
            write!(report, "\n  exit status: {status} instead of {}", step.status).unwrap();
        }
        Some(_) => {}
    }
    (!report.is_empty()).then(|| format!("{}\n  $ {}{report}", step.place, step.command))
}
