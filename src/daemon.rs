//! The rooms put together: started in order, stopped in order.
//!
//! Start: the store (locked), the listeners (bound), the sandbox if it is wanted, then reconciler and API. AWS need not
//! answer: the reconciler tries again, and the API serves meanwhile.
//!
//! Stop: nothing more is accepted and requests end; then no container is taken up any more and what is under way
//! records its outcome; then the store is closed. Whatever is cut off by a limit is as safe as under `kill -9`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::{ApiContext, BindError, Listeners, MetricsListener, MetricsSources};
use crate::aws::{Cloud, CloudSettings};
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::health::Health;
use crate::reconciler::{Reconciler, ReconcilerParts};
#[cfg(feature = "sandbox")]
use crate::sandbox_process::{SandboxError, SandboxProcess};
use crate::service_manager::ServiceManager;
use crate::state::model::ContainerId;
use crate::state::{Reader, StateError, Store, StoreOptions};
use crate::watchdog::Watchdog;

/// On top of the drain time, which each part keeps by itself.
const STOP_SLACK: Duration = Duration::from_secs(5);

/// Renders the metrics.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory for the state cannot be made.
    #[error("cannot make the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StateError),
    /// The database belongs to another prefix, region, account or claims group.
    #[error("{0}")]
    Bound(String),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no sandbox.
    #[cfg(feature = "sandbox")]
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl StartError {
    /// Whether the configuration has to be changed, rather than that something has failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Bound(_))
    }
}

/// A part of the daemon ended though nobody asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} has ended by itself")]
pub struct PartEnded(&'static str);

/// Makes the directories of database and sockets if they are missing, for this user only.
///
/// # Errors
///
/// If the system refuses.
pub fn make_directories(config: &Config) -> Result<(), StartError> {
    let sockets = config.listen.iter().filter_map(|listen| match listen {
        Listen::Unix(path) => Some(path),
        Listen::Tcp(_) => None,
    });
    for directory in sockets.chain([&config.database]).filter_map(|path| path.parent()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| StartError::Directory { path: directory.to_owned(), source })?;
    }
    Ok(())
}

/// A running daemon. Dropping it is like a `kill -9`: nothing that was acknowledged is lost.
#[derive(Debug)]
pub struct Daemon {
    store: Store,
    addresses: Vec<Listen>,
    drain: Duration,
    api: Part,
    reconciler: Part,
    watchdog: Part,
    manager: ServiceManager,
    metrics: Option<Part>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<SandboxProcess>,
}

/// A part of the daemon: a task that ends when it is told to.
#[derive(Debug)]
struct Part {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// It must not outlive the daemon.
impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Part {
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        part: impl FnOnce(CancellationToken) -> F,
    ) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(part(stop.clone()));
        Self { name, stop, task }
    }

    async fn ended(&mut self) -> PartEnded {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(part = self.name, %error, "a part of the daemon failed");
        }
        PartEnded(self.name)
    }

    async fn stop(mut self, within: Duration) {
        self.stop.cancel();
        // One that has ended by itself was noticed then, and cannot be awaited again.
        if !self.task.is_finished() && timeout(within + STOP_SLACK, &mut self.task).await.is_err() {
            tracing::warn!(part = self.name, "it did not stop in time and is cut off");
        }
    }
}

impl Daemon {
    /// Starts everything. When it returns, requests are served.
    ///
    /// # Errors
    ///
    /// If the store, an address or the sandbox is not to be had; AWS may be away.
    pub async fn start(config: Config, render: Render) -> Result<Self, StartError> {
        warn_of_open_doors(&config);
        let store = open_store(&config, false).await?;
        let listeners = Listeners::bind(&config.listen, config.tls.as_ref()).await?;
        let metrics = match config.metrics_listen {
            Some(address) => Some(MetricsListener::bind(address).await?),
            None => None,
        };
        #[cfg(feature = "sandbox")]
        let sandbox = if config.sandbox { Some(SandboxProcess::find_or_start(&config).await?) } else { None };
        let settings = cloud_settings(
            &config,
            #[cfg(feature = "sandbox")]
            sandbox.as_ref(),
        );
        let cloud = Cloud::connect(&settings).await;

        let (clock, health, drain) = (Clock::real(), Health::default(), config.drain_timeout);
        store.report_to(&health);
        let (config, addresses) = (Arc::new(config), listeners.addresses());
        let reconciler = Reconciler::new(ReconcilerParts {
            facts: store.facts(),
            reader: store.reader(),
            cloud: cloud.clone(),
            clock: clock.clone(),
            health: health.clone(),
            config: Arc::clone(&config),
        });
        let told = MetricsSources {
            render,
            reader: store.reader(),
            health: health.clone(),
            clock: clock.clone(),
            config: Arc::clone(&config),
        };
        let context = ApiContext {
            reader: store.reader(),
            wishes: store.wishes(),
            logs: Arc::new(cloud),
            clock: clock.clone(),
            health: health.clone(),
            config,
        };
        let manager = ServiceManager::default();
        let watchdog = Watchdog::new(health, store.pulse(), clock, manager.clone());
        Ok(Self {
            addresses,
            drain,
            watchdog: Part::spawn("watchdog", |stop| watchdog.run(stop)),
            manager,
            reconciler: Part::spawn("reconciler", |stop| reconciler.run(stop, drain)),
            metrics: metrics.map(|listener| Part::spawn("metrics listener", |stop| listener.serve(told, stop))),
            api: Part::spawn("API", |stop| listeners.serve(context, stop, drain)),
            store,
            #[cfg(feature = "sandbox")]
            sandbox,
        })
    }

