//! Runs real programs through the real Lambda Runtime API, on this machine.
//!
//! Each environment is a process with a Runtime API of its own on a loopback address, a /tmp of its own, a limit
//! of memory, and a task that reports what happens. The runner starts, hands over and kills; it decides nothing:
//! which environment serves which function is the model's business.
//!
//! It must never leave a process behind: whatever an environment has started ends with it, and all environments
//! end with the runner.

mod clock;
mod environment;
mod events;
mod image;
mod isolate;
mod lines;
mod memory;
mod output;
mod peers;
mod process;
mod runtime_api;
mod tree;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use environment::{Environment, Handover};
pub use events::{End, EnvironmentConfig, ImageRoot, Invocation, Root, RunnerConfig, RunnerError, RunnerEvent};
pub use image::{Front, Isolation, enter};
use memory::Memory;
use output::Output;
use peers::{Callers, Secret};
use process::{Launch, Private, Process};

/// How many calls of one runtime wait for its environment's task.
const CALL_LIMIT: usize = 16;

/// What is known of a running environment.
struct Handle {
    process: Arc<Process>,
    handovers: mpsc::Sender<Handover>,
}

type Environments = Arc<Mutex<HashMap<u64, Handle>>>;

/// Starts environments and ends them. Dropping it kills them all.
pub struct Runner {
    config: RunnerConfig,
    events: mpsc::Sender<RunnerEvent>,
    environments: Environments,
    /// Namespaces were refused once.
    refused: AtomicBool,
    /// How well the latest environment in an image's root is isolated.
    isolation: Mutex<Option<Isolation>>,
}

impl Runner {
    /// A runner that reports to `events`. An environment waits while that is full.
    #[must_use]
    pub fn new(config: RunnerConfig, events: mpsc::Sender<RunnerEvent>) -> Self {
        Self {
            config,
            events,
            environments: Environments::default(),
            refused: AtomicBool::new(false),
            isolation: Mutex::default(),
        }
    }

    /// Starts an environment. It is there when this returns; that it is ready is an event.
    ///
    /// # Errors
    /// If the process cannot be started; then there will be no event.
    pub async fn start(&self, config: EnvironmentConfig) -> Result<(), RunnerError> {
        let id = config.environment;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let config = EnvironmentConfig { name: unique(&config.name), ..config };
        let memory = Memory::new(&config.name, config.memory_mb);
        let started = clock::now();
        let own = listener.local_addr()?;
        let secret = self.secret(&config)?;
        let address = secret.as_ref().map_or_else(|| own.to_string(), |secret| secret.address(own));
        let (process, output, directory) = self.launch(&config, &memory, &address).await?;
        let (calls_in, calls) = mpsc::channel(CALL_LIMIT);
        let (handovers_in, handovers) = mpsc::channel(CALL_LIMIT);
        let callers = match secret {
            Some(secret) => Callers::Knowing(secret),
            None if self.config.open_runtime_api => Callers::Anyone,
            None => Callers::Inside(process.pid()),
        };
        let server = tokio::spawn(runtime_api::serve(listener, callers, calls_in));
        lock(&self.environments).insert(id, Handle { process: Arc::clone(&process), handovers: handovers_in });
        let environment =
            Environment { id, process, memory, output, events: self.events.clone(), calls, handovers, started };
        let environments = Arc::clone(&self.environments);
        tokio::spawn(async move {
            environment.run().await;
            server.abort();
            lock(&environments).remove(&id);
            drop(directory);
        });
        Ok(())
    }

    /// For the bootstrap where it is not seen what that has open; another runtime may take the address for `host:port`.
    fn secret(&self, config: &EnvironmentConfig) -> std::io::Result<Option<Secret>> {
        let bootstrap = match &config.root {
            Root::Machine => config.entrypoint.is_empty(),
            Root::Image(image) => image.front,
        };
        let proves = bootstrap && !self.config.open_runtime_api && !peers::sees_hidden_processes();
        proves.then(Secret::random).transpose()
    }

    /// Hands an invocation to an environment. It waits there until the runtime asks for it.
    ///
    /// # Errors
    /// If the environment is gone, or too many are waiting; then there will be no event.
    pub async fn invoke(&self, environment: u64, invocation: Invocation) -> Result<(), RunnerError> {
        let gone = || RunnerError::UnknownEnvironment(environment);
        let handovers = lock(&self.environments).get(&environment).map(|handle| handle.handovers.clone());
        let (reply, answer) = oneshot::channel();
        let handover = Handover { invocation, reply };
        handovers.ok_or_else(gone)?.send(handover).await.map_err(|_| gone())?;
        if answer.await.map_err(|_| gone())? { Ok(()) } else { Err(RunnerError::Busy(environment)) }
    }

