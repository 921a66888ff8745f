//! One life of a daemon: the real store on a real file, the real reconciler and SDK, the real API on its sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sockerless_lambda::api::{ApiContext, Listeners, MetricsListener, MetricsSources};
use sockerless_lambda::aws::{CallHook, CallPoint, Cloud, CloudSeams, CloudSettings, HookedCall};
use sockerless_lambda::clock::Clock;
use sockerless_lambda::config::{Config, Listen};
use sockerless_lambda::health::Health;
use sockerless_lambda::reconciler::{Reconciler, ReconcilerParts};
use sockerless_lambda::state::{Facts, Pulse, Reader, Store, StoreOptions};
use sockerless_sandbox::model::Operation;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::in_place::in_place;
use super::rest::Rest;
use super::tls;

/// The database's name in its directory.
pub(crate) const DATABASE: &str = "state.db";
/// The region of everything.
pub(crate) const REGION: &str = "us-east-1";
/// The functions' role.
pub(crate) const ROLE: &str = "arn:aws:iam::000000000000:role/functions";
/// The log group that the functions write to, with all rights of their role.
pub(crate) const LOG_GROUP: &str = "/sockerless/lambda";
/// The log group that holds the claims; no function may write to it.
pub(crate) const CLAIMS_GROUP: &str = "/sockerless/lambda-claims";
/// The beginning of all function names.
pub(crate) const PREFIX: &str = "skls";
/// An access key id begins with this; the number of the life follows.
const LIFE_KEY: &str = "LIFE";
/// Time between two sweeps, in seconds.
pub(crate) const SWEEP_S: u64 = 20;

/// What all lives of a world share.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) rest: Arc<Rest>,
    pub(crate) clock: Clock,
    pub(crate) aws_clock: sockerless_sandbox::clock::Clock,
    pub(crate) endpoint: String,
}

/// Where a daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) socket: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// A daemon that runs.
pub(crate) struct Daemon {
    number: u32,
    pub(crate) facts: Facts,
    pub(crate) reader: Reader,
    pub(crate) health: Health,
    pub(crate) doors: Doors,
    directory: TempDir,
    store: Store,
    pub(crate) controller: JoinHandle<()>,
    api: [JoinHandle<()>; 3],
    stop: CancellationToken,
}

impl Daemon {
    /// Starts a daemon on the database in a directory.
    pub(crate) async fn begin(around: &Around, number: u32, directory: TempDir) -> Result<Self, String> {
        let options = StoreOptions { path: directory.path().join(DATABASE), read_only: false };
        let store = Store::open(&options).await.map_err(|error| format!("the store does not open: {error}"))?;
        around.rest.born(number, store.facts());
        let settings = CloudSettings {
            region: REGION.to_owned(),
            endpoint_url: Some(around.endpoint.clone()),
            static_credentials: Some((format!("{LIFE_KEY}{number}"), "secret".to_owned())),
            api_share: 1.0,
        };
        let seams = CloudSeams { clock: around.clock.clone(), hook: Some(call_hook(around, number)) };
        let cloud = Cloud::connect_with(&settings, seams).await;
        let (health, config, stop) = (Health::default(), Arc::new(config()), CancellationToken::new());
        store.report_to(&health);
        let reconciler = Reconciler::new(ReconcilerParts {
            facts: store.facts(),
            reader: store.reader(),
            cloud: cloud.clone(),
            clock: around.clock.clone(),
            health: health.clone(),
            config: Arc::clone(&config),
        });
        let context = ApiContext {
            reader: store.reader(),
            wishes: store.wishes(),
            logs: Arc::new(cloud),
            clock: around.clock.clone(),
            health: health.clone(),
            config,
        };
        let (doors, api) = open(context, directory.path(), &stop).await?;
        Ok(Self {
            number,
            facts: store.facts(),
            reader: store.reader(),
            health,
            doors,
            directory,
            store,
            controller: tokio::spawn(reconciler.run(CancellationToken::new(), Duration::ZERO)),
            api,
            stop,
        })
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join(DATABASE)
    }

    /// Reads every row.
    pub(crate) fn pulse(&self) -> Pulse {
        self.store.pulse()
    }

