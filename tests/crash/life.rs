//! One life of a daemon: the real store on a real file, the real reconciler, the real SDK. It ends at once, wherever it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sockerless_lambda::aws::{CallHook, CallPoint, Cloud, CloudSeams, CloudSettings, HookedCall};
use sockerless_lambda::clock::Clock;
use sockerless_lambda::config::Config;
use sockerless_lambda::health::Health;
use sockerless_lambda::reconciler::{Reconciler, ReconcilerParts};
use sockerless_lambda::state::{CommitHook, CommitPoint, Facts, Reader, StateError, Store, StoreOptions, Wishes};
use sockerless_sandbox::model::Operation;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::all_rows::all_rows;
use super::history::{Ending, RunOf};
use super::in_place::in_place;
use super::ledger::{Ledger, key_of};
use super::rest::Rest;

/// The database's name in its directory.
pub(crate) const DATABASE: &str = "state.db";
/// The region of everything.
pub(crate) const REGION: &str = "us-east-1";
/// The functions' role.
pub(crate) const ROLE: &str = "arn:aws:iam::000000000000:role/functions";
/// The log group of all functions.
pub(crate) const LOG_GROUP: &str = "/sockerless/lambda";
/// The log group of all claims.
pub(crate) const CLAIMS_GROUP: &str = "/sockerless/lambda-claims";
/// The beginning of all function names.
pub(crate) const PREFIX: &str = "skls";
/// Time between two sweeps: a pass.
pub(crate) const SWEEP: Duration = Duration::from_secs(20);
/// How long an orphan is seen before it is deleted.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// What all lives of a plan share.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rest: Arc<Rest>,
    /// The daemons' clock.
    pub(crate) clock: Clock,
    /// AWS's.
    pub(crate) aws_clock: sockerless_sandbox::clock::Clock,
    /// Where AWS is.
    pub(crate) endpoint: String,
}

/// A daemon that runs.
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) facts: Facts,
    pub(crate) reader: Reader,
    pub(crate) wishes: Wishes,
    pub(crate) health: Health,
    directory: TempDir,
    store: Store,
    controller: JoinHandle<()>,
}

impl Life {
    /// Starts a daemon on the database in a directory. `look` is told the facts before anything happens to them.
    pub(crate) async fn begin(
        around: &Around,
        number: u32,
        directory: TempDir,
        adopt: bool,
        endings: &Endings,
    ) -> Result<Self, StateError> {
        let options = StoreOptions { path: directory.path().join(DATABASE), read_only: false };
        let committed = Arc::new(OnceLock::new());
        let store = Store::open_with(&options, Some(commit_hook(around, number, endings, &committed))).await?;
        // Nothing has happened to the containers before.
        let _ = committed.set(store.facts());
        let (facts, reader, wishes, health) = (store.facts(), store.reader(), store.wishes(), Health::default());
        around.rest.born(number, facts.clone());
        let settings = CloudSettings {
            region: REGION.to_owned(),
            endpoint_url: Some(around.endpoint.clone()),
            static_credentials: Some((key_of(number), "secret".to_owned())),
            api_share: 1.0,
        };
        let seams = CloudSeams { clock: around.clock.clone(), hook: Some(call_hook(around, number)) };
        let reconciler = Reconciler::new(ReconcilerParts {
            facts: facts.clone(),
            reader: reader.clone(),
            cloud: Cloud::connect_with(&settings, seams).await,
            clock: around.clock.clone(),
            health: health.clone(),
            config: Arc::new(config(adopt)),
        });
        let controller = tokio::spawn(reconciler.run(CancellationToken::new(), Duration::ZERO));
        Ok(Self { number, facts, reader, wishes, health, directory, store, controller })
    }

    /// Ends it as `kill -9` does. Gives its files as they are now: what is still open stays behind with the dead.
    pub(crate) async fn end(self, around: &Around) -> TempDir {
        around.ledger.kill(self.number);
        let files = copy_of(self.directory.path());
        around.rest.dies(self.number);
        self.controller.abort();
        // It was told to end; that it did is all that matters.
        let _ = self.controller.await;
        drop(self.store);
        files
    }

