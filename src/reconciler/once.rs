//! One pass to convergence, for cron: the daemon's own loop, workers, informer, sweep and claim, until nothing is left to
//! do that can be done now.
//!
//! # Guarantees
//! - A pass owns the database as a daemon does: it claims the next epoch first, and stops when the claim is lost.
//! - Unless it is told to start runs, it invokes nothing, whatever is wanted.
//! - It has not converged before it has read the logs of all runs under way and listed all functions once, and has looked
//!   at every container afterwards.
//!
//! # Caveats
//! - Runs that were under way before are not waited for. Of its own runs it waits for the answers, at most until the
//!   deadline; after that they go on by themselves, and a later pass or daemon reads their end from the log.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::census::Census;
use super::claim::{self, Claim, ClaimError};
use super::observe::{Groups, InformerError, PAUSE};
use super::queue::Priority;
use super::rehearse::{RehearsalError, rehearse};
use super::shared::{KICKS, Kick, Shared};
use super::summary::Summary;
use super::sweep::{Orphans, SweepError, Swept};
use super::{Loop, Reconciler};
use crate::clock::{Clock, Stopwatch};
use crate::state::{Instance, StateError};

/// How often the claim is made, the containers are counted, the logs are read and AWS is listed before a pass gives up: one refusal for a moment is no failure.
const TRIES: u32 = 4;

/// What a pass is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassOrder {
    /// Change nothing, and tell what there is to do.
    pub dry_run: bool,
    /// Runs that are wanted may be invoked.
    pub start: bool,
    /// How long it may take.
    pub deadline: Duration,
}

/// Why a pass did not go through.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Rehearsal(#[from] RehearsalError),
    #[error("{0}")]
    ClaimLost(String),
    #[error("the deadline came before {0}")]
    Late(&'static str),
    #[error("interrupted")]
    Interrupted,
}

impl Reconciler {
    /// One pass, until nothing is left to do, or the deadline, or `stop`.
    pub async fn once(self, order: PassOrder, stop: CancellationToken) -> Summary {
        let watch = Stopwatch::start();
        let mut summary = Summary { dry_run: order.dry_run, ..Summary::default() };
        let result = if order.dry_run {
            self.dry_run(order, &stop, &mut summary).await
        } else {
            self.pass(order, &stop, &mut summary).await
        };
        if let Err(error) = result {
            summary.errors.push(error.to_string());
        }
        summary.aws_calls = self.parts.cloud.calls_made();
        summary.seconds = watch.elapsed().as_secs_f64();
        summary
    }

    async fn dry_run(
        &self,
        order: PassOrder,
        stop: &CancellationToken,
        summary: &mut Summary,
    ) -> Result<(), PassError> {
        let instance = self.parts.reader.instance().await?;
        if let Some(why) = instance.doubt.as_ref().filter(|_| !self.parts.config.adopt) {
            return Err(PassError::ClaimLost(claim::lost(why)));
        }
        let (kicks, _) = mpsc::channel(KICKS);
        let (mut shared, _) = self.shared(&instance, kicks).await?;
        shared.withholds_runs = !order.start;
        tokio::select! {
            rehearsed = rehearse(&shared, instance.epoch, summary) => Ok(rehearsed?),
            () = self.parts.clock.sleep(order.deadline) => Err(PassError::Late("the plan was made")),
            () = stop.cancelled() => Err(PassError::Interrupted),
        }
    }

    async fn pass(&self, order: PassOrder, stop: &CancellationToken, summary: &mut Summary) -> Result<(), PassError> {
        let deadline = Deadline { since: self.parts.clock.stopwatch(), within: order.deadline };
        let instance = match self.claim_patiently(&deadline, stop).await? {
            Claim::Held(instance) => instance,
            Claim::Lost { why } => return Err(PassError::ClaimLost(claim::lost(&why))),
        };
        let (mut shared, census, kicked) = self.begin_patiently(&instance, &deadline, stop).await?;
        shared.withholds_runs = !order.start;
        let mut control = Loop { census, ..Loop::new(shared.clone(), kicked) };
        let (tell, told) = oneshot::channel();
        let looking = tokio::spawn(shared.clone().look_around(instance.epoch, tell, Arc::clone(&control.poke)));
        let alarm = tokio::spawn(alarm(shared.clone(), deadline.left(), stop.clone(), Arc::clone(&control.poke)));
        let ended = control.converge(told, &deadline, stop).await;
        let noted = control.note_undone(&mut *summary).await;
        control.drain(shared.config.drain_timeout).await;
        for helper in [looking, alarm] {
            helper.abort();
            // Aborted or not: it begins no more commits.
            let _ = helper.await;
        }
        shared.commits.close();
        shared.commits.wait().await;
        summary.count(shared.tally.done());
        summary.running = shared.slots.running();
        noted?;
        ended.tell(summary)
    }

