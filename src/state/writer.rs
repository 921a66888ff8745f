//! The only task that writes. It takes the commands that wait, runs each inside a savepoint of one transaction, commits
//! once, wakes the watchers and answers.
//!
//! Guarantees: a command is answered with success only after its commit; a command that fails leaves no trace and harms
//! no other; a commit that fails is an error for every command in it.
//!
//! While commits fail, a small one is tried now and then, so that it is known when the store accepts writes again.

use std::future::Future;
use std::pin::Pin;
use std::result::Result as StdResult;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::histogram;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::changes::{Changes, Hub};
use super::file::words;
use super::instance::Written;
use super::mark::Mark;
use super::pulse::Work;
use super::quarantine::Quarantine;
use super::records::{CommitHook, CommitPoint};
use super::{Result, StateError, instance};
use crate::clock::Stopwatch;
use crate::health::{Check, Health};
use crate::telemetry::{STORE_BATCH_SIZE, STORE_COMMIT_SECONDS};
use crate::traces::Cause;

/// So many commands may wait for the writer; whoever comes then waits to wait.
const QUEUE_LIMIT: usize = 1_024;
/// So many commands share one commit at most.
const BATCH_LIMIT: usize = 256;
/// While commits fail, one is tried so often.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// One write: what it does inside the transaction. It may run and still not be committed.
pub(super) trait Command: Send + 'static {
    /// What the caller is told after the commit.
    type Output: Send + 'static;

    /// Writes. An error takes back everything the command did.
    fn apply(self, tx: &mut Tx<'_>) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// The transaction as one command sees it.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut SqliteConnection,
    pub(super) changes: Changes,
    pub(super) quarantine: &'c Quarantine,
    /// The request that the command came from.
    pub(super) cause: Option<Cause>,
}

/// Where commands go in.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    /// `None`: the store is read-only.
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    waiting: Arc<AtomicUsize>,
}

/// Counts a caller that waits for its commit.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Commands {
    /// Of a store that is open for reading only.
    pub(super) fn refused() -> Self {
        Self { queue: None, waiting: Arc::default() }
    }

    /// Whether nobody waits for a commit.
    pub(super) fn are_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Waits for the command's commit.
    pub(super) async fn run<C: Command>(&self, command: C) -> Result<C::Output> {
        let queue = self.queue.as_ref().ok_or(StateError::ReadOnly)?;
        let _turn = Turn::begin(&self.waiting);
        let (answer, answered) = oneshot::channel();
        let job = Waiting { command: Some(command), cause: Cause::current(), outcome: None, answer };
        queue.send(Box::new(job)).await.map_err(|_| StateError::Closed)?;
        answered.await.map_err(|_| StateError::Closed)?
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Committed = StdResult<(), Arc<sqlx::Error>>;

/// A command of any type on its way through the writer.
trait Job: Send {
    /// Runs the command; tells whether it is to be kept.
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, bool>;
    /// Answers the caller, who may have gone.
    fn answer(self: Box<Self>, committed: Committed);
}

struct Waiting<C: Command> {
    command: Option<C>,
    cause: Option<Cause>,
    outcome: Option<Result<C::Output>>,
    answer: oneshot::Sender<Result<C::Output>>,
}

impl<C: Command> Job for Waiting<C> {
    fn run<'a>(&'a mut self, tx: &'a mut Tx<'_>) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(command) = self.command.take() else { return false };
            tx.cause = self.cause.take();
            self.outcome.insert(command.apply(tx).await).is_ok()
        })
    }

    fn answer(self: Box<Self>, committed: Committed) {
        let answer = match (self.outcome, committed) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(StateError::NotCommitted(error)),
            (Some(Ok(output)), Ok(())) => Ok(output),
            (None, Ok(())) => Err(StateError::Closed),
        };
        drop(self.answer.send(answer));
    }
}

/// Where the writer tells whether commits succeed, once somebody wants to know.
pub(super) type Reporting = Arc<OnceLock<Health>>;