    /// The database as it is now, in another place.
    pub(crate) fn copy(&self) -> TempDir {
        copy_of(self.directory.path())
    }
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

/// A directory of our own, in memory where that is possible: the plans try commits, not disks.
pub(crate) fn directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() }.unwrap()
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever is dead stays where it is.
async fn stop_if_dead(ledger: &Ledger, life: u32) {
    if ledger.is_dead(life) {
        std::future::pending::<()>().await;
    }
}

/// How each run of the main database ended: looked at after every commit, as a container may be gone with the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endings(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    endings: BTreeMap<RunOf, Ending>,
    line: u32,
}

impl Endings {
    /// As it is now.
    pub(crate) fn so_far(&self) -> BTreeMap<RunOf, Ending> {
        self.0.lock().unwrap().endings.clone()
    }

    /// How often the database was restored.
    pub(crate) fn line(&self) -> u32 {
        self.0.lock().unwrap().line
    }

    /// The database is an older one from now on.
    pub(crate) fn are_restored(&self) {
        self.0.lock().unwrap().line += 1;
    }

    async fn look(&self, facts: &Facts) {
        let rows: Vec<_> = all_rows(facts).await.unwrap().into_iter().map(Result::unwrap).collect();
        let mut told = self.0.lock().unwrap();
        let line = told.line;
        told.endings.extend(rows.iter().filter_map(|row| {
            let run = row.status.run.as_ref()?;
            Some((RunOf { name: row.name.clone(), no: run.no, line }, Ending::of(run)?))
        }));
    }
}

fn commit_hook(around: &Around, life: u32, endings: &Endings, committed: &Arc<OnceLock<Facts>>) -> CommitHook {
    let Around { ledger, aws_clock, .. } = around.clone();
    let (endings, committed) = (endings.clone(), Arc::clone(committed));
    Arc::new(move |point| -> Pause {
        let (ledger, aws_clock) = (Arc::clone(&ledger), aws_clock.clone());
        let (endings, committed) = (endings.clone(), Arc::clone(&committed));
        Box::pin(async move {
            stop_if_dead(&ledger, life).await;
            if let (CommitPoint::After, Some(facts)) = (point, committed.get()) {
                endings.look(facts).await;
            }
            ledger.commits(life, point, aws_clock.now_ms());
            stop_if_dead(&ledger, life).await;
        })
    })
}

fn call_hook(around: &Around, life: u32) -> CallHook {
    let Around { ledger, rest, aws_clock, .. } = around.clone();
    Arc::new(move |call: HookedCall| -> Pause {
        let (ledger, rest, aws_clock) = (Arc::clone(&ledger), Arc::clone(&rest), aws_clock.clone());
        Box::pin(async move {
            let operation = operation(call.operation);
            stop_if_dead(&ledger, life).await;
            match call.point {
                CallPoint::Before => {
                    let nth = ledger.sends(life, operation, aws_clock.now_ms());
                    rest.sends(life, operation, &call.subject, nth);
                }
                CallPoint::After => {
                    if let Some(nth) = rest.knows(life, operation, &call.subject) {
                        ledger.answered(life, operation, nth, aws_clock.now_ms());
                    }
                }
            }
            stop_if_dead(&ledger, life).await;
        })
    })
}

/// The operation that the daemon calls so.
fn operation(words: &str) -> Operation {
    match words {
        "put event invoke config" => Operation::PutFunctionEventInvokeConfig,
        "untag" => Operation::UntagResource,
        words => {
            let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
            let name: String = words.split(' ').map(capital).collect();
            Operation::parse(&name).unwrap_or_else(|| panic!("{words} is no operation"))
        }
    }
}

fn config(adopt: bool) -> Config {
    Config {
        log_group: LOG_GROUP.to_owned(),
        claims_log_group: CLAIMS_GROUP.to_owned(),
        log_retention_days: None,
        memory_size: 128,
        timeout: 10,
        max_running: 10,
        api_share: 1.0,
        function_prefix: PREFIX.to_owned(),
        database: DATABASE.into(),
        resync_interval: SWEEP,
        gc_interval: SWEEP,
        gc_grace: GRACE,
        drain_timeout: Duration::ZERO,
        sandbox: true,
        adopt,
        ..Config::new(REGION, ROLE).unwrap()
    }
}