    /// Claims the database, each time with the next epoch. A claim that is under way is not cut off: whether it is lost
    /// must get into the database.
    async fn claim_patiently(&self, deadline: &Deadline, stop: &CancellationToken) -> Result<Claim, PassError> {
        let clock = &self.parts.clock;
        let mut failures = 0;
        loop {
            let error = match self.try_claim().await {
                Err(error @ ClaimError::Aws(_)) => error,
                result => return Ok(result?),
            };
            tokio::select! {
                borne = bear(clock, &mut failures, error) => borne?,
                () = clock.sleep(deadline.left()) => return Err(PassError::Late("the database was claimed")),
                () = stop.cancelled() => return Err(PassError::Interrupted),
            }
        }
    }

    /// Reads what all tasks share, and counts all containers. Nothing is handed out before that went through.
    async fn begin_patiently(
        &self,
        instance: &Instance,
        deadline: &Deadline,
        stop: &CancellationToken,
    ) -> Result<(Shared, Census, mpsc::Receiver<Kick>), PassError> {
        let clock = &self.parts.clock;
        let mut failures = 0;
        loop {
            let (kicks, kicked) = mpsc::channel(KICKS);
            let error = match self.shared(instance, kicks).await {
                Ok((shared, census)) => return Ok((shared, census, kicked)),
                Err(error @ StateError::Closed) => return Err(error.into()),
                Err(error) => error,
            };
            tokio::select! {
                borne = bear(clock, &mut failures, error) => borne?,
                () = clock.sleep(deadline.left()) => return Err(PassError::Late("the containers were counted")),
                () = stop.cancelled() => return Err(PassError::Interrupted),
            }
        }
    }
}

/// When a pass must end, by a clock that nobody sets.
struct Deadline {
    since: Stopwatch,
    within: Duration,
}

impl Deadline {
    fn left(&self) -> Duration {
        self.within.saturating_sub(self.since.elapsed())
    }
}

/// How the converging ended.
enum Ended {
    /// Nothing is left that can be done now.
    Converged(Look),
    /// The deadline came, perhaps before everything was looked at.
    Late(Option<Look>),
    /// Somebody stopped it.
    Interrupted,
    /// The store is closed.
    Closed,
}

impl Ended {
    fn tell(self, summary: &mut Summary) -> Result<(), PassError> {
        match self {
            Self::Converged(look) | Self::Late(Some(look)) => look.tell(summary),
            Self::Late(None) => {
                summary.leave(None, "the deadline came before the logs were read and the functions listed");
                Ok(())
            }
            Self::Interrupted => Err(PassError::Interrupted),
            Self::Closed => Err(StateError::Closed.into()),
        }
    }
}

/// What the one look at AWS came to.
#[derive(Debug, Default)]
struct Look {
    orphans: Orphans,
    claim_lost: bool,
    errors: Vec<String>,
}

impl Look {
    fn tell(self, summary: &mut Summary) -> Result<(), PassError> {
        summary.errors.extend(self.errors);
        self.orphans.add_to(summary);
        match self.claim_lost {
            true => Err(PassError::ClaimLost(claim::lost("another daemon has claimed it since"))),
            false => Ok(()),
        }
    }
}

impl Orphans {
    /// Adds them to the summary.
    pub(super) fn add_to(self, summary: &mut Summary) {
        summary.orphans_waiting = self.waiting;
        summary.orphans_kept = self.kept;
        if self.left > 0 {
            summary.leave(None, format!("{} more orphaned functions than one pass looks at and deletes", self.left));
        }
    }
}