    /// Ends it as `kill -9` does, and returns the files that it leaves behind.
    pub(crate) async fn kill(self, around: &Around) -> TempDir {
        let files = copy_of(self.directory.path());
        around.rest.dies(self.number);
        self.stop.cancel();
        for task in self.api.into_iter().chain([self.controller]) {
            task.abort();
            // It was aborted; the result says no more than that.
            let _ = task.await;
        }
        drop(self.store);
        files
    }
}

/// Serves the API on a socket, on TCP and with TLS, and the metrics on a listener of their own.
async fn open(
    context: ApiContext,
    directory: &Path,
    stop: &CancellationToken,
) -> Result<(Doors, [JoinHandle<()>; 3]), String> {
    let (socket, any_port) = (directory.join("docker.sock"), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listen = [Listen::Unix(socket.clone()), Listen::Tcp(any_port)];
    let plain = Listeners::bind(&listen, None).await.map_err(|error| error.to_string())?;
    let files = tls::files(directory);
    let tls = Listeners::bind(&[Listen::Tcp(any_port)], Some(&files)).await.map_err(|error| error.to_string())?;
    let metrics = MetricsListener::bind(any_port).await.map_err(|error| error.to_string())?;
    let port = |listeners: &Listeners| {
        let ports = listeners.addresses().into_iter().find_map(|listen| match listen {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        });
        ports.ok_or("no port")
    };
    let doors = Doors { socket, address: port(&plain)?, tls: port(&tls)?, metrics: metrics.address() };
    let sources = MetricsSources {
        render: Arc::new(String::new),
        reader: context.reader.clone(),
        health: context.health.clone(),
        clock: context.clock.clone(),
        config: Arc::clone(&context.config),
    };
    let api = [
        tokio::spawn(plain.serve(context.clone(), stop.clone(), Duration::ZERO)),
        tokio::spawn(tls.serve(context, stop.clone(), Duration::ZERO)),
        tokio::spawn(metrics.serve(sources, stop.clone())),
    ];
    Ok((doors, api))
}

/// A copy of a database's files, as a killed process leaves them.
pub(crate) fn copy_of(from: &Path) -> TempDir {
    let to = directory();
    for suffix in ["", "-wal", ".mark"] {
        let name = format!("{DATABASE}{suffix}");
        let path = from.join(&name);
        if path.exists() {
            std::fs::copy(path, to.path().join(name)).unwrap();
        }
    }
    in_place(&to.path().join(DATABASE));
    to
}

/// A directory of our own, in memory where that is possible.
pub(crate) fn directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() }.unwrap()
}

/// A database that no daemon has used.
pub(crate) fn unused_database() -> TempDir {
    let files = directory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = StoreOptions { path: files.path().join(DATABASE), read_only: false };
        Store::open(&options).await.unwrap().close().await.unwrap();
    });
    files
}

/// The life that signs with this access key id.
pub(crate) fn life_of(key: &str) -> Option<u32> {
    key.strip_prefix(LIFE_KEY)?.parse().ok()
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reports every call to the account of what is under way.
fn call_hook(around: &Around, life: u32) -> CallHook {
    let rest = Arc::clone(&around.rest);
    Arc::new(move |call: HookedCall| -> Pause {
        match call.point {
            CallPoint::Before => rest.sends(life, operation(call.operation), &call.subject, 0),
            CallPoint::After => drop(rest.knows(life, operation(call.operation), &call.subject)),
        }
        Box::pin(std::future::ready(()))
    })
}

/// AWS's name of an operation that the daemon names in words.
fn operation(words: &str) -> Operation {
    match words {
        "put event invoke config" => Operation::PutFunctionEventInvokeConfig,
        "untag" => Operation::UntagResource,
        words => {
            let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
            let name: String = words.split(' ').map(capital).collect();
            Operation::parse(&name).expect("an operation")
        }
    }
}

fn config() -> Config {
    Config {
        log_group: LOG_GROUP.to_owned(),
        claims_log_group: CLAIMS_GROUP.to_owned(),
        log_retention_days: None,
        memory_size: 128,
        timeout: 60,
        api_share: 1.0,
        function_prefix: PREFIX.to_owned(),
        database: DATABASE.into(),
        resync_interval: Duration::from_secs(SWEEP_S),
        gc_interval: Duration::from_secs(SWEEP_S),
        gc_grace: Duration::from_secs(SWEEP_S),
        drain_timeout: Duration::ZERO,
        sandbox: true,
        ..Config::new(REGION, ROLE).unwrap()
    }
}
