//! One look, one step: what to do next for one container. PURE, total and deterministic.
//!
//! # Guarantees
//! - An invocation is planned only for a wish that is still wanted, on a function that was seen active, and together with
//!   the facts (`Issued`) that must be committed before it.
//! - No run is issued while an earlier one of the container may go on, whatever its log says ([`super::surely_over`]).
//! - A run that was issued is never issued again, whatever is or is not known of it, unless Lambda surely refused it.
//! - "Don't know" ([`Known::Maybe`]) leads to a look, never to a deletion or an invocation.
//! - The status of the decision is committed before its action: the intent is durable.

use std::time::Duration;

use super::clock_steps::{self, clamp_due};
use super::earlier::{self, remember_request_id};
use super::learn::{CLOCK_SKEW, CREATE_SETTLE, settle, settled_by, was_answered};
use super::schedule::{LONGEST_PAUSE, RERUNS, RESTARTS};
use super::surely_over::may_go_on_until;
use super::verdict::{self, End};
use crate::clock::Timestamp;
use crate::state::model::life::{self, Again, Life};
use crate::state::model::{
    Container, DeletionPolicy, Exit, Function, FunctionState, InvocationKind, Issued, Known, Protocol, Retry, Run,
    RunPhase, Spec, Status,
};

/// An answer to Invoke may come this long after the function's time-out, which counts from the end of the cold start. Before
/// it Lambda loads the image, up to 10 GB, which may take a minute or more after a push; the image's initialisation has ten
/// seconds, and one that fails is done again within the invocation; then the answer of up to 6 MB is on its way.
pub(crate) const ANSWER_SLACK: Duration = Duration::from_secs(120);
/// A run has surely ended this long after its time-out: [`ANSWER_SLACK`], and half a minute in which the call may wait for its
/// turn within the quota.
pub(crate) const RUN_SLACK: Duration = Duration::from_secs(ANSWER_SLACK.as_secs() + 30);
/// Log lines may be so late.
pub(crate) const DELIVERY_SLACK: Duration = Duration::from_secs(120);
/// When an answer came, and the log was read to this long after it without a line of the run, the role cannot write logs.
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// An auto-removed container waits so long for the rest of its log, for those who read it.
pub(crate) const AUTO_REMOVE_PATIENCE: Duration = Duration::from_secs(10);
/// The first look at a function that is being made comes after this time; then after a tenth of its age.
const FIRST_POLL: Duration = Duration::from_millis(250);
/// Looks at a function that is being made are at most so far apart.
const SLOWEST_POLL: Duration = Duration::from_secs(10);
/// A run that is overdue is looked at so often, until the log was read to its deadline.
pub(crate) const EVIDENCE_POLL: Duration = Duration::from_secs(5);
/// A run that has ended is looked at this often while its log is not read to the end of all patience.
pub(super) const LOG_POLL: Duration = Duration::from_secs(60);

/// The time, and the chance that the plan may need.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Now, by our clock.
    pub(crate) now: Timestamp,
    /// A fresh random token for a run, should one be issued.
    pub(crate) token: String,
}

/// What is known beyond the container itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The function's name for the container's current incarnation, and for the next one.
    pub(crate) function_name: String,
    /// The log group was read to here, late lines included.
    pub(crate) read_through: Timestamp,
    /// One more run may be issued.
    pub(crate) slot_free: bool,
    /// When this database was taken into use after it had lost its claim.
    pub(crate) adopted_at: Option<Timestamp>,
    /// Functions of this role were seen not to write logs.
    pub(crate) role_without_logs: bool,
    /// Nothing may be invoked now, whatever is wanted.
    pub(crate) withholds_runs: bool,
    /// The call that invokes a run of the container has not come back yet: its answer may still report the end.
    pub(crate) under_way: bool,
}

