//! # Reconciler: convergence
//!
//! Brings AWS to what is wanted, and writes down what it saw: the only writer of facts. It never writes a wish and
//! never answers a client.
//!
//! | file | what it is |
//! |---|---|
//! | `plan`, `learn`, `absorb` | PURE: (now, wish, facts) → one step; facts + what was seen → facts |
//! | `queue`, `schedule`, `backoff`, `names`, `lines`, `verdict` | PURE: the parts that these need |
//! | `worker`, `execute`, `invocations` | read, plan, commit, act, fold; runs in flight |
//! | `observe`, `scan` | the log informer: the evidence for runs whose answer was lost |
//! | `sweep`, `claim` | drift and orphans; whose database is this? |
//! | `once`, `rehearse` | one pass to convergence, and what it would do |
//! | this file | the loop |

mod absorb;
mod backoff;
mod census;
mod claim;
mod execute;
mod invocations;
mod learn;
mod lines;
mod names;
mod observe;
mod once;
mod plan;
mod queue;
mod record;
mod rehearse;
mod scan;
mod schedule;
mod shared;
mod slots;
mod summary;
mod sweep;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;
mod worker;

pub(crate) use self::lines::pattern as log_pattern;
pub(crate) use self::names::TAG_MANAGED_BY;
pub use self::once::PassOrder;
pub use self::summary::{LeftOver, Outcome, Step, Summary};

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::census::Census;
use self::claim::{Claim, ClaimError, Claimant};
use self::names::Identity;
pub use self::names::{BOOTSTRAP, TAG_PROTOCOL};
use self::observe::Groups;
use self::queue::{Priority, Queue};
use self::schedule::Schedule;
use self::shared::{KICKS, Kick, Shared};
use self::slots::Slots;
use self::worker::{LeftWork, Next, Turn};
use crate::aws::{Cloud, Lane};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::health::{Check, Health};
use crate::state::model::{ContainerId, life};
use crate::state::{Facts, Instance, Reader, StateError, WishFeed, Wished};
use crate::telemetry;

/// Containers that are worked on at once. Runs in flight do not count: they have tasks of their own.
const MAX_WORKERS: usize = 32;
/// Containers that are read from the store at once, where all are looked at.
const ROW_PAGE: u32 = 500;
/// The loop says so often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The loop counts as alive for so long while all workers are out and none comes back. Their calls have time-outs.
const WORKER_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// When AWS cannot be reached at the start.
const CLAIM_PAUSE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// After a worker ended in a panic.
const PANIC_PAUSE: Duration = Duration::from_secs(60);
/// After a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What the reconciler needs.
#[derive(Clone, Debug)]
pub struct ReconcilerParts {
    /// Writes facts.
    pub facts: Facts,
    /// Reads.
    pub reader: Reader,
    /// AWS.
    pub cloud: Cloud,
    /// Time.
    pub clock: Clock,
    /// Where problems are told.
    pub health: Health,
    /// The settings.
    pub config: Arc<Config>,
}

/// The controller.
#[derive(Debug)]
pub struct Reconciler {
    parts: ReconcilerParts,
}

impl Reconciler {
    /// A controller that has not begun.
    #[must_use]
    pub fn new(parts: ReconcilerParts) -> Self {
        Self { parts }
    }

    /// Claims the database, then converges until `stop`; then lets what is under way record its outcome, for at most
    /// `drain`. While AWS is not reachable, or the claim is lost, nothing is changed and the problem is told.
    ///
    /// All of its tasks end with it: dropping the future is like a `kill -9`.
    pub async fn run(self, stop: CancellationToken, drain: Duration) {
        let Some(instance) = self.claim(&stop).await else { return };
        let Some((shared, kicked)) = self.begin(&instance, &stop).await else { return };
        let _life = shared.life.clone().drop_guard();
        let lost = CancellationToken::new();
        let background = TaskTracker::new();
        let sweeps = shared.clone().sweep_loop(instance.epoch, stop.child_token(), lost.clone());
        background.spawn(shared.while_alive(shared.clone().follow_logs(Groups::new(), stop.child_token())));
        background.spawn(shared.while_alive(sweeps));
        let mut control = Loop::new(shared, kicked);
        tokio::select! {
            () = control.run() => {}
            () = stop.cancelled() => {}
            () = lost.cancelled() => self.lost("another daemon has claimed it since"),
        }
        control.drain(drain).await;
        if lost.is_cancelled() {
            self.idle(&stop).await;
        }
    }

