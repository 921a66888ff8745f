//! A daemon without its process: store, reconciler and API on a sandbox that runs real programs. Its clock is moved by
//! hand, so that the minutes after which an outcome counts as unknown pass in a second.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::InspectContainerOptions;
use serde_json::Value;
use sockerless_lambda::api::{ApiContext, Listeners};
use sockerless_lambda::aws::{CallHook, CallPoint, Cloud, CloudSeams, CloudSettings, HookedCall};
use sockerless_lambda::clock::Clock;
use sockerless_lambda::config::{Config, Listen};
use sockerless_lambda::health::Health;
use sockerless_lambda::reconciler::{Reconciler, ReconcilerParts};
use sockerless_lambda::state::model::UnknownOutcome;
use sockerless_lambda::state::{Store, StoreOptions};
use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::{InvocationStatus, Operation};
use sockerless_sandbox::runner::RunnerConfig;
use sockerless_sandbox::settings::Settings;
use sockerless_sandbox::{Options, Programs, Sandbox};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// How long a test waits for something that must come, by this machine's clock.
const PATIENCE: Duration = Duration::from_secs(90);
/// So far the daemon's clock is moved at a time, at most; it stands so long.
const STEP: Duration = Duration::from_secs(2);
const STAND: Duration = Duration::from_millis(1);
/// The daemon's clock begins so far behind AWS's: when a first outcome counts as unknown, the two agree again.
const BEHIND: Duration = Duration::from_secs(330);
const BINARY: &str = env!("CARGO_BIN_EXE_sockerless-backend-lambda");
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Clock,
    stop: CancellationToken,
    parts: Vec<tokio::task::JoinHandle<()>>,
    store: Store,
    /// Calls of AWS that have no answer yet; without invocations, whose answers may be hidden.
    open_calls: Arc<AtomicUsize>,
}

