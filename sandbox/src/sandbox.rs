//! The sandbox as its users see it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::driver::Driver;
use crate::faults::Faults;
use crate::http::{self, Shared};
use crate::model::{ApiError, Handover, Request, Response, Snapshot};
use crate::runner::RunnerConfig;
use crate::script::Program;
use crate::settings::Settings;
use crate::shelf::{self, Shelf};
use crate::witness::Witness;

/// How a sandbox is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// What kind of AWS it plays.
    pub settings: Settings,
    /// What functions run.
    pub programs: Programs,
    /// Told to whoever asks `GET /_sandbox/identity`; means nothing to the sandbox.
    pub identity: String,
    /// Credentials that callers must have; `None`: none, and unsigned requests are taken too.
    pub credentials: Option<Credentials>,
    /// How long it stays when nobody attends it and no request comes; `None`: for ever.
    pub alone_limit: Option<Duration>,
    /// The time, of AWS and of scripted programs.
    pub clock: Clock,
    /// Told of every call.
    pub witness: Option<Witness>,
    /// Where images with files of their own are; `None`: there are none.
    pub images: Option<ImageOptions>,
    /// What connections may take.
    pub limits: Limits,
}

/// What connections may take. A caller that has not been authenticated has less of everything: any user of the machine
/// can connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time whose caller was authenticated once. Each running RequestResponse invocation holds one.
    pub connections: usize,
    /// Connections at a time of other callers.
    pub unproven_connections: usize,
    /// Large bodies that are read at a time for such callers: a signature includes the body, so it has to be held until
    /// it can be verified.
    pub unproven_bodies: usize,
    /// The time to be authenticated on a new connection, and to send a body on any.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // With bodies of 8 MiB, an unknown caller makes the sandbox hold 128 MiB. Half a minute is far more than a client on
        // the same machine needs, however busy that is.
        Self { connections: 4_096, unproven_connections: 256, unproven_bodies: 16, patience: Duration::from_secs(30) }
    }
}

/// What a caller must know: calls of AWS are signed with it, and `/_sandbox/…` takes the secret as a bearer token. A
/// caller that knows it can run programs as the sandbox's user.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// In every signature, and in the records of calls; no secret.
    pub access_key_id: String,
    /// Never sent with a signature.
    pub secret_access_key: String,
}

/// Never prints the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Where images are, and how they are used.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Directories of layouts and archives; more can be told later.
    pub directories: Vec<PathBuf>,
    /// Where they are unpacked.
    pub store: PathBuf,
    /// Bytes that a program holds if it is the bootstrap itself; an image that starts it needs no other in front.
    pub front_mark: Vec<u8>,
}

impl Options {
    /// For tests: any credentials, no limit of loneliness.
    #[must_use]
    pub fn new(settings: Settings, programs: Programs) -> Self {
        Self {
            settings,
            programs,
            identity: String::new(),
            credentials: None,
            alone_limit: None,
            clock: Clock::real(),
            witness: None,
            images: None,
            limits: Limits::default(),
        }
    }
}

/// What functions run.
#[derive(Clone)]
pub enum Programs {
    /// Processes, through the Runtime API.
    Real(RunnerConfig),
    /// What a script tells of them, in real time.
    Scripted {
        /// How long an environment takes to start, in milliseconds.
        init_ms: u32,
        /// What each invocation does.
        choose: Arc<dyn Fn(&Handover) -> Program + Send + Sync>,
    },
}

impl Programs {
    /// Scripted programs whose environments start at once.
    pub fn scripted(choose: impl Fn(&Handover) -> Program + Send + Sync + 'static) -> Self {
        Self::Scripted { init_ms: 0, choose: Arc::new(choose) }
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(config) => f.debug_tuple("Real").field(config).finish(),
            Self::Scripted { init_ms, .. } => {
                f.debug_struct("Scripted").field("init_ms", init_ms).finish_non_exhaustive()
            }
        }
    }
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No port could be opened.
    #[error("the sandbox cannot listen on 127.0.0.1: {0}")]
    Listen(#[source] std::io::Error),
}

/// A running sandbox. Its processes end with [`Sandbox::stop`]; dropping it only cuts its connections.
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends when the connections have ended.
    server: JoinHandle<()>,
    /// Never end by themselves.
    helpers: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a sandbox on a free port of 127.0.0.1. Needs a tokio runtime with time and network.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let store = shelf::store(options.images.as_ref());
        let (driver, reports) = Driver::new(options.settings, options.programs, store, options.clock.clone());
        let driver = Arc::new(driver);
        let shelf = Shelf::new(options.images.as_ref());
        shelf.refresh(&driver).await;
        let shared = Arc::new(Shared {
            driver: Arc::clone(&driver),
            shelf,
            identity: options.identity,
            credentials: options.credentials,
            stop: watch::Sender::new(false),
            last_request_ms: AtomicI64::new(options.clock.now_ms()),
            clock: options.clock,
            witness: options.witness,
            calls: AtomicU64::new(0),
            attendants: AtomicUsize::new(0),
            unread: AtomicU64::new(0),
            limits: options.limits,
            unproven_bodies: Semaphore::new(options.limits.unproven_bodies),
        });
        let mut helpers =
            vec![tokio::spawn(Arc::clone(&driver).listen(reports)), tokio::spawn(Arc::clone(&driver).drive())];
        if let Some(limit) = options.alone_limit {
            helpers.push(tokio::spawn(watch_loneliness(Arc::clone(&shared), limit)));
        }
        let server = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, server, helpers })
    }

    /// The endpoint URL for the SDK's clients, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What there is now.
    #[must_use]
    pub fn state(&self) -> Snapshot {
        self.shared.driver.snapshot()
    }

    /// Somebody does something in the account behind the clients' backs: no fault meets it, and it is not counted.
    ///
    /// # Errors
    /// AWS's; an invocation is a `NotImplemented`.
    pub fn operate(&self, request: &Request) -> Result<Response, ApiError> {
        self.shared.driver.operate(request)
    }

    /// Replaces the faults; their counts start anew.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.driver.set_faults(faults);
    }

    /// Waits until the sandbox wants to end: it was asked to, or it was alone for too long. Then call
    /// [`Sandbox::stop`].
    pub async fn ended(&self) {
        let mut stop = self.shared.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Ends the connections, then all processes.
    pub async fn stop(mut self) {
        self.shared.stop.send_replace(true);
        // A panic of the server is no reason to leave processes behind.
        let _ = (&mut self.server).await;
        self.shared.driver.shutdown().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
        for helper in &self.helpers {
            helper.abort();
        }
    }
}

async fn watch_loneliness(shared: Arc<Shared>, limit: Duration) {
    let limit_ms = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    loop {
        let quiet_ms = shared.clock.now_ms().saturating_sub(shared.last_request_ms.load(Ordering::Relaxed));
        let attended = shared.attendants.load(Ordering::Relaxed) > 0;
        if !attended && quiet_ms >= limit_ms {
            shared.stop.send_replace(true);
            return;
        }
        // An attendant that leaves counts as a request, so nothing can end before a whole limit from now.
        let wait_ms = if attended { limit_ms } else { limit_ms.saturating_sub(quiet_ms) };
        shared.clock.sleep_until(shared.clock.now_ms().saturating_add(wait_ms.max(1))).await;
    }
}
