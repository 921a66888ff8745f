//! One container at a time: read, plan, commit, act, fold, again.
//!
//! # Guarantees
//! - The facts of a decision are committed before its action is carried out; the commit loses against any other write of
//!   facts, and then everything is read and thought again.
//! - A call that needs a quota has its token before its intent is committed; without one the container goes back to the loop,
//!   and the worker is free.
//! - What an action brought is folded into whatever the facts are by then: it is never lost to a race.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::census::Counted;
use super::execute::{News, fresh_token};
use super::permits::Permit;
use super::plan::{Action, DELIVERY_SLACK, Decision, Left, Moment, plan};
use super::queue::Priority;
use super::quota_line::{Rank, Waiting, need_of};
use super::record::{self, fact_write};
use super::shared::Shared;
use super::surely_over::may_go_on_until;
use crate::clock::Timestamp;
use crate::state::model::{Container, ContainerId, InvocationKind, Known, Status, life};
use crate::state::{InvokePermit, Issue, StateError, Written};
use crate::telemetry;
use crate::traces::Reconcile;

/// Steps of one container in a row, at most; then others have their turn.
pub(super) const MAX_STEPS: u32 = 24;

/// Before random numbers are asked for again.
const RANDOM_PAUSE: Duration = Duration::from_secs(5);

/// What is left to do for a container after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something happens.
    Idle,
    /// Look again then.
    At(Timestamp, Priority),
    /// Look again when its turn has come at the quota.
    InLine(Waiting),
}

/// What a turn did, for the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) next: Next,
    /// An action failed in this turn.
    pub(super) failed: bool,
    /// What is to be counted of the container; `None`: it is gone.
    pub(super) counted: Option<Counted>,
    /// What is left to do for the container; `None`: nothing.
    pub(super) left: Option<LeftWork>,
}

/// What is left to do for a container, and why it was not done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftWork {
    pub(super) because: &'static str,
    /// It is not done however long one waits.
    pub(super) withheld: bool,
}

impl LeftWork {
    pub(super) fn later(because: &'static str) -> Self {
        Self { because, withheld: false }
    }

    /// What is left once a decision has been committed; an action is still to be carried out.
    pub(super) fn of(decision: &Decision) -> Option<Self> {
        match (&decision.action, decision.left) {
            (Action::Forget, _) | (_, Left::Nothing) => None,
            (_, left) => Some(Self { because: decision.because, withheld: left == Left::Withheld }),
        }
    }
}

impl Shared {
    /// Takes one container as many steps as can be taken now. `permit`: what it has stood in line for.
    pub(super) async fn reconcile(
        &self,
        id: ContainerId,
        permit: Option<Permit>,
        stop: &CancellationToken,
    ) -> Result<Turn, StateError> {
        let mut trace = Reconcile::of(id);
        let turn = self.turn(id, permit, stop, &mut trace).await;
        trace.ended(turn.as_ref().map_or(true, |turn| turn.failed));
        turn
    }

    async fn turn(
        &self,
        id: ContainerId,
        mut held: Option<Permit>,
        stop: &CancellationToken,
        trace: &mut Reconcile,
    ) -> Result<Turn, StateError> {
        let mut news: Option<News> = None;
        let mut failed = false;
        let mut counted = None;
        for _ in 0..MAX_STEPS {
            let stored = match self.stored(&id).await? {
                Stored::Here(stored) => *stored,
                Stored::Replaced => continue,
                Stored::Dead => return Ok(dead(failed)),
                Stored::Gone => {
                    self.leave_slots(&id, None).await;
                    return Ok(Turn { next: Next::Idle, failed, counted: None, left: None });
                }
            };
            trace.follow(self.facts.cause(&id, stored.spec.generation));
            let now = self.clock.now();
            let mut container = stored.clone();
            if let Some(news) = &news {
                container.status = news.fold(now, &container.spec, container.status);
            }
            counted = Some(record::counted(&container));
            let Some(token) = fresh_token() else { return Ok(without_random_numbers(now, failed, counted)) };
            let decision = plan(&Moment { now, token }, &container, &self.observed(&container));
            let left = LeftWork::of(&decision);
            trace.decided(decision.because);
            if stop.is_cancelled() && matches!(decision.action, Action::Invoke { .. }) {
                // Nothing is issued any more, perhaps because the claim was lost: who invokes next must find the wish.
                return Ok(Turn { next: Next::Idle, failed, counted, left });
            }
            if let Some(need) = need_of(&decision.action) {
                let waiting = Waiting { need, rank: Rank::of(&container, &decision.action) };
                held = self.permit(waiting, held);
                if held.is_none() {
                    if self.note_waiting(&stored, &container).await? {
                        return Ok(Turn { next: Next::InLine(waiting), failed, counted, left });
                    }
                    continue;
                }
            }
            let Some(step) = self.commit(&stored, &container, decision).await? else { continue };
            news = None;
            match step {
                Step::Done(next) => return Ok(Turn { next, failed, counted, left }),
                Step::Gone => return Ok(Turn { next: Next::Idle, failed, counted: None, left: None }),
                Step::Again => {}
                Step::Act(container, action) if stop.is_cancelled() => {
                    // The intent is committed and due: the next start goes on from here.
                    tracing::debug!(container = %container.id, action = action.name(), "left for the next start");
                    return Ok(Turn { next: Next::Idle, failed, counted, left });
                }
                Step::Act(container, action) => {
                    let result = self.with(held.take()).execute(&container, action).instrument(trace.span()).await;
                    failed |= self.report(&container, &result);
                    news = Some(result);
                }
                Step::Run(container, permit, overdue) => {
                    trace.span().in_scope(|| self.launch(*container, permit));
                    let next = overdue.map_or(Next::Idle, |at| Next::At(at, Priority::Poll));
                    return Ok(Turn { next, failed, counted, left: None });
                }
            }
        }
        let left = Some(LeftWork::later("more steps than one turn takes"));
        Ok(Turn { next: Next::At(self.clock.now(), Priority::Retry), failed, counted, left })
    }