impl World {
    pub(crate) async fn new(unknown_outcome: UnknownOutcome) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bootstrap = RunnerConfig { bootstrap: vec![BINARY.into(), "bootstrap".into()], ..RunnerConfig::default() };
        let options = Options::new(Settings::instant(), Programs::Real(bootstrap));
        let sandbox = Sandbox::start(options).await.unwrap();
        let options = StoreOptions { path: directory.path().join("state.db"), read_only: false };
        let store = Store::open(&options).await.unwrap();
        let config = Arc::new(config(unknown_outcome));
        let settings = CloudSettings {
            region: config.region.clone(),
            endpoint_url: Some(sandbox.endpoint()),
            static_credentials: Some(("sandbox".to_owned(), "sandbox".to_owned())),
            api_share: 1.0,
        };
        let clock = Clock::fixed(Clock::real().now().before(BEHIND));
        let open_calls = Arc::<AtomicUsize>::default();
        let seams = CloudSeams { clock: clock.clone(), hook: Some(counting(&open_calls)) };
        let cloud = Cloud::connect_with(&settings, seams).await;
        let (health, stop) = (Health::default(), CancellationToken::new());
        let reconciler = Reconciler::new(ReconcilerParts {
            facts: store.facts(),
            reader: store.reader(),
            cloud: cloud.clone(),
            clock: clock.clone(),
            health: health.clone(),
            config: config.clone(),
        });
        let (reader, wishes) = (store.reader(), store.wishes());
        let context = ApiContext { reader, wishes, logs: Arc::new(cloud), clock: clock.clone(), health, config };
        let listeners = Listeners::bind(&[Listen::Unix(directory.path().join("docker.sock"))], None).await.unwrap();
        let parts = vec![
            tokio::spawn(reconciler.run(stop.clone(), DRAIN)),
            tokio::spawn(listeners.serve(context, stop.clone(), DRAIN)),
        ];
        Self { directory, sandbox, clock, stop, parts, store, open_calls }
    }

    pub(crate) fn docker(&self) -> Docker {
        let socket = self.directory.path().join("docker.sock");
        Docker::connect_with_unix(socket.to_str().unwrap(), 120, bollard::API_DEFAULT_VERSION).unwrap()
    }

    /// A file that programs in containers can write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Nothing tells how runs end: their log lines never appear, and no answer to an invocation arrives.
    pub(crate) fn hide_the_ends(&self) {
        let rules = vec![FaultRule::every(Operation::Invoke, FaultKind::LoseAnswer)];
        self.sandbox.set_faults(Faults { rules, roles_without_logs: vec!["*".to_owned()], ..Faults::default() });
    }

    /// Only the log is missing.
    pub(crate) fn hide_the_log(&self) {
        self.sandbox.set_faults(Faults { roles_without_logs: vec!["*".to_owned()], ..Faults::default() });
    }

    pub(crate) fn show_the_ends(&self) {
        self.sandbox.set_faults(Faults::default());
    }

    /// Waits for something while the daemon's time goes on. It stands while AWS is at work, whose time is this machine's.
    pub(crate) async fn while_time_passes<T>(&self, what: impl Future<Output = T>) -> T {
        let ticking = async {
            let begin = Instant::now();
            loop {
                assert!(begin.elapsed() < PATIENCE, "it does not come");
                self.tick().await;
            }
        };
        tokio::select! {
            found = what => found,
            () = ticking => unreachable!("time does not end"),
        }
    }

    /// Lets the daemon's time go on to the next thing that waits for it, if nothing else happens. However slow this machine
    /// is, the daemon has done by then all that it does at that time.
    async fn tick(&self) {
        tokio::time::sleep(STAND).await;
        // The store first: to look whether AWS is at work is a read, too.
        let idle = self.store.facts().are_idle() && self.open_calls.load(Ordering::SeqCst) == 0;
        if !idle || self.is_at_work().await {
            return;
        }
        let now = self.clock.now();
        let next = self.clock.next_alarm().map_or(now, |alarm| alarm.max(now));
        self.clock.set(next.min(now.after(STEP)));
    }

    /// Whether an invocation is on its way to AWS, or under way there.
    async fn is_at_work(&self) -> bool {
        let reader = self.store.reader();
        let issued = match reader.resolve("job").await {
            Ok(id) => reader.container(&id).await.unwrap().and_then(|container| container.status.run).map(|run| run.no),
            Err(_) => None,
        };
        let invocations = self.sandbox.state().invocations;
        let working = |status| matches!(status, InvocationStatus::Queued | InvocationStatus::Running);
        issued.is_some_and(|no| no > u64::try_from(invocations.len()).unwrap())
            || invocations.iter().any(|invocation| working(invocation.status))
    }

    /// So much of the daemon's time goes by.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = self.clock.now().after(time);
        let clock = self.clock.clone();
        self.while_time_passes(async move { clock.sleep_until(until).await }).await;
    }

    /// The invocations that Lambda has ever taken.
    pub(crate) fn invocations(&self) -> usize {
        self.sandbox.state().invocations.len()
    }

    /// The object `Sockerless` of inspect, which Docker's client does not know.
    pub(crate) async fn extra(&self) -> Value {
        let mut stream = UnixStream::connect(self.directory.path().join("docker.sock")).await.unwrap();
        stream.write_all(b"GET /containers/job/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap()["Sockerless"].take()
    }

    /// Lets time pass until the container has this state: a look after every step, so that none is missed.
    pub(crate) async fn pass_until_state(&self, wanted: &str) {
        let docker = self.docker();
        let begin = Instant::now();
        loop {
            let shown = docker.inspect_container("job", None::<InspectContainerOptions>).await.unwrap();
            if shown.state.and_then(|state| state.status).is_some_and(|status| status.to_string() == wanted) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not come");
            self.tick().await;
        }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        for part in self.parts {
            part.await.unwrap();
        }
        self.store.close().await.unwrap();
        self.sandbox.stop().await;
    }
}

fn counting(open: &Arc<AtomicUsize>) -> CallHook {
    let open = Arc::clone(open);
    Arc::new(move |call: HookedCall| {
        match call.point {
            _ if call.operation == "invoke" => 0,
            CallPoint::Before => open.fetch_add(1, Ordering::SeqCst),
            CallPoint::After => open.fetch_sub(1, Ordering::SeqCst),
        };
        Box::pin(std::future::ready(()))
    })
}

/// How many lines a file has; a missing one has none.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn config(unknown_outcome: UnknownOutcome) -> Config {
    Config {
        log_retention_days: None,
        memory_size: 128,
        timeout: 5,
        unknown_outcome,
        max_running: 10,
        api_share: 1.0,
        drain_timeout: DRAIN,
        sandbox: true,
        ..Config::new("us-east-1", "arn:aws:iam::000000000000:role/job").unwrap()
    }
}
