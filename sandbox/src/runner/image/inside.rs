//! The helper's side: into the namespaces, into the image's root, and there the front or the image's program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, ExitStatus};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, chdir, dup2_stdin, fork};

use super::rights::{self, Namespaces};
use super::{Isolation, Plan, Report, Step, mounts};

/// The exit code of a helper that was not started by the runner.
const EXIT_USAGE: u8 = 64;
/// The exit code of an environment in which nothing could be started; the runner was told why.
const EXIT_FAILED: u8 = 1;
/// What a shell adds to the number of the signal that ended a program.
const SIGNAL_EXIT_CODE: u8 = 128;

/// What the front is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// The image's entrypoint.
    pub entrypoint: Vec<OsString>,
    /// The image's command.
    pub cmd: Vec<OsString>,
    /// All variables. This process's own environment means nothing.
    pub variables: Vec<(OsString, OsString)>,
}

/// Enters an image's root as the runner says it on stdin, and becomes what runs there: `front`, or the image's own
/// program. Returns the exit code of the process that is to end now.
///
/// Call it in a process without threads, first of all.
pub fn enter(front: impl FnOnce(Front) -> ExitCode) -> ExitCode {
    let (plan, mut channel) = match receive() {
        Ok(received) => received,
        Err(_) => return ExitCode::from(EXIT_USAGE),
    };
    let namespaces = match rights::enter_namespaces() {
        Ok(namespaces) => namespaces,
        Err(error) => return fail(&mut channel, Step::Isolate, &error),
    };
    match split() {
        Ok(ForkResult::Parent { child }) => {
            drop(channel);
            exit_like(child)
        }
        Ok(ForkResult::Child) => first_process(plan, channel, namespaces, front),
        Err(error) => fail(&mut channel, Step::Isolate, &words("fork", error)),
    }
}

/// The first process of a PID namespace is the next one that is forked.
#[expect(unsafe_code, reason = "the child goes on with this very program, so it cannot be a new one")]
fn split() -> nix::Result<ForkResult> {
    // SAFETY: this process has a single thread (see `enter`), so the child has all that its parent had.
    unsafe { fork() }
}

/// The plan, and where to report to. Stdin is empty afterwards.
fn receive() -> io::Result<(Plan, UnixStream)> {
    // The copy is closed when another program is executed.
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut line = String::new();
    BufReader::new(&channel).read_line(&mut line)?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok((serde_json::from_str(&line)?, channel))
}

fn report(channel: &mut UnixStream, report: &Report) {
    let mut text = serde_json::to_vec(report).unwrap_or_default();
    text.push(b'\n');
    // A runner that is gone has no use for it.
    let _ = channel.write_all(&text);
}

fn fail(channel: &mut UnixStream, step: Step, reason: &str) -> ExitCode {
    report(channel, &Report::Failed { step, reason: reason.to_owned() });
    ExitCode::from(EXIT_FAILED)
}

/// Waits for the first process and ends as it has ended.
fn exit_like(child: Pid) -> ExitCode {
    let Some(status) = wait_for(child) else { return ExitCode::from(EXIT_FAILED) };
    match status.signal() {
        Some(signal) => {
            end_by(signal);
            // The signal is one that this process does not die of.
            ExitCode::from(SIGNAL_EXIT_CODE.saturating_add(u8::try_from(signal).unwrap_or(0)))
        }
        None => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    }
}

/// The kernel's own status: nix takes the death by a real-time signal for a failure of the call.
#[expect(unsafe_code, reason = "nix refuses the statuses of real-time signals")]
fn wait_for(child: Pid) -> Option<ExitStatus> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to an integer that lives until the call returns, and the kernel writes no more.
        match Errno::result(unsafe { libc::waitpid(child.as_raw(), &raw mut status, 0) }) {
            Ok(_) => return Some(ExitStatus::from_raw(status)),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

#[expect(unsafe_code, reason = "nix knows no real-time signals")]
fn end_by(signal: i32) {
    // SAFETY: the call touches no memory. It fails for a number that is no signal.
    unsafe { libc::raise(signal) };
}

fn first_process(
    plan: Plan,
    mut channel: UnixStream,
    namespaces: Namespaces,
    front: impl FnOnce(Front) -> ExitCode,
) -> ExitCode {
    match prepare(&plan, namespaces) {
        Ok(isolation) => report(&mut channel, &Report::Ready(isolation)),
        Err((step, reason)) => return fail(&mut channel, step, &reason),
    }
    let Plan { entrypoint, command, env, .. } = plan;
    if plan.front {
        drop(channel);
        let strings = |words: Vec<String>| words.into_iter().map(OsString::from).collect();
        let variables = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        return front(Front { entrypoint: strings(entrypoint), cmd: strings(command), variables });
    }
    let mut words = entrypoint.into_iter().chain(command);
    let Some(program) = words.next() else {
        return fail(&mut channel, Step::Exec, "the image names no program");
    };
    let error = Command::new(program).args(words).env_clear().envs(env).exec();
    fail(&mut channel, Step::Exec, &reason(&error))
}

fn prepare(plan: &Plan, namespaces: Namespaces) -> Result<Isolation, (Step, String)> {
    let Namespaces { user_namespace, mut missing } = namespaces;
    mounts::enter_root(plan, &mut missing).map_err(|reason| (Step::Isolate, reason))?;
    rights::give_up(user_namespace, &mut missing);
    // Whoever gives up rights is forgotten by the signal of a parent's death.
    let _ = set_pdeathsig(Signal::SIGKILL);
    chdir(plan.working_dir.as_str()).map_err(|error| (Step::WorkingDir, error.desc().to_lowercase()))?;
    Ok(Isolation { user_namespace, missing })
}

/// What was tried, and the system's words.
pub(super) fn words(what: &str, error: Errno) -> String {
    format!("{what}: {}", error.desc().to_lowercase())
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}