/// The next step. Whatever it needs beyond names is derived from the container by the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing before `until`; `None`: nothing until something happens.
    Wait {
        /// When to look again.
        until: Option<Timestamp>,
    },
    /// Nothing until one more run may be issued.
    AwaitSlot,
    /// Look at the function.
    GetFunction {
        /// Its name.
        name: String,
    },
    /// Make the function.
    CreateFunction {
        /// Its name.
        name: String,
    },
    /// No retries by Lambda, and a maximum age for events.
    PutEventInvokeConfig {
        /// The function.
        name: String,
    },
    /// Put the function back as wanted.
    UpdateFunction {
        /// Its name.
        name: String,
        /// The image, and not the other settings.
        code: bool,
    },
    /// Run it. The intent is in the decision's status.
    Invoke {
        /// The run's number.
        run_no: u64,
    },
    /// Delete the function.
    DeleteFunction {
        /// Its name.
        name: String,
    },
    /// Leave the function to its user: take our tag off.
    ReleaseFunction {
        /// Its name.
        name: String,
        /// Its ARN.
        arn: String,
    },
    /// Drop the container's row.
    Forget,
}

impl Action {
    /// Its name in logs, failures and metrics.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Wait { .. } => "Wait",
            Self::AwaitSlot => "AwaitSlot",
            Self::GetFunction { .. } => "GetFunction",
            Self::CreateFunction { .. } => "CreateFunction",
            Self::PutEventInvokeConfig { .. } => "PutFunctionEventInvokeConfig",
            Self::UpdateFunction { .. } => "UpdateFunction",
            Self::Invoke { .. } => "Invoke",
            Self::DeleteFunction { .. } => "DeleteFunction",
            Self::ReleaseFunction { .. } => "UntagResource",
            Self::Forget => "Forget",
        }
    }
}

impl Action {
    /// Whether it only lets time pass.
    #[must_use]
    pub(crate) fn is_wait(&self) -> bool {
        matches!(self, Self::Wait { .. })
    }

    /// The function that the action changes or deletes, and that must be seen to be ours before.
    #[must_use]
    pub(crate) fn changes(&self) -> Option<&str> {
        match self {
            Self::UpdateFunction { name, .. } | Self::DeleteFunction { name } | Self::ReleaseFunction { name, .. } => {
                Some(name)
            }
            Self::GetFunction { .. }
            | Self::CreateFunction { .. }
            | Self::PutEventInvokeConfig { .. }
            | Self::Invoke { .. }
            | Self::Wait { .. }
            | Self::AwaitSlot
            | Self::Forget => None,
        }
    }
}

/// What to do next and why, and the facts to commit before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    /// A sentence for logs and dry runs.
    pub(crate) because: &'static str,
    /// The facts to commit before the action.
    pub(crate) status: Status,
    /// The action.
    pub(crate) action: Action,
    /// What is left to do for the container when the action is a wait.
    pub(crate) left: Left,
}

/// What is left to do for a container that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing: a run goes on by itself, its log is on its way, or somebody must wish something new.
    Nothing,
    /// Something, when the time has come.
    Work,
    /// A run, and invoking is not allowed now.
    Withheld,
}

/// How far a group was surely read. Nobody can have read further than until now: such a time was written before the clock
/// was put back, and would have a run called unknown that has just begun. PURE.
pub(super) fn credible(read_through: Timestamp, now: Timestamp) -> Timestamp {
    read_through.min(now.before(DELIVERY_SLACK))
}

/// The next step for a container.
#[must_use]
pub(crate) fn plan(moment: &Moment, container: &Container, observed: &Observed) -> Decision {
    let mut status = container.status.clone();
    clock_steps::correct(moment.now, LONGEST_PAUSE, &mut status);
    if status.observed_generation != container.spec.generation {
        // Something new is wanted: what failed before is tried again at once, and a final failure is forgiven.
        status.observed_generation = container.spec.generation;
        status.retry.not_before = None;
        status.function_failures.count = 0;
        if status.retry.failure.as_ref().is_some_and(|failure| failure.terminal_for.is_some()) {
            status.retry = Retry { failure: status.retry.failure.take(), ..Retry::default() };
        }
    }
    earlier::give_up(credible(observed.read_through, moment.now), &mut status);
    let planner = Planner { moment, spec: &container.spec, observed };
    earlier::look_again(moment.now, planner.plan(status))
}