    /// Reads a container. One that cannot be read and is being removed is replaced by what can be, so that its function goes.
    async fn stored(&self, id: &ContainerId) -> Result<Stored, StateError> {
        match self.reader.container(id).await {
            Err(StateError::Unreadable(row)) if row.removed => {
                self.facts.replace_unreadable(id, self.clock.now()).await?;
                Ok(Stored::Replaced)
            }
            Err(StateError::Unreadable(_)) => Ok(Stored::Dead),
            found => Ok(found?.map_or(Stored::Gone, |container| Stored::Here(Box::new(container)))),
        }
    }

    /// A permit for what is needed: the one that is held, or one that nobody stands in line for.
    fn permit(&self, waiting: Waiting, held: Option<Permit>) -> Option<Permit> {
        held.filter(|permit| permit.covers(waiting.need)).or_else(|| self.permits.take_first(&self.cloud, waiting))
    }

    /// The same, with calls by this permit.
    fn with(&self, permit: Option<Permit>) -> Permitted {
        match permit {
            Some(permit) => {
                Permitted { shared: Self { cloud: permit.cloud.clone(), ..self.clone() }, _permit: Some(permit) }
            }
            None => Permitted { shared: self.clone(), _permit: None },
        }
    }

    /// Makes durable what is known of a container that must wait for a quota, without the intent: that it is due, and what
    /// came of the last action. Returns whether it was; otherwise another write came first.
    async fn note_waiting(&self, stored: &Container, container: &Container) -> Result<bool, StateError> {
        let now = self.clock.now();
        let is_due = stored.due_at.is_some_and(|due| due <= now);
        let is_unplanned = stored.spec.generation > stored.status.observed_generation;
        if container.status == stored.status && (is_due || is_unplanned) {
            return Ok(true);
        }
        match self.facts.write(fact_write(stored, &container.status, Some(now), now)).await? {
            Written::Stale | Written::Gone => return Ok(false),
            Written::At(revision) => {
                self.observe_change(&stored.id, &stored.status, &container.status);
                self.after_commit(stored, &container.status, revision).await?;
            }
        }
        Ok(true)
    }

