//! The first process of an environment, and the thread that has started it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

use super::events::{EnvironmentConfig, RunnerError};
use super::isolate::{self, Executable};
use super::tree::{is_running, kill_tree};

/// How long to wait for killed processes to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether they are.
const LOOK_PERIOD: Duration = Duration::from_millis(1);
/// Programs that ask for no other get these.
const DEFAULTS: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// What to start.
pub(super) struct Launch {
    pub(super) bootstrap: Vec<OsString>,
    pub(super) config: EnvironmentConfig,
    /// `host:port` of its Runtime API.
    pub(super) runtime_api: String,
    /// For stdout and stderr.
    pub(super) output: io::PipeWriter,
    pub(super) entrance: Option<std::fs::File>,
    pub(super) private: Private,
}

/// What takes the place of /tmp.
pub(super) enum Private {
    Namespaces,
    Directory(PathBuf),
}

/// A started process. It may have ended.
pub(super) struct Process {
    pid: Pid,
    alive: Mutex<bool>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it, on a new thread.
    pub(super) async fn start(launch: Launch) -> Result<Arc<Self>, RunnerError> {
        let (started, start) = oneshot::channel();
        std::thread::Builder::new().name(format!("environment-{}", launch.config.environment)).spawn(move || {
            match launch.spawn() {
                Ok(child) => supervise(child, started),
                // Nobody waits any more if the runner is gone.
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        start.await.unwrap_or_else(|_| Err(io::Error::other("the environment's thread has ended").into()))
    }

    /// Its id in the sandbox's own PID namespace.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills it and everything that it has started, and says what that was.
    pub(super) fn kill(&self) -> Vec<Pid> {
        // Not while the thread reaps it: afterwards its id may be somebody else's.
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive { kill_tree(self.pid) } else { Vec::new() }
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> Option<ExitStatus> {
        self.ended.clone().wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Waits until what was killed is gone; not forever, as the kernel may be busy with it.
    pub(super) async fn wait_for(&self, killed: &[Pid]) {
        let over = async {
            self.ended().await;
            // Without a PID namespace, others may take longer to die than the first, and tell nobody.
            while killed.iter().any(|pid| is_running(*pid)) {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        };
        if tokio::time::timeout(KILL_WAIT, over).await.is_err() {
            tracing::warn!(pid = self.pid.as_raw(), "a killed environment does not end");
        }
    }
}

impl Launch {
    fn spawn(self) -> Result<Child, RunnerError> {
        let entry_point: Vec<OsString> = self.config.entry_point.iter().map(OsString::from).collect();
        let runtime = if entry_point.is_empty() { &self.bootstrap } else { &entry_point };
        let (program, arguments) = runtime.split_first().ok_or(RunnerError::NoBootstrap)?;
        let executable = Executable::open(program)?;
        let namespaces = matches!(self.private, Private::Namespaces);
        if namespaces {
            isolate::enter_namespaces().map_err(io::Error::from)?;
        }
        let directory = self.config.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        check_directory(directory)?;
        let mut command = executable.command();
        command.args(arguments).args(&self.config.command).current_dir(directory).process_group(0);
        command.env_clear().envs(DEFAULTS).envs(&self.config.env).env("AWS_LAMBDA_RUNTIME_API", &self.runtime_api);
        if let Private::Directory(path) = &self.private
            && !self.config.env.contains_key("TMPDIR")
        {
            command.env("TMPDIR", path);
        }
        command.stdin(Stdio::null()).stdout(self.output.try_clone()?).stderr(self.output);
        Ok(isolate::spawn(&mut command, self.entrance, namespaces)?)
    }
}

fn check_directory(path: &str) -> Result<(), RunnerError> {
    let check = std::fs::metadata(Path::new(path))
        .and_then(|metadata| if metadata.is_dir() { Ok(()) } else { Err(io::Error::from(Errno::ENOTDIR)) });
    check.map_err(|source| RunnerError::WorkingDir { path: path.to_owned(), source })
}

/// The thread's life: until the process and everything that it left have ended.
fn supervise(mut child: Child, started: oneshot::Sender<Result<Arc<Process>, RunnerError>>) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (ended_in, ended) = watch::channel(None);
    let process = Arc::new(Process { pid, alive: Mutex::new(true), ended });
    if started.send(Ok(Arc::clone(&process))).is_err() {
        process.kill();
    }
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut alive = process.alive.lock().unwrap_or_else(PoisonError::into_inner);
    // Without a PID namespace, its process group may have outlived it.
    let _ = nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL);
    let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
    *alive = false;
    ended_in.send_replace(Some(status));
}
