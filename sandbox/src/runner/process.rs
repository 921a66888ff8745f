//! The first process of an environment, and the thread that has started it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

use super::events::{EnvironmentConfig, ImageRoot, Root, RunnerError};
use super::image::{self, Entered, Isolation};
use super::isolate::{self, Executable};
use super::tree::{is_running, kill_left, kill_tree};

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
    pub(super) enter: Vec<OsString>,
    pub(super) config: EnvironmentConfig,
    /// `host:port` of its Runtime API, and the first part of the paths there if it demands one.
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
    /// What is in the environment of what it starts, and of nothing else.
    mark: Option<Vec<u8>>,
    /// Of one in an image's root.
    pub(super) isolation: Option<Isolation>,
    alive: Mutex<bool>,
    /// What was killed, should it be.
    killed: Mutex<Vec<Pid>>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it, on a new thread.
    pub(super) async fn start(launch: Launch) -> Result<Arc<Self>, RunnerError> {
        let (started, start) = oneshot::channel();
        std::thread::Builder::new().name(format!("environment-{}", launch.config.environment)).spawn(move || {
            let mark = launch.mark();
            match launch.spawn() {
                Ok((child, isolation)) => supervise(child, mark, isolation, started),
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
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            killed.extend(kill_tree(self.pid));
        }
        killed.clone()
    }

    /// Kills what the first process, which was not reaped yet, has left.
    fn kill_left(&self) {
        let left = kill_left(self.pid, self.mark.as_deref());
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).extend(left);
    }

    /// Waits until what was killed is gone: the first process may be the first to go.
    #[expect(clippy::disallowed_methods, reason = "the kernel does not tell when somebody else's child has ended")]
    fn outlive_the_killed(&self) {
        let killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut looks = KILL_WAIT.as_millis() / LOOK_PERIOD.as_millis();
        while looks > 0 && killed.iter().any(|pid| *pid != self.pid && is_running(*pid)) {
            std::thread::sleep(LOOK_PERIOD);
            looks -= 1;
        }
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
    /// The environment's own directory in TMPDIR, if it has one.
    fn mark(&self) -> Option<Vec<u8>> {
        let Private::Directory(path) = &self.private else { return None };
        Some([b"TMPDIR=", path.as_os_str().as_bytes()].concat())
    }

    fn spawn(self) -> Result<(Child, Option<Isolation>), RunnerError> {
        match self.config.root.clone() {
            Root::Machine => Ok((self.spawn_here()?, None)),
            Root::Image(image) => self.spawn_in(&image),
        }
    }

    fn spawn_in(self, image: &ImageRoot) -> Result<(Child, Option<Isolation>), RunnerError> {
        let Self { enter, config, runtime_api, output, entrance, .. } = self;
        let Entered { child, isolation } = image::start(&enter, &config, image, &runtime_api, output, entrance)?;
        Ok((child, Some(isolation)))
    }

    fn spawn_here(self) -> Result<Child, RunnerError> {
        let entrypoint: Vec<OsString> = self.config.entrypoint.iter().map(OsString::from).collect();
        let runtime = if entrypoint.is_empty() { &self.bootstrap } else { &entrypoint };
        let (program, arguments) = runtime.split_first().ok_or(RunnerError::NoBootstrap)?;
        let executable = Executable::open(program)?;
        let namespaces = matches!(self.private, Private::Namespaces);
        if namespaces {
            isolate::enter_namespaces(self.config.tmp_mb).map_err(io::Error::from)?;
        }
        let directory = self.config.directory();
        check_directory(directory)?;
        let mut command = executable.command();
        command.args(arguments).args(&self.config.command);
        command.current_dir(directory);
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
    let words = |error: io::Error| match error.raw_os_error() {
        Some(code) => io::Error::other(Errno::from_raw(code).desc().to_lowercase()),
        None => error,
    };
    check.map_err(|error| RunnerError::WorkingDir { path: path.to_owned(), source: words(error) })
}

/// The thread's life: until the process and everything that it left have ended.
fn supervise(
    mut child: Child,
    mark: Option<Vec<u8>>,
    isolation: Option<Isolation>,
    started: oneshot::Sender<Result<Arc<Process>, RunnerError>>,
) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (ended_in, ended) = watch::channel(None);
    let process = Arc::new(Process { pid, mark, isolation, alive: Mutex::new(true), killed: Mutex::default(), ended });
    if started.send(Ok(Arc::clone(&process))).is_err() {
        process.kill();
    }
    // Any failure but EINTR means that it has ended: nix takes a death by a real-time signal for EINVAL.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    process.kill_left();
    process.outlive_the_killed();
    let mut alive = process.alive.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
    *alive = false;
    ended_in.send_replace(Some(status));
}