    /// Makes a decision's facts durable. `None`: another write came first.
    async fn commit(
        &self,
        stored: &Container,
        container: &Container,
        decision: Decision,
    ) -> Result<Option<Step>, StateError> {
        let now = self.clock.now();
        let due_at = due_at(&decision, now);
        tracing::debug!(container = %stored.id, action = decision.action.name(), because = decision.because, "planned");
        let write = fact_write(stored, &decision.status, due_at, now);
        if let Action::Invoke { .. } = decision.action {
            return self.commit_issue(container, decision, write).await;
        }
        let is_due = stored.due_at.is_some_and(|due| due <= now);
        let keeps_due = if decision.action.is_wait() { due_at == stored.due_at } else { is_due };
        if decision.status != stored.status || !keeps_due {
            match self.facts.write(write).await? {
                // Gone is found out by reading again, too.
                Written::Stale | Written::Gone => return Ok(None),
                Written::At(revision) => {
                    self.observe_change(&stored.id, &stored.status, &decision.status);
                    self.after_commit(stored, &decision.status, revision).await?;
                }
            }
        }
        let mut container = container.clone();
        container.status = decision.status;
        Ok(Some(match decision.action {
            Action::Wait { until: Some(until) } if until <= now => Step::Again,
            Action::Wait { until } => Step::Done(until.map_or(Next::Idle, |at| Next::At(at, Priority::Poll))),
            Action::AwaitSlot if self.withholds_runs => Step::Done(Next::Idle),
            Action::AwaitSlot => {
                if let Some(next) = self.slots.wait(container.id) {
                    self.kick(next, now, Priority::User).await;
                }
                Step::Done(Next::Idle)
            }
            Action::Forget => {
                self.facts.forget(&container.id).await?;
                // The news of the last commits may come later, when nobody holds the slot any more.
                let kept_until = may_go_on_until(now, &container.spec, &container.status);
                self.leave_slots(&container.id, kept_until).await;
                Step::Gone
            }
            action => Step::Act(Box::new(container), action),
        }))
    }

    /// Commits the intent to invoke, which gives the one permit for it.
    async fn commit_issue(
        &self,
        container: &Container,
        decision: Decision,
        write: crate::state::FactWrite,
    ) -> Result<Option<Step>, StateError> {
        let revision = write.revision.saturating_add(1);
        if self.withholds_runs || !self.slots.take(container.id, revision) {
            return Ok(None);
        }
        let give_back = async || self.go_on(self.slots.settle(&container.id, revision, None)).await;
        let overdue = write.due_at;
        match self.facts.issue(write, container.spec.generation).await {
            Ok(Issue::Granted(permit, _)) => {
                self.note_retest(container);
                let mut container = container.clone();
                container.status = decision.status;
                Ok(Some(Step::Run(Box::new(container), permit, overdue)))
            }
            Ok(Issue::Stale | Issue::Gone) => {
                give_back().await;
                Ok(None)
            }
            Err(error) => {
                give_back().await;
                Err(error)
            }
        }
    }

    /// What else follows from new facts.
    async fn after_commit(&self, stored: &Container, status: &Status, revision: i64) -> Result<(), StateError> {
        self.settle_slot(stored, status, revision).await;
        if let Some(digest) = new_digest(&stored.status, status) {
            self.facts.set_image_digest(&stored.spec.config.image_reference, digest).await?;
        }
        if status.logs_missing && !stored.status.logs_missing {
            self.set_role_logs(&stored.spec.config.function.role_arn, false).await?;
        }
        Ok(())
    }

    /// Whether functions of a role write logs.
    pub(super) async fn set_role_logs(&self, role_arn: &str, logs: bool) -> Result<(), StateError> {
        self.facts.set_role_logs(role_arn, logs).await?;
        let now = self.clock.now();
        let mut knowledge = self.knowledge();
        if logs {
            knowledge.roles_without_logs.remove(role_arn);
        } else if knowledge.roles_without_logs.insert(role_arn.to_owned(), now).is_none() {
            tracing::warn!(role_arn, "an answer came, but no line in the log: the role cannot write logs");
        }
        Ok(())
    }

    /// An Event is invoked although its role was seen not to write logs: it is the one that finds out whether that has
    /// changed. Others wait for what it shows.
    pub(super) fn note_retest(&self, container: &Container) {
        let settings = &container.spec.config.function;
        let now = self.clock.now();
        if settings.invocation == InvocationKind::Event
            && let Some(since) = self.knowledge().roles_without_logs.get_mut(&settings.role_arn)
        {
            *since = now;
        }
    }

    /// Gives the slot back of a run that has ended by this revision, or keeps it while the run may go on all the same.
    pub(super) async fn settle_slot(&self, container: &Container, status: &Status, revision: i64) {
        self.go_on(self.settled_slot(container, status, revision)).await;
    }

    /// The same. Returns the next container that may go on.
    pub(super) fn settled_slot(&self, container: &Container, status: &Status, revision: i64) -> Option<ContainerId> {
        if life::unsettled_run(status).is_some() {
            return None;
        }
        let kept_until = may_go_on_until(self.clock.now(), &container.spec, status);
        // Whatever the log says, an image that does the bootstrap's work itself may go on until its call comes back.
        let is_answered = status.run.as_ref().is_some_and(|run| run.result.is_some());
        let open_until = if is_answered { None } else { self.knowledge().open_until(&container.id) };
        let kept_until = kept_until.max(open_until);
        self.slots.settle(&container.id, revision, kept_until)
    }

