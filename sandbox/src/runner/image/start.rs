//! The runner's side: starts the helper, tells it the plan and hears how it went.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use super::{Isolation, Plan, Report, Step};
use crate::runner::events::{EnvironmentConfig, ImageRoot, RunnerError};
use crate::runner::isolate;

/// How long the helper may take to get ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Programs whose image says nothing else get this, as in Docker.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What programs in an environment see of the helper.
const NAME: &str = "bootstrap";
/// Characters of an environment's name that make its hostname.
const HOSTNAME: usize = 12;

/// A started helper.
pub(in crate::runner) struct Entered {
    pub(in crate::runner) child: Child,
    pub(in crate::runner) isolation: Isolation,
}

/// Starts the first process of an environment in an image's root. `helper` is a command that calls
/// [`enter`](super::enter) in a process without threads.
pub(in crate::runner) fn start(
    helper: &[std::ffi::OsString],
    config: &EnvironmentConfig,
    image: &ImageRoot,
    runtime_api: &str,
    output: io::PipeWriter,
    entrance: Option<File>,
) -> Result<Entered, RunnerError> {
    let (program, arguments) = helper.split_first().ok_or(RunnerError::NoBootstrap)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.arg0(NAME).args(arguments).env_clear().current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(output.try_clone()?).stderr(output);
    let mut child = isolate::spawn(&mut command, entrance, false)?;
    // Our copy of its end would keep the conversation open.
    drop(command);
    match talk(ours, &plan(config, image, runtime_api)) {
        Ok(isolation) => Ok(Entered { child, isolation }),
        Err(error) => {
            // It may have ended already; nobody else waits for it.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn plan(config: &EnvironmentConfig, image: &ImageRoot, runtime_api: &str) -> Plan {
    let mut env = config.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    env.insert("AWS_LAMBDA_RUNTIME_API".to_owned(), runtime_api.to_owned());
    Plan {
        root: image.files.clone(),
        machine_files: image.machine_files.clone(),
        tmp_mb: config.tmp_mb,
        hostname: config.name.chars().take(HOSTNAME).collect(),
        working_dir: config.directory().to_owned(),
        entrypoint: config.entrypoint.clone(),
        command: config.command.clone(),
        front: image.front,
        env,
    }
}

fn talk(mut channel: UnixStream, plan: &Plan) -> Result<Isolation, RunnerError> {
    channel.set_read_timeout(Some(PATIENCE))?;
    channel.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(plan).map_err(io::Error::from)?;
    text.push(b'\n');
    channel.write_all(&text)?;
    let mut isolation = None;
    for line in BufReader::new(channel).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            Report::Ready(told) => isolation = Some(told),
            Report::Failed { step, reason } => return Err(failure(step, reason, plan)),
        }
    }
    isolation.ok_or_else(|| io::Error::other("the process that enters the image's root has ended").into())
}

fn failure(step: Step, reason: String, plan: &Plan) -> RunnerError {
    let source = io::Error::other(reason);
    match step {
        Step::Isolate => RunnerError::Isolate(source),
        Step::WorkingDir => RunnerError::WorkingDir { path: plan.working_dir.clone(), source },
        Step::Exec => {
            let program = plan.entrypoint.first().or(plan.command.first()).cloned().unwrap_or_default();
            RunnerError::Exec { program, source }
        }
    }
}