/// The writer's own things.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// `None`: the last commit failed, and a fresh connection is needed.
    connection: Option<SqliteConnection>,
    written: Written,
    mark: Mark,
    hub: Arc<Hub>,
    hook: Option<CommitHook>,
    commands: mpsc::Receiver<Box<dyn Job>>,
    reporting: Reporting,
    work: Work,
}

/// What a connection has committed.
struct Transacted {
    changes: Changes,
    /// The number of the commit, if anything was written.
    number: Option<u64>,
}

impl Writer {
    pub(super) fn new(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
        mark: Mark,
        hub: Arc<Hub>,
        hook: Option<CommitHook>,
        work: Work,
    ) -> (Self, Commands, Reporting) {
        let (sender, commands) = mpsc::channel(QUEUE_LIMIT);
        let reporting = Reporting::default();
        let (connection, written) = (Some(connection), Written::default());
        let writer =
            Self { options, connection, written, mark, hub, hook, commands, reporting: Arc::clone(&reporting), work };
        (writer, Commands { queue: Some(sender), waiting: Arc::default() }, reporting)
    }

    /// Commits until it is stopped and nothing waits any more; gives connection and mark back.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Option<(SqliteConnection, Mark)> {
        let mut batch = Vec::with_capacity(BATCH_LIMIT);
        let mut stopping = false;
        loop {
            tokio::select! {
                taken = self.commands.recv_many(&mut batch, BATCH_LIMIT) => match taken {
                    0 => return self.connection.map(|connection| (connection, self.mark)),
                    _ => self.commit(&mut batch).await,
                },
                _ = &mut stop, if !stopping => {
                    stopping = true;
                    self.commands.close();
                }
                () = sleep(PROBE_EVERY), if self.connection.is_none() => self.commit(&mut batch).await,
            }
        }
    }

    /// Commits what the batch has; with none, only that this can be done.
    async fn commit(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        let stopwatch = Stopwatch::start();
        let failed_before = self.connection.is_none();
        self.work.begin();
        let transacted = self.transact(batch).await.map_err(Arc::new);
        self.work.end();
        histogram!(STORE_COMMIT_SECONDS).record(stopwatch.elapsed());
        histogram!(STORE_BATCH_SIZE).record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        match &transacted {
            Ok(done) => {
                if let Some(number) = done.number {
                    self.mark.set(number);
                }
                self.hub.publish(&done.changes);
            }
            Err(_) => self.connection = None,
        }
        let committed = transacted.map(drop);
        self.report(failed_before, &committed);
        batch.drain(..).for_each(|job| job.answer(committed.clone()));
    }

    fn report(&self, failed_before: bool, committed: &Committed) {
        match (committed, failed_before) {
            (Err(error), false) => tracing::error!(error = words(error), "the database cannot be written"),
            (Ok(()), true) => tracing::info!("the database can be written again"),
            _ => {}
        }
        let Some(health) = self.reporting.get() else { return };
        match committed {
            Ok(()) => health.pass(Check::Store),
            Err(error) => health.fail(Check::Store, format!("the database cannot be written: {}", words(error))),
        }
    }

    async fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> StdResult<Transacted, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.written = Written::default();
                none.insert(self.options.connect().await?)
            }
        };
        let mut changes = Changes::default();
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut written = if batch.is_empty() { Written::default() } else { self.written };
        for job in batch {
            let mut savepoint = transaction.begin().await?;
            let quarantine = &self.hub.quarantine;
            let mut tx = Tx { conn: &mut savepoint, changes: Changes::default(), quarantine, cause: None };
            if job.run(&mut tx).await {
                changes.merge(tx.changes);
                savepoint.commit().await?;
            } else {
                savepoint.rollback().await?;
            }
        }
        let number = instance::count_commit(&mut transaction, &mut written).await?;
        self.hub.causes.learn(std::mem::take(&mut changes.caused));
        if let Some(hook) = &self.hook {
            hook(CommitPoint::Before).await;
        }
        transaction.commit().await?;
        if let Some(hook) = &self.hook {
            hook(CommitPoint::After).await;
        }
        self.written = written;
        Ok(Transacted { changes, number })
    }
}