struct Planner<'a> {
    moment: &'a Moment,
    spec: &'a Spec,
    observed: &'a Observed,
}

impl Planner<'_> {
    fn plan(&self, mut status: Status) -> Decision {
        let gone = self.spec.remove.is_some() || status.auto_removed.is_some();
        if !gone && let Some(run) = life::unsettled_run(&status) {
            return self.follow(run.clone(), status);
        }
        if gone {
            return self.clean_up(status);
        }
        if let Some(end) = self.end_without_a_run(&status) {
            return self.record_end(status, end);
        }
        if let Some(decision) = self.after_the_end(&status) {
            return decision;
        }
        let wanted = life::is_running(self.spec, &status);
        if !wanted && self.failure_is_final(&status) {
            return rest("the last failure is final until something new is wished", status, None);
        }
        if let Some(until) = self.not_before(&status) {
            return wait("backing off", status, Some(until));
        }
        if status.run.as_ref().is_some_and(|run| run.start != self.spec.starts) {
            (status.restarts, status.reruns) = (0, 0);
        }
        self.ensure_function(status, wanted)
    }

    /// A run was issued and has no end: only evidence, or the lack of it in a log that was read to the end, settles it.
    fn follow(&self, run: Run, mut status: Status) -> Decision {
        let Some(settled_by) = settled_by(&run) else { return rest("the run was never issued", status, None) };
        // An open call ends by itself, by a clock that nobody sets, however far this one says that time has gone.
        let read = credible(self.observed.read_through, self.moment.now);
        if self.observed.under_way || read < settled_by {
            let until = settled_by.after(DELIVERY_SLACK).max(self.moment.now.after(EVIDENCE_POLL));
            let because = match run.report {
                Some(_) => "the run is over, and a line that tells its end may still come",
                None => "the run has no end yet",
            };
            return rest(because, status, Some(until));
        }
        let protocol = self.spec.config.function.protocol;
        let told =
            run.report.as_ref().and_then(|report| Some((verdict::of_report(protocol, &report.status)?, report.at)));
        let Some((end, at)) = told else { return self.give_up(&run, status) };
        if let Some(run) = status.run.as_mut() {
            settle(run, end, None, at);
        }
        record("the log says no more of the run's end than its REPORT", status, self.moment.now)
    }

    /// The log was read to where the run's end must stand, and has none.
    fn give_up(&self, run: &Run, mut status: Status) -> Decision {
        let why = match run.report {
            Some(_) => "the log has no exit line of the bootstrap",
            None => "no answer came, and the log shows no end",
        };
        let issued_at = run.issued.as_ref().map(|issued| issued.at);
        if let Some(run) = status.run.as_mut() {
            settle(run, End::unknown(why, status.reruns), issued_at, self.moment.now);
            run.log_closed = true;
        }
        // A native run that is still going on could be mistaken for the next one: that one gets a new function.
        status.retire |= self.spec.config.function.protocol == Protocol::Native;
        record("nobody can tell any more how the run ended", status, self.moment.now)
    }

    /// The container is to be gone, and everything that is ours in AWS with it.
    fn clean_up(&self, mut status: Status) -> Decision {
        if let Some(until) = status.retry.not_before.filter(|until| *until > self.moment.now) {
            return wait("backing off", status, Some(until));
        }
        match status.function.clone() {
            Known::Absent => act("nothing of it is left in AWS", status, Action::Forget),
            Known::Maybe => self.look(status, "is there a function to delete?"),
            Known::Is(function) if self.spec.config.function.deletion_policy == DeletionPolicy::Retain => {
                let action = Action::ReleaseFunction { name: function.name, arn: function.arn };
                act("the container is removed and its function is kept", status, action)
            }
            Known::Is(function) => {
                status.missing_since = None;
                let action = Action::DeleteFunction { name: function.name };
                act("the container is removed", status, action)
            }
        }
    }

    /// A wanted start that ends without a run of its own.
    fn end_without_a_run(&self, status: &Status) -> Option<Exit> {
        let taken_up = life::current_run(self.spec, status).is_some_and(|run| run.phase != RunPhase::Refused);
        match life::life(self.spec, status) {
            Life::Exited(exit) if !taken_up => Some(exit),
            Life::Running { .. } | Life::Restarting(_) if self.failure_is_final(status) => {
                let failure = status.retry.failure.as_ref();
                Some(self.never_ran(status, failure.map_or("", |failure| failure.message.as_str())))
            }
            Life::Running { .. } | Life::Restarting(_) if self.is_from_before_the_adoption() => {
                let why = "the database was restored after this start was wished: start it again if it is wanted";
                Some(self.never_ran(status, why))
            }
            Life::Running { .. } | Life::Restarting(_) if self.log_would_be_missing() => {
                let why = "Event is refused: functions of this role were seen to write no logs, so the end of the run \
                           could not be observed; give the role logs:CreateLogStream and logs:PutLogEvents, or use \
                           RequestResponse";
                Some(self.never_ran(status, why))
            }
            _ => None,
        }
    }

    /// It will not be run, or not again. An unknown outcome before stays named: the program may have done its work.
    fn never_ran(&self, status: &Status, why: &str) -> Exit {
        let was_run = life::current_run(self.spec, status).is_some_and(|_| status.reruns > 0)
            || life::again(self.spec, status) == Some(Again::Rerun);
        let why = match was_run {
            true => format!("outcome unknown: an earlier run may have done its work; it could not be run again: {why}"),
            false => why.to_owned(),
        };
        End::never_ran(why).at(None, self.moment.now)
    }

    fn failure_is_final(&self, status: &Status) -> bool {
        status.retry.failure.as_ref().is_some_and(|failure| failure.terminal_for == Some(self.spec.generation))
    }

    fn is_from_before_the_adoption(&self) -> bool {
        self.spec.started_at.zip(self.observed.adopted_at).is_some_and(|(started, adopted)| started <= adopted)
    }

    fn log_would_be_missing(&self) -> bool {
        self.observed.role_without_logs && self.spec.config.function.invocation == InvocationKind::Event
    }

    fn record_end(&self, mut status: Status, exit: Exit) -> Decision {
        let no = next_run_no(&status);
        earlier::remember_invocation(self.moment.now, &mut status);
        remember_request_id(&mut status);
        status.busy_until = may_go_on_until(self.moment.now, self.spec, &status);
        status.busy_since = status.busy_until.map(|_| self.moment.now);
        status.run = Some(Run::new(no, self.spec.starts, None, RunPhase::Exited(exit)));
        record("the start ends without a run", status, self.moment.now)
    }

    /// The run has ended: is anything left to do that does not concern the next one?
    fn after_the_end(&self, status: &Status) -> Option<Decision> {
        let Life::Exited(exit) = life::life(self.spec, status) else { return None };
        let run = life::current_run(self.spec, status)?;
        let (now, mut status) = (self.moment.now, status.clone());
        let log_is_waited_for = self.after_end(&exit, AUTO_REMOVE_PATIENCE);
        let log_is_read = run.issued.is_none()
            || run.log_closed
            || run.tail.as_ref().is_some_and(|tail| tail.complete)
            || now >= log_is_waited_for;
        if self.spec.config.auto_remove {
            if !log_is_read {
                return Some(wait("the log is still read", status, Some(log_is_waited_for)));
            }
            status.auto_removed = Some(now);
            status.retry.not_before = None;
            return Some(record("the run has ended and the container removes itself", status, now));
        }
        if run.issued.is_some() && !run.log_closed {
            // What was not read is not missing: the clock alone says nothing.
            if credible(self.observed.read_through, now) < self.after_end(&exit, LOG_PATIENCE) {
                return None;
            }
            let missing = was_answered(run) && run.log_stream.is_none();
            if let Some(run) = status.run.as_mut() {
                run.log_closed = true;
            }
            status.logs_missing = missing;
            return Some(record("the rest of the log is not waited for any longer", status, now));
        }
        None
    }

    /// So long after a run's end, by AWS's clock; now, if it seems to have ended in the future.
    fn after_end(&self, exit: &Exit, pause: Duration) -> Timestamp {
        clamp_due(self.moment.now, exit.finished_at.after(pause), pause + CLOCK_SKEW)
    }

    fn not_before(&self, status: &Status) -> Option<Timestamp> {
        let now = self.moment.now;
        let failed = status.retry.not_before;
        let pause = match life::again(self.spec, status) {
            Some(Again::Restart) => Some(RESTARTS.ceiling(status.restarts.saturating_add(1))),
            Some(Again::Rerun) => Some(RERUNS.ceiling(status.reruns.saturating_add(1))),
            None => None,
        };
        let again = match life::life(self.spec, status) {
            Life::Restarting(exit) => pause.map(|pause| self.after_end(&exit, pause)),
            _ => None,
        };
        failed.max(again).filter(|until| *until > now)
    }

    /// The function as it must be for what is wanted.
    fn ensure_function(&self, status: Status, wanted: bool) -> Decision {
        match status.function.clone() {
            Known::Absent => self.absent(status, wanted),
            Known::Maybe => self.look(status, "is there a function?"),
            Known::Is(function) => self.present(status, function, wanted),
        }
    }

    fn absent(&self, mut status: Status, wanted: bool) -> Decision {
        let never_made = self.spec.starts == 0 && status.create_sent_at.is_none();
        if !wanted && !never_made {
            return self.idle("no run is wanted", status);
        }
        if status.retire {
            // The name is derived by the executor, which knows the prefix: the next look at this container has it.
            status.retire = false;
            status.incarnation = status.incarnation.saturating_add(1);
            return record("the next function gets a new name", status, self.moment.now);
        }
        status.function = Known::Maybe;
        status.create_sent_at = Some(self.moment.now);
        status.function_seen = false;
        status.missing_since = None;
        let action = Action::CreateFunction { name: self.observed.function_name.clone() };
        act("the container has no function", status, action)
    }

    /// Looks at a function of which nobody knows whether it exists. After a first "not found" the second look waits until
    /// a create can no longer be under way.
    fn look(&self, status: Status, because: &'static str) -> Decision {
        let now = self.moment.now;
        if let Some(first) = status.missing_since {
            let settled = status.create_sent_at.map_or(first, |sent| sent.after(CREATE_SETTLE));
            let again_at = settled.max(first.after(FIRST_POLL));
            if now < again_at {
                return wait("a function that is not found may still appear", status, Some(again_at));
            }
        }
        let name = self.observed.function_name.clone();
        act(because, status, Action::GetFunction { name })
    }

    fn present(&self, mut status: Status, function: Function, wanted: bool) -> Decision {
        let name = function.name.clone();
        if status.retire && wanted {
            let action = Action::DeleteFunction { name };
            return act("the run before has an unknown outcome: the next one gets a new function", status, action);
        }
        match function.state {
            FunctionState::Failed { .. } if wanted => {
                let action = Action::DeleteFunction { name };
                act("the function has failed and is made again", status, action)
            }
            FunctionState::Failed { .. } => self.idle("the function has failed", status),
            FunctionState::Pending | FunctionState::Other(_) => self.poll(status, &function),
            FunctionState::Active | FunctionState::Inactive if function.updating => self.poll(status, &function),
            FunctionState::Active | FunctionState::Inactive if !function.drift.is_empty() => {
                let code = function.drift.iter().any(|field| field == super::names::CODE_FIELD);
                status.missing_since = None;
                let action = Action::UpdateFunction { name, code };
                act("the function is not as wanted", status, action)
            }
            FunctionState::Active | FunctionState::Inactive if wanted => self.invoke(status, &function),
            FunctionState::Active | FunctionState::Inactive => self.idle("all is as wanted", status),
        }
    }

    /// Looks again at a function that is being made: soon at first, then in steps of a tenth of its age.
    fn poll(&self, status: Status, function: &Function) -> Decision {
        let age = self.moment.now.since(status.create_sent_at.unwrap_or(function.seen_at));
        let next = function.seen_at.after((age / 10).clamp(FIRST_POLL, SLOWEST_POLL));
        if self.moment.now < next {
            return wait("Lambda is still making the function", status, Some(next));
        }
        let action = Action::GetFunction { name: function.name.clone() };
        act("is the function ready?", status, action)
    }

    fn invoke(&self, mut status: Status, function: &Function) -> Decision {
        let kind = self.spec.config.function.invocation;
        if kind == InvocationKind::Event && !function.event_config {
            let action = Action::PutEventInvokeConfig { name: function.name.clone() };
            return act("Lambda must not retry events by itself", status, action);
        }
        if self.observed.withholds_runs {
            let because = "a run is wanted and its function is ready: nothing is invoked without --start";
            return Decision { left: Left::Withheld, ..act(because, status, Action::AwaitSlot) };
        }
        if self.observed.under_way {
            // A line of the log has ended the run before, perhaps one that its program has written itself.
            let until = self.moment.now.after(EVIDENCE_POLL);
            return wait("the call that invoked the run before has not come back yet", status, Some(until));
        }
        if let Some(until) = may_go_on_until(self.moment.now, self.spec, &status) {
            let because = "the run before may still go on: all that says it has ended can be its program's own words";
            return wait(because, status, Some(until));
        }
        if !self.observed.slot_free {
            return act("as many runs as allowed are under way", status, Action::AwaitSlot);
        }
        match life::again(self.spec, &status) {
            Some(Again::Restart) => status.restarts = status.restarts.saturating_add(1),
            Some(Again::Rerun) => status.reruns = status.reruns.saturating_add(1),
            None => {}
        }
        let run_no = next_run_no(&status);
        remember_request_id(&mut status);
        let issued = self.issue(kind, &function.name);
        (status.busy_until, status.busy_since) = (None, None);
        status.last_issued = None;
        status.run = Some(Run::new(run_no, self.spec.starts, Some(issued), RunPhase::Issued));
        act("a run is wanted and its function is ready", status, Action::Invoke { run_no })
    }

    fn issue(&self, kind: InvocationKind, function_name: &str) -> Issued {
        let settings = &self.spec.config.function;
        let queued = match kind {
            InvocationKind::RequestResponse => 0,
            InvocationKind::Event => settings.event_age_s,
        };
        let most = Duration::from_secs(u64::from(settings.timeout_s) + u64::from(queued));
        Issued {
            token: self.moment.token.clone(),
            kind,
            function_name: function_name.to_owned(),
            at: self.moment.now,
            deadline: self.moment.now.after(most + RUN_SLACK),
        }
    }

    /// Nothing to do, but perhaps a log to give up on later.
    fn idle(&self, because: &'static str, status: Status) -> Decision {
        let until = match status.run.as_ref() {
            Some(Run { phase: RunPhase::Exited(exit), issued: Some(_), log_closed: false, .. }) => {
                let readable = self.after_end(exit, LOG_PATIENCE + DELIVERY_SLACK);
                Some(readable.max(self.moment.now.after(LOG_POLL)))
            }
            _ => None,
        };
        rest(because, status, until)
    }
}

fn act(because: &'static str, status: Status, action: Action) -> Decision {
    Decision { because, status, action, left: Left::Work }
}

/// Until the time has come to go on.
fn wait(because: &'static str, status: Status, until: Option<Timestamp>) -> Decision {
    act(because, status, Action::Wait { until })
}

/// Nothing is left to do, but to look now and then at what goes on by itself.
fn rest(because: &'static str, status: Status, until: Option<Timestamp>) -> Decision {
    Decision { left: Left::Nothing, ..wait(because, status, until) }
}

/// New facts follow from those that are known; then plan again.
fn record(because: &'static str, status: Status, now: Timestamp) -> Decision {
    wait(because, status, Some(now))
}

/// A refused run keeps its number: nothing ran.
fn next_run_no(status: &Status) -> u64 {
    match &status.run {
        Some(run) if run.phase == RunPhase::Refused => run.no,
        Some(run) => run.no.saturating_add(1),
        None => 1,
    }
}