    /// Tells the service manager that requests are served, and from now on how it goes.
    pub fn announce(&self) {
        self.manager.ready();
    }

    /// Where the API listens.
    #[must_use]
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Reads the store.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    /// Serves until `stop`, then stops in order.
    ///
    /// # Errors
    ///
    /// If a part ended by itself; the others are stopped in order then, too.
    pub async fn run_until(mut self, stop: CancellationToken) -> Result<(), PartEnded> {
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = self.api.ended() => Err(ended),
            ended = self.reconciler.ended() => Err(ended),
            ended = self.watchdog.ended() => Err(ended),
        };
        self.stop().await;
        ended
    }

    /// Stops in order.
    pub async fn stop(self) {
        self.manager.stopping();
        // Both at once, so that one limit holds for the whole: a wish that comes in meanwhile is durable, and the next
        // start takes it up.
        tokio::join!(self.api.stop(self.drain), self.reconciler.stop(self.drain));
        self.watchdog.stop(Duration::ZERO).await;
        if let Some(metrics) = self.metrics {
            metrics.stop(Duration::ZERO).await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store could not be closed; nothing that was acknowledged is lost");
        }
        #[cfg(feature = "sandbox")]
        if let Some(sandbox) = self.sandbox {
            sandbox.stop_when_idle().await;
        }
        tracing::info!("stopped");
    }

    /// Waits until nothing is left of a container that is being removed, here and in AWS; `false`: not in time.
    pub async fn is_gone(&self, id: ContainerId, within: Duration) -> bool {
        let reader = self.reader();
        let mut watch = reader.watch(id);
        let gone = async {
            while !matches!(reader.container(&id).await, Ok(None)) {
                if watch.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(within, gone).await.unwrap_or(false)
    }
}

/// Opens the database, and refuses one that belongs to other settings: nothing was changed in AWS then. One of which nobody
/// shows where it belongs is opened, and left to the reconciler, which changes nothing until it is adopted.
pub(crate) async fn open_store(config: &Config, read_only: bool) -> Result<Store, StartError> {
    let store = Store::open(&StoreOptions { path: config.database.clone(), read_only }).await?;
    let configured = config.binding();
    let bound = store.facts().readable_binding(&configured).await;
    let refused = match bound.map(|bound| bound.conflict(&configured)) {
        Ok(None) => return Ok(store),
        Ok(Some(conflict)) => StartError::Bound(conflict),
        Err(error) => StartError::Store(error),
    };
    if let Err(error) = store.close().await {
        tracing::error!(%error, "the store could not be closed; nothing was changed in it");
    }
    Err(refused)
}

/// How AWS, or the sandbox in its place, is reached.
pub(crate) fn cloud_settings(
    config: &Config,
    #[cfg(feature = "sandbox")] sandbox: Option<&SandboxProcess>,
) -> CloudSettings {
    let settings = CloudSettings {
        region: config.region.clone(),
        endpoint_url: config.endpoint_url.clone(),
        static_credentials: None,
        api_share: config.api_share,
    };
    #[cfg(feature = "sandbox")]
    if let Some(sandbox) = sandbox {
        let (key, secret) = sandbox.credentials();
        return CloudSettings {
            endpoint_url: Some(sandbox.endpoint().to_owned()),
            static_credentials: Some((key.to_owned(), secret.to_owned())),
            ..settings
        };
    }
    settings
}

/// That somebody has allowed it does not make it harmless.
fn warn_of_open_doors(config: &Config) {
    let verified = config.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some());
    for listen in config.listen.iter().filter(|_| !verified) {
        if matches!(listen, Listen::Tcp(address) if !address.ip().is_loopback()) {
            tracing::warn!(
                %listen,
                "clients are not verified: whoever reaches this address can run anything under the functions' role"
            );
        }
    }
}