    /// Kills everything of an environment, and returns when it is dead. Its last events may be still to come.
    pub async fn kill(&self, environment: u64) {
        let process = lock(&self.environments).get(&environment).map(|handle| Arc::clone(&handle.process));
        if let Some(process) = process {
            process.wait_for(&process.kill()).await;
        }
    }

    /// Kills everything of all environments, and returns when it is dead.
    pub async fn shutdown(&self) {
        let killed: Vec<_> = self.processes().into_iter().map(|process| (process.kill(), process)).collect();
        for (pids, process) in &killed {
            process.wait_for(pids).await;
        }
    }

    /// How well environments in images' roots are isolated; `None`: there was none yet.
    #[must_use]
    pub fn isolation(&self) -> Option<Isolation> {
        self.isolation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says it when it is news.
    fn note_isolation(&self, isolation: &Isolation) {
        let mut known = self.isolation.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() == Some(isolation) {
            return;
        }
        if isolation.missing.is_empty() {
            tracing::info!(
                user_namespace = isolation.user_namespace,
                "environments in images' roots share the network only"
            );
        } else {
            let missing = isolation.missing.join("; ");
            tracing::warn!(missing, "environments in images' roots are not isolated in everything");
        }
        *known = Some(isolation.clone());
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        lock(&self.environments).values().map(|handle| Arc::clone(&handle.process)).collect()
    }

    /// With namespaces if they are wanted and possible, else with a directory in the place of /tmp.
    async fn launch(
        &self,
        config: &EnvironmentConfig,
        memory: &Memory,
        runtime_api: &str,
    ) -> Result<Launched, RunnerError> {
        if matches!(config.root, Root::Image(_)) {
            let (process, output) = self.launch_in(config, memory, runtime_api, Private::Namespaces).await?;
            process.isolation.iter().for_each(|isolation| self.note_isolation(isolation));
            return Ok((process, output, None));
        }
        if self.config.isolate && !self.refused.load(Ordering::Relaxed) {
            match self.launch_in(config, memory, runtime_api, Private::Namespaces).await {
                Ok((process, output)) => return Ok((process, output, None)),
                Err(RunnerError::Start(error)) if means_refused(&error) => {
                    if !self.refused.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "no namespaces here: environments get a TMPDIR instead of a private /tmp");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let directory = Directory::create(&config.name)?;
        let private = Private::Directory(directory.0.clone());
        let (process, output) = self.launch_in(config, memory, runtime_api, private).await?;
        Ok((process, output, Some(directory)))
    }

    async fn launch_in(
        &self,
        config: &EnvironmentConfig,
        memory: &Memory,
        runtime_api: &str,
        private: Private,
    ) -> Result<(Arc<Process>, Output), RunnerError> {
        let (reader, writer) = std::io::pipe()?;
        let output = Output::new(reader)?;
        let launch = Launch {
            bootstrap: self.config.bootstrap.clone(),
            enter: self.config.enter.clone(),
            config: config.clone(),
            runtime_api: runtime_api.to_owned(),
            output: writer,
            entrance: memory.entrance(),
            private,
        };
        Ok((Process::start(launch).await?, output))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        for process in self.processes() {
            process.kill();
        }
    }
}

/// A started process, its output, and what takes the place of /tmp.
type Launched = (Arc<Process>, Output, Option<Directory>);

/// A directory that goes away with its environment.
struct Directory(PathBuf);

impl Directory {
    fn create(name: &str) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("sockerless-{}-{name}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "an environment's directory cannot be removed");
    }
}

/// No one holds the lock while something can fail in the middle.
fn lock(environments: &Environments) -> MutexGuard<'_, HashMap<u64, Handle>> {
    environments.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names follow from a sandbox's seed, and several sandboxes may be in one process: files of theirs must not meet.
fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the kernel has refused namespaces, or the mounts in them.
fn means_refused(error: &std::io::Error) -> bool {
    let refusals = [Errno::EPERM, Errno::EACCES, Errno::EINVAL, Errno::ENOSPC, Errno::EUSERS, Errno::ENOSYS];
    error.raw_os_error().is_some_and(|code| refusals.contains(&Errno::from_raw(code)))
}