    /// Reads what all tasks share, as long as it takes. `None`: stopped before, or the store is closed.
    async fn begin(&self, instance: &Instance, stop: &CancellationToken) -> Option<(Shared, mpsc::Receiver<Kick>)> {
        loop {
            let (kicks, kicked) = mpsc::channel(KICKS);
            match self.shared(instance, kicks).await {
                Ok(shared) => {
                    self.parts.health.pass(Check::Reconciler);
                    return Some((shared, kicked));
                }
                Err(StateError::Closed) => return None,
                Err(error) => {
                    tracing::error!(%error, "the store cannot be read");
                    self.parts.health.fail(Check::Reconciler, error.to_string());
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.beat_for(STORE_PAUSE) => {}
            }
        }
    }

    /// Claims the database, as long as it takes. `None`: stopped before.
    async fn claim(&self, stop: &CancellationToken) -> Option<Instance> {
        let parts = &self.parts;
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                () = stop.cancelled() => return None,
                result = self.try_claim() => result,
            };
            match result {
                Ok(Claim::Held(instance)) => {
                    parts.health.pass(Check::Aws);
                    parts.health.pass(Check::Ownership);
                    parts.health.pass(Check::Reconciler);
                    tracing::info!(instance = instance.id, epoch = instance.epoch, "this database owns its functions");
                    return Some(instance);
                }
                Ok(Claim::Lost { why }) => {
                    parts.health.pass(Check::Aws);
                    self.lost(&why);
                    self.idle(stop).await;
                    return None;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the database cannot be claimed: nothing converges until it is");
                    let check = match &error {
                        ClaimError::Aws(_) => Check::Aws,
                        ClaimError::State(_) => Check::Reconciler,
                    };
                    parts.health.fail(check, error.to_string());
                }
            }
            parts.health.beat(parts.clock.now());
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.beat_for(CLAIM_PAUSE.ceiling(failures)) => {}
            }
        }
    }

    async fn try_claim(&self) -> Result<Claim, ClaimError> {
        let ReconcilerParts { facts, cloud, clock, config, .. } = &self.parts;
        let claimant = Claimant {
            facts,
            cloud,
            log_group: &config.log_group,
            log_retention_days: config.log_retention_days,
            adopt: config.adopt,
        };
        claimant.claim(clock.now()).await
    }

    fn lost(&self, why: &str) {
        let reason = claim::lost(why);
        tracing::error!(reason, "the claim is lost");
        self.parts.health.fail(Check::Ownership, reason);
    }

    /// Nothing to do until the end, but to be alive.
    async fn idle(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.beat_for(HEARTBEAT) => {}
            }
        }
    }

    async fn beat_for(&self, pause: Duration) {
        let until = self.parts.clock.now().after(pause);
        loop {
            let now = self.parts.clock.now();
            self.parts.health.beat(now);
            if now >= until {
                return;
            }
            self.parts.clock.sleep_until(until.min(now.after(HEARTBEAT))).await;
        }
    }

    async fn shared(&self, instance: &Instance, kicks: mpsc::Sender<Kick>) -> Result<Shared, StateError> {
        let parts = &self.parts;
        let shared = Shared {
            facts: parts.facts.clone(),
            reader: parts.reader.clone(),
            cloud: parts.cloud.clone(),
            clock: parts.clock.clone(),
            health: parts.health.clone(),
            config: Arc::clone(&parts.config),
            identity: Arc::new(Identity {
                prefix: parts.config.function_prefix.clone(),
                instance: instance.id.clone(),
            }),
            adopted_at: instance.adopted_at,
            horizon: instance.horizon,
            slots: Arc::new(Slots::new(parts.config.max_running)),
            knowledge: Arc::default(),
            kicks,
            watch_logs: Arc::default(),
            runs: TaskTracker::new(),
            withholds_runs: false,
            tally: Arc::default(),
            life: CancellationToken::new(),
        };
        {
            let (read_through, roles_without_logs) =
                (parts.facts.log_progress().await?, parts.facts.roles_without_logs().await?);
            let mut knowledge = shared.knowledge();
            knowledge.read_through = read_through;
            // Found out by a daemon before: whoever starts it anew may have mended the role, so it is tried again.
            let found_out = Timestamp::default();
            knowledge.roles_without_logs = roles_without_logs.into_iter().map(|role| (role, found_out)).collect();
        }
        for container in parts.facts.watched().await? {
            if life::unsettled_run(&container.status).is_some() {
                shared.slots.found(container.id);
            }
        }
        Ok(shared)
    }
}

/// A worker's last word.
type WorkerDone = (ContainerId, Result<Turn, StateError>);