    /// A call that has invoked a run of the container has come back: whether its slot is still kept follows from the status.
    pub(super) async fn settle_after_call(&self, id: &ContainerId, was_answered: bool) {
        match self.reader.container(id).await {
            Ok(Some(row)) => self.settle_slot(&row, &row.status, row.revision).await,
            // The program has ended, and there is no row any more that another run could be of.
            Ok(None) if was_answered => self.go_on(self.slots.settle(id, i64::MAX, None)).await,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(container = %id, %error, "a slot is kept until its run has surely ended");
            }
        }
    }

    /// The container is gone; its last run may go on until a time.
    pub(super) async fn leave_slots(&self, id: &ContainerId, kept_until: Option<Timestamp>) {
        self.go_on(self.slots.leave(id, kept_until)).await;
    }

    /// A slot has become free for this one.
    async fn go_on(&self, next: Option<ContainerId>) {
        if let Some(next) = next {
            self.kick(next, self.clock.now(), Priority::User).await;
        }
    }

    /// Says once that an action failed. Returns whether it did.
    pub(super) fn report(&self, container: &Container, news: &News) -> bool {
        self.tally.action(&container.status, news);
        let Some(error) = news.error() else {
            self.note_success();
            return false;
        };
        self.note_failure(error);
        metrics::counter!(telemetry::QUEUE_RETRIES, "name" => "container").increment(1);
        tracing::warn!(
            container = %container.id,
            run = container.status.run.as_ref().map_or(0, |run| run.no),
            action = news.action().name(),
            outcome = news.outcome_name(),
            attempt = container.status.retry.attempts.saturating_add(1),
            aws_request_id = error.request_id.as_deref().unwrap_or_default(),
            %error,
            "an action on AWS failed"
        );
        true
    }
}

/// What an action is carried out with.
struct Permitted {
    shared: Shared,
    /// Kept until the action has been carried out.
    _permit: Option<Permit>,
}

impl Permitted {
    async fn execute(self, container: &Container, action: Action) -> News {
        self.shared.execute(container, action).await
    }
}

/// What the store has of a container.
enum Stored {
    Here(Box<Container>),
    /// There is no row.
    Gone,
    /// Its row cannot be read.
    Dead,
    /// Its row could not be read, and can be now.
    Replaced,
}

/// Without a token nothing can be invoked; the system gives random numbers again, or an operator sees the error.
fn without_random_numbers(now: Timestamp, failed: bool, counted: Option<Counted>) -> Turn {
    tracing::error!("the system gives no random numbers: nothing can be invoked");
    let next = Next::At(now.after(RANDOM_PAUSE), Priority::Retry);
    Turn { next, failed, counted, left: Some(LeftWork::later("the system gives no random numbers")) }
}

/// Nothing is done for a container that cannot be read until it is removed, least of all invoked: what is known of its
/// runs is lost.
fn dead(failed: bool) -> Turn {
    let left = LeftWork { because: "its record cannot be read", withheld: true };
    Turn { next: Next::Idle, failed, counted: Some(record::counted_dead()), left: Some(left) }
}

/// When the container must be looked at again if this process ends now.
pub(super) fn due_at(decision: &Decision, now: Timestamp) -> Option<Timestamp> {
    match &decision.action {
        Action::Wait { until } => *until,
        Action::Invoke { .. } => {
            let issued = decision.status.run.as_ref().and_then(|run| run.issued.as_ref());
            issued.map(|issued| issued.deadline.after(DELIVERY_SLACK))
        }
        _ => Some(now),
    }
}

/// The digest that Lambda has resolved an image to since.
fn new_digest<'a>(before: &Status, after: &'a Status) -> Option<&'a str> {
    let resolved = |status: &'a Status| match &status.function {
        Known::Is(function) => function.resolved_image.as_deref(),
        Known::Absent | Known::Maybe => None,
    };
    let digest = resolved(after)?;
    let known = matches!(&before.function, Known::Is(function) if function.resolved_image.as_deref() == Some(digest));
    (!known).then_some(digest)
}

/// What follows from a committed decision.
enum Step {
    /// Nothing now.
    Done(Next),
    /// The container has no row any more.
    Gone,
    /// Plan again with the new facts.
    Again,
    /// Carry out the action.
    Act(Box<Container>, Action),
    /// Invoke; the run is overdue by then.
    Run(Box<Container>, InvokePermit, Option<Timestamp>),
}