impl Loop {
    /// Goes round until nothing is left that can be done now.
    async fn converge(
        &mut self,
        mut told: oneshot::Receiver<Look>,
        deadline: &Deadline,
        stop: &CancellationToken,
    ) -> Ended {
        let mut look = None;
        loop {
            if self.round().await.is_break() {
                return Ended::Closed;
            }
            look = look.or_else(|| told.try_recv().ok());
            if stop.is_cancelled() {
                return Ended::Interrupted;
            }
            look = match look {
                Some(look) if look.claim_lost || self.is_done() => return Ended::Converged(look),
                look => look,
            };
            if deadline.left().is_zero() {
                return Ended::Late(look);
            }
        }
    }

    /// Whether nobody is at work, nothing is due, and what is left will not be done however long one waits.
    pub(super) fn is_done(&mut self) -> bool {
        // A run sends its news before it counts as ended, so it is asked first.
        let now = self.now();
        self.shared.runs.is_empty()
            && self.workers.is_empty()
            && self.kicked.is_empty()
            && self.lines.is_empty()
            && self.queue.next_due().is_none_or(|due| due > now)
            && self.left.values().all(|left| left.withheld)
    }

    /// Tells what is left undone now.
    async fn note_undone(&mut self, summary: &mut Summary) -> Result<(), StateError> {
        let now = self.now();
        let cut_off = self.keys.values().map(|work| work.id).chain(self.queue.due(now));
        let mut undone: Vec<_> = cut_off.map(|id| (id, "its turn had not ended when the pass did")).collect();
        undone.extend(self.left.iter().map(|(id, left)| (*id, left.because)));
        undone.sort_by_key(|(id, _)| *id);
        undone.dedup_by_key(|(id, _)| *id);
        for (id, because) in undone {
            match self.shared.reader.container(&id).await {
                Ok(Some(container)) => summary.leave(Some(&container), because),
                Ok(None) => {}
                Err(StateError::Unreadable(dead)) => summary.leave(Some(&dead.placeholder()), because),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Wakes the loop when the time is over.
async fn alarm(shared: Shared, left: Duration, stop: CancellationToken, poke: Arc<Notify>) {
    tokio::select! {
        () = shared.clock.sleep(left) => {}
        () = stop.cancelled() => {}
    }
    poke.notify_one();
}

impl Shared {
    /// Reads all logs and lists all functions once, then has every container looked at again; then follows the logs as
    /// long as it may.
    async fn look_around(self, epoch: u64, tell: oneshot::Sender<Look>, poke: Arc<Notify>) {
        let mut groups = Groups::new();
        let mut look = Look::default();
        if let Err(error) = self.read_logs_patiently(&mut groups).await {
            look.errors.push(format!("the logs could not be read: {error}"));
        }
        match self.sweep_patiently(epoch).await {
            Ok(Swept::Done(orphans)) => look.orphans = orphans,
            Ok(Swept::ClaimLost) => look.claim_lost = true,
            Err(error) => look.errors.push(format!("the functions could not be swept: {error}")),
        }
        match self.facts.due().await {
            Ok(due) => {
                for (id, _) in due {
                    self.kick(id, self.clock.now(), Priority::Poll).await;
                }
            }
            Err(error) => look.errors.push(error.to_string()),
        }
        // Nobody listens any more when the deadline has come.
        let _ = tell.send(look);
        poke.notify_one();
        self.follow_logs(groups, CancellationToken::new()).await;
    }

    async fn read_logs_patiently(&self, groups: &mut Groups) -> Result<(), InformerError> {
        let mut failures = 0;
        loop {
            match self.read_logs(groups).await {
                // A scan is finite: the next tick goes on with it.
                Ok(watched) if watched.backlog => {}
                Ok(_) => return Ok(()),
                Err(error) => bear(&self.clock, &mut failures, error).await?,
            }
        }
    }

    async fn sweep_patiently(&self, epoch: u64) -> Result<Swept, SweepError> {
        let mut failures = 0;
        loop {
            match self.sweep(epoch).await {
                Ok(swept) => return Ok(swept),
                Err(error) => bear(&self.clock, &mut failures, error).await?,
            }
        }
    }
}

/// Waits before the next try, or gives the error back if that was the last one.
async fn bear<E: Display + Send>(clock: &Clock, failures: &mut u32, error: E) -> Result<(), E> {
    *failures += 1;
    if *failures >= TRIES {
        return Err(error);
    }
    tracing::warn!(%error, failures, "tried again");
    clock.sleep(PAUSE.ceiling(*failures)).await;
    Ok(())
}