/// The loop: the queue, and the tasks that work on what it gives out.
struct Loop {
    shared: Shared,
    queue: Queue<ContainerId>,
    feed: WishFeed,
    kicked: mpsc::Receiver<Kick>,
    workers: JoinSet<WorkerDone>,
    /// Who works on what and since when, should a worker stall or end in a panic.
    keys: HashMap<task::Id, (ContainerId, Timestamp)>,
    halt: CancellationToken,
    census: Census,
    /// What is left to do for containers, as their last turns told.
    left: HashMap<ContainerId, LeftWork>,
    /// When everything is taken up again from the store.
    resync_at: Timestamp,
    /// When a worker last came back, or was free.
    progress_at: Timestamp,
    /// Somebody wants the loop to look around.
    poke: Arc<Notify>,
}

impl Loop {
    fn new(shared: Shared, kicked: mpsc::Receiver<Kick>) -> Self {
        Self {
            feed: shared.facts.wish_feed(),
            resync_at: shared.clock.now(),
            progress_at: shared.clock.now(),
            shared,
            queue: Queue::default(),
            kicked,
            workers: JoinSet::new(),
            keys: HashMap::new(),
            halt: CancellationToken::new(),
            census: Census::default(),
            left: HashMap::new(),
            poke: Arc::default(),
        }
    }

    /// Never returns but for a closed store.
    async fn run(&mut self) {
        if let Err(error) = self.count_all().await {
            self.store_failed(&error);
        }
        while self.round().await.is_continue() {}
    }

    /// Gives out what is due, then takes in what happens next. Breaks when the store is closed. Not to be dropped half
    /// done: what it has taken in would be lost.
    async fn round(&mut self) -> ControlFlow<()> {
        let now = self.now();
        if self.workers.len() < MAX_WORKERS {
            self.progress_at = now;
        }
        if now.since(self.progress_at) < WORKER_PATIENCE {
            self.shared.health.beat(now);
        }
        if now >= self.resync_at {
            self.resync_at = now.after(self.shared.config.resync_interval);
            match self.resync().await {
                Ok(()) => self.shared.health.pass(Check::Reconciler),
                Err(error) if self.store_failed(&error) => return ControlFlow::Break(()),
                Err(_) => self.resync_at = now.after(STORE_PAUSE),
            }
        }
        self.give_out(now);
        let resync_at = self.resync_at;
        let wake = self.queue.next_due().unwrap_or(resync_at).min(resync_at).min(now.after(HEARTBEAT));
        let wake = if self.workers.len() < MAX_WORKERS { wake } else { now.after(HEARTBEAT) };
        tokio::select! {
            Some(done) = self.workers.join_next_with_id() => self.take_back(done),
            Some(kick) = self.kicked.recv() => self.push(kick.id, kick.due, kick.priority),
            wished = self.feed.next() => match self.wished(wished).await {
                Ok(()) => {}
                Err(error) if self.store_failed(&error) => return ControlFlow::Break(()),
                // What was missed is in the rows.
                Err(_) => self.resync_at = self.now().after(STORE_PAUSE),
            },
            () = self.poke.notified() => {}
            () = self.shared.clock.sleep_until(wake) => {}
        }
        ControlFlow::Continue(())
    }

    /// Every container is counted once; from then on, those that are worked on.
    async fn count_all(&mut self) -> Result<(), StateError> {
        let mut after = 0;
        loop {
            let page = self.shared.facts.containers(after, ROW_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            page.iter().for_each(|row| self.census.count(row.id, Some(record::counted(row))));
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn push(&mut self, id: ContainerId, due: Timestamp, priority: Priority) {
        metrics::counter!(telemetry::QUEUE_ADDS, "name" => "container").increment(1);
        self.queue.push(id, due, priority);
    }

    /// Takes up what is due from the index, and wishes that nobody has planned for: at the start, and now and then in case
    /// something was missed.
    async fn resync(&mut self) -> Result<(), StateError> {
        for (id, due) in self.shared.facts.due().await? {
            self.queue.push(id, due, Priority::Poll);
        }
        let now = self.now();
        for id in self.shared.facts.wished().await? {
            self.queue.push(id, now, Priority::User);
        }
        Ok(())
    }

    async fn wished(&mut self, wished: Result<Wished, StateError>) -> Result<(), StateError> {
        let now = self.now();
        let ids = match wished? {
            Wished::Some(ids) => ids,
            Wished::Many => self.shared.facts.wished().await?,
        };
        ids.into_iter().for_each(|id| self.push(id, now, Priority::User));
        Ok(())
    }

    /// Hands out what is due, as far as there are workers.
    fn give_out(&mut self, now: Timestamp) {
        while self.workers.len() < MAX_WORKERS {
            let Some((id, due, priority)) = self.queue.pop(now) else { break };
            metrics::histogram!(telemetry::QUEUE_SECONDS, "name" => "container").record(now.since(due));
            let lane = match priority {
                Priority::User => Lane::User,
                Priority::Retry | Priority::Poll => Lane::Retry,
                Priority::Housekeeping => Lane::Housekeeping,
            };
            let shared = Shared { cloud: self.shared.cloud.lane(lane), ..self.shared.clone() };
            let halt = self.halt.clone();
            let worker = self.workers.spawn(async move {
                let started = shared.clock.now();
                let turn = shared.reconcile(id, &halt).await;
                metrics::histogram!(telemetry::RECONCILE_SECONDS, "controller" => "container")
                    .record(shared.clock.now().since(started));
                (id, turn)
            });
            self.keys.insert(worker.id(), (id, now));
        }
        self.measure(now);
    }

    fn measure(&self, now: Timestamp) {
        let ages = || self.keys.values().map(|(_, since)| now.since(*since).as_secs_f64());
        let wish_age = self.census.oldest_wish().map_or(0.0, |since| now.since(since).as_secs_f64());
        metrics::gauge!(telemetry::RUNS_IN_FLIGHT).set(count(self.shared.slots.held()));
        metrics::gauge!(telemetry::OLDEST_WISH).set(wish_age);
        metrics::gauge!(telemetry::QUEUE_DEPTH, "name" => "container").set(count(self.queue.ready()));
        metrics::gauge!(telemetry::QUEUE_UNFINISHED, "name" => "container").set(ages().sum::<f64>());
        metrics::gauge!(telemetry::QUEUE_LONGEST, "name" => "container").set(ages().fold(0.0, f64::max));
        metrics::gauge!(telemetry::ACTIVE_WORKERS, "controller" => "container").set(count(self.queue.working()));
    }

    fn take_back(&mut self, done: Result<(task::Id, WorkerDone), JoinError>) {
        let (id, turn) = match done {
            Ok((task, done)) => {
                self.keys.remove(&task);
                done
            }
            Err(error) => {
                // A bug. Every act has its intent committed, so looking again is safe.
                let Some((id, _)) = self.keys.remove(&error.id()) else { return };
                tracing::error!(container = %id, %error, "a worker ended in a panic");
                self.left.insert(id, LeftWork::later("a worker ended in a panic"));
                self.queue.done(id);
                self.queue.push(id, self.now().after(PANIC_PAUSE), Priority::Housekeeping);
                return;
            }
        };
        self.queue.done(id);
        if let Some(next) = self.shared.slots.next() {
            self.queue.push(next, self.now(), Priority::User);
        }
        let result = match turn {
            Ok(turn) => {
                self.shared.health.pass(Check::Reconciler);
                self.census.count(id, turn.counted);
                match turn.left {
                    Some(left) => self.left.insert(id, left),
                    None => self.left.remove(&id),
                };
                match turn.next {
                    Next::Idle => {}
                    Next::At(at, priority) => self.queue.push(id, at, priority),
                }
                match (turn.failed, turn.next) {
                    (true, _) => "error",
                    (false, Next::Idle) => "success",
                    (false, Next::At(..)) => "requeue_after",
                }
            }
            Err(error) => {
                self.store_failed(&error);
                self.left.insert(id, LeftWork::later("the store failed"));
                self.queue.push(id, self.now().after(STORE_PAUSE), Priority::Retry);
                "error"
            }
        };
        if result == "error" {
            metrics::counter!(telemetry::RECONCILE_ERRORS, "controller" => "container").increment(1);
        }
        metrics::counter!(telemetry::RECONCILE_TOTAL, "controller" => "container", "result" => result).increment(1);
    }

    /// Says that the store failed. Returns whether it is closed for good.
    fn store_failed(&self, error: &StateError) -> bool {
        if matches!(error, StateError::Closed) {
            return true;
        }
        tracing::error!(%error, "the store failed");
        metrics::counter!(telemetry::STORE_ERRORS).increment(1);
        self.shared.health.fail(Check::Reconciler, error.to_string());
        false
    }

    /// Takes no more keys, lets acts and runs under way record their outcome, for at most `most`. What does not end in time
    /// is settled by the log, after the next start.
    async fn drain(&mut self, most: Duration) {
        self.halt.cancel();
        self.shared.runs.close();
        let runs = self.shared.runs.len();
        if runs > 0 {
            tracing::info!(runs, "waiting for runs under way");
        }
        self.kicked.close();
        let all = async {
            while self.workers.join_next().await.is_some() {}
            self.shared.runs.wait().await;
        };
        if tokio::time::timeout(most, all).await.is_err() {
            tracing::warn!(
                runs = self.shared.runs.len(),
                "runs go on without us; the next start reads their end from the log"
            );
        }
    }
}

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}
