//! What must hold after every plan, and in what a disturbed run may differ from the undisturbed one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sockerless_lambda::state::model::{Cause, InvocationKind};
use sockerless_sandbox::faults::FaultKind;
use sockerless_sandbox::model::{Operation, Service};

use super::acts::Users;
use super::end::{End, View};
use super::history::{Ending, RunOf};
use super::invokes::intents;
use super::life::{CLAIMS_GROUP, LOG_GROUP};
use super::points::{Disturbance, Plan, Point};
use super::scenario::{Act, Job, Scenario};
use super::stage::{Broken, Stage};

/// How a run of a scenario went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Played {
    pub(crate) end: End,
    pub(crate) endings: BTreeMap<RunOf, Ending>,
    /// Outcomes that nobody could know, of runs that took place.
    pub(crate) unknown_that_ran: usize,
    /// Outcomes that nobody could know, of runs that never took place.
    pub(crate) unknown_that_never_ran: usize,
    /// Somebody had no right, and the container's end says so.
    pub(crate) refused: usize,
}

/// What a daemon does in the claims group: it makes it, and claims its database there. It makes the functions' group, too.
const CLAIMING: &[Operation] = &[Operation::CreateLogGroup, Operation::CreateLogStream, Operation::DeleteLogStream];

/// What others have, as they made it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign {
    /// By name.
    pub(crate) functions: BTreeMap<String, Value>,
    /// By log group and name.
    pub(crate) streams: BTreeMap<(String, String), Value>,
}

/// All that is needed to judge.
pub(crate) struct Judge<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) users: &'a Users,
    pub(crate) scenario: &'a Scenario,
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) foreign: &'a Foreign,
}

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Judge<'_> {
    /// What must hold of every run.
    pub(crate) fn safety(&self) -> Result<(), Broken> {
        self.nothing_foreign_is_touched()?;
        self.nothing_runs_twice()
    }

    fn nothing_foreign_is_touched(&self) -> Result<(), Broken> {
        let ours = format!("{}-{}-", super::life::PREFIX, self.stage.instance);
        for call in self.stage.around.ledger.journal_from(0).iter().filter(|call| call.operation.mutates()) {
            let resource = call.resource.as_deref().unwrap_or_default();
            let by_whom = || format!("{} of {resource} by a daemon that has lost its claim", call.operation.name());
            // Who is shown an old list finds out by trying.
            let tries = call.operation == Operation::CreateLogStream && self.sees_old_claims();
            ensure(!self.stage.is_disowned(call.life) || tries, by_whom)?;
            let own = match call.operation.service() {
                // Which streams, is told by those that are left.
                Service::Logs if resource == LOG_GROUP => call.operation == Operation::CreateLogGroup,
                Service::Logs => resource == CLAIMS_GROUP && CLAIMING.contains(&call.operation),
                // A name that is taken is found out by trying.
                Service::Lambda if call.operation == Operation::CreateFunction => resource.starts_with(&ours),
                Service::Lambda => resource.starts_with(&ours) && !self.foreign.functions.contains_key(resource),
            };
            ensure(own, || format!("{} of {resource}, which is not ours", call.operation.name()))?;
        }
        let functions = self.stage.functions();
        for (name, settings) in &self.foreign.functions {
            ensure(functions.get(name) == Some(settings), || format!("{name}, which is not ours, is changed or gone"))?;
        }
        for (stream, described) in &self.foreign.streams {
            let left = self.stage.streams(&stream.0).remove(&stream.1);
            ensure(left.as_ref() == Some(described), || {
                format!("the log stream {} in {}, which is not ours, is changed or gone", stream.1, stream.0)
            })?;
        }
        Ok(())
    }

    fn sees_old_claims(&self) -> bool {
        self.plan.is_some_and(|plan| match &plan.disturbance {
            Disturbance::Weather(_) => true,
            Disturbance::Fault(FaultKind::Stale { .. }) => {
                matches!(plan.point, Point::Call(Operation::DescribeLogStreams, _))
            }
            _ => false,
        })
    }

    fn nothing_runs_twice(&self) -> Result<(), Broken> {
        let mut by_token: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for invocation in self.stage.sandbox.state().invocations {
            let known = !self.foreign.functions.contains_key(&invocation.function);
            ensure(known, || format!("{}, which is not ours, is invoked", invocation.function))?;
            let Some(token) = invocation.token else {
                let native =
                    self.users.jobs.values().any(|job| job.native && self.is_of(&invocation.function, job.name));
                ensure(native, || "an invocation without a token".to_owned())?;
                continue;
            };
            by_token.entry(token).or_default().insert(invocation.request_id);
        }
        for (token, taken) in &by_token {
            ensure(taken.len() == 1, || {
                format!("Lambda has taken {} invocations with the token {token}", taken.len())
            })?;
        }
        for (name, starts) in &self.users.starts {
            let taken = self.stage.taken(&self.users.id(name).to_string()).len();
            let a_start = self.users.jobs.get(name).map_or(1, Job::most_runs);
            let wanted = usize::try_from(*starts * a_start).unwrap_or(usize::MAX) + self.reruns(name);
            ensure(taken <= wanted, || {
                format!("{name}: {wanted} runs are wanted, Lambda has taken {taken} invocations")
            })?;
            self.nothing_is_sent_twice(name, wanted)?;
        }
        Ok(())
    }

    /// Whether Lambda has taken an invocation is not for its sender to guess: all that it has not surely refused count.
    fn nothing_is_sent_twice(&self, name: &str, wanted: usize) -> Result<(), Broken> {
        let (invokes, function) = (self.invokes(), self.stage.function_name(&self.users.id(name).to_string()));
        let sent = invokes.may_have_run(&function);
        ensure(sent <= wanted, || {
            format!("{name}: {wanted} runs are wanted, {sent} Invokes were sent that were not surely refused")
        })?;
        let endings = self.stage.endings.so_far();
        let own = endings.iter().filter(|(of, _)| of.name == name).map(|(_, ending)| ending);
        let repeated = invokes.repeated(&function, &intents(own, self.stage.skew_ms));
        ensure(repeated.is_none(), || {
            format!("{name}: {} Invokes for one run, none surely refused", repeated.unwrap_or_default())
        })
    }

    /// How many runs of a container were to be run again because of their unknown outcomes.
    fn reruns(&self, name: &str) -> usize {
        let endings = self.stage.endings.so_far();
        let unknown = endings.iter().filter(|(of, ending)| of.name == name && ending.cause == Cause::Unknown).count();
        if self.users.jobs.get(name).is_some_and(|job| job.rerun) { unknown } else { 0 }
    }

    /// Compares with the undisturbed run.
    pub(crate) fn compare(&self, as_told: &Played, mut now: Played) -> Result<Played, Broken> {
        let mut excused = BTreeSet::new();
        for (run, ending) in &now.endings {
            let (name, told) = (&run.name, as_told.endings.get(run));
            let same = |told: &Ending| (told.code, told.cause) == (ending.code, ending.cause);
            // What is unknown without a disturbance may be known with one, and ran in both.
            let told_unknown = told.is_some_and(|told| told.cause == Cause::Unknown);
            if told_unknown && self.ran(name, ending) || !told_unknown && told.is_some_and(same) {
                continue;
            }
            if told.is_none() && self.may_have_ended(name, ending, as_told) {
                continue;
            }
            excused.insert(name.clone());
            match ending.cause {
                Cause::Unknown => {
                    if self.unknown(run, ending)? {
                        now.unknown_that_ran += 1;
                    } else {
                        now.unknown_that_never_ran += 1;
                    }
                }
                Cause::NeverRan if self.is_forbidden() => now.refused += 1,
                // A start whose answer was lost is wished again, here after its end; nothing ran either time.
                Cause::NeverRan
                    if told.is_none() && as_told.endings.iter().any(|(of, told)| of.name == *name && same(told)) => {}
                // It is run again instead of one that nobody knows the outcome of.
                _ if told.is_none() && self.reruns(name) > 0 && as_told.endings.values().any(same) => {}
                // What the user started again after a refusal is another run.
                _ if self.is_forbidden() && as_told.endings.values().any(same) => {}
                _ => return Err(format!("run {} of {name} ends with {ending:?}, undisturbed with {told:?}", run.no)),
            }
        }
        excused.extend(self.pruned_later(as_told, &now));
        self.same_views(as_told, &now, &excused)?;
        self.same_in_aws(&as_told.end, &now, &excused)?;
        Ok(now)
    }

    /// What had not ended when a user pruned, and had when the user did it again, because the answer was lost.
    fn pruned_later(&self, as_told: &Played, now: &Played) -> Vec<String> {
        let prunes = self.scenario.acts.iter().any(|act| matches!(act, Act::Prune));
        let dies = self.plan.is_some_and(Plan::kills);
        let is_later = |name: &String, view: &View| {
            let told = as_told.end.containers.get(name);
            view.state == "gone" && told.is_some_and(|told| told.state == "exited" && told.exit == view.exit)
        };
        let gone = now.end.containers.iter().filter(|(name, view)| prunes && dies && is_later(name, view));
        gone.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a run that had no end when its container was removed may have had one with the disturbance.
    fn may_have_ended(&self, name: &str, ending: &Ending, as_told: &Played) -> bool {
        removed_early(as_told, name) && matches!(ending.cause, Cause::Exited | Cause::Cancelled)
    }

    fn is_of(&self, function: &str, name: &str) -> bool {
        function.starts_with(&self.stage.function_name(&self.users.id(name).to_string()))
    }

    fn is_event(&self, name: &str) -> bool {
        let rows = &self.stage.rows;
        rows.iter().any(|row| row.name == name && row.spec.config.function.invocation == InvocationKind::Event)
    }

    fn is_forbidden(&self) -> bool {
        matches!(self.plan.map(|plan| &plan.disturbance), Some(Disturbance::Fault(FaultKind::AccessDenied)))
    }

    /// As clients see it. What was excused by its end may have another exit code, and one more start.
    fn same_views(&self, as_told: &Played, now: &Played, excused: &BTreeSet<String>) -> Result<(), Broken> {
        for (name, told) in &as_told.end.containers {
            let view = now.end.containers.get(name);
            let same = view == Some(told);
            // What has ended otherwise may have been pruned.
            let state = view.is_some_and(|view| view.state == told.state || view.state == "gone");
            let failed = self.is_forbidden() && view.is_some_and(|view| view.failure.is_some());
            // Whether something ends before it is removed by force is a matter of time.
            let early = removed_early(as_told, name);
            let excuse = ((excused.contains(name) || early) && state) || failed;
            ensure(same || excuse, || format!("{name} is {view:?}, undisturbed {told:?}"))?;
        }
        ensure(now.end.containers.len() == as_told.end.containers.len(), || "there are other containers".to_owned())?;
        for (name, told) in &as_told.end.events {
            let early = removed_early(as_told, name);
            let plain = |events: &[String]| -> Vec<String> {
                let actions = events.iter().map(|event| event.split(':').next().unwrap_or_default().to_owned());
                actions.filter(|action| !early || !matches!(action.as_str(), "kill" | "die")).collect()
            };
            let events = now.end.events.get(name).map(Vec::as_slice).unwrap_or_default();
            let same = plain(events) == plain(told) || excused.contains(name);
            ensure(same, || format!("{name} has the events {events:?}, undisturbed {told:?}"))?;
        }
        Ok(())
    }

    fn same_in_aws(&self, told: &End, now: &Played, excused: &BTreeSet<String>) -> Result<(), Broken> {
        let failed: Vec<String> = (now.end.containers.iter())
            .filter(|(_, view)| self.is_forbidden() && view.failure.is_some())
            .map(|(name, _)| self.stage.function_name(&self.users.id(name).to_string()))
            .collect();
        let unneeded: Vec<String> = (now.endings.iter())
            .filter(|(_, ending)| ending.cause == Cause::NeverRan)
            .map(|(run, _)| run.name.clone())
            .collect();
        let names: BTreeSet<&String> = told.functions.keys().chain(now.end.functions.keys()).collect();
        for name in names {
            let (told, now) = (told.functions.get(name), now.end.functions.get(name));
            let is_of = |of: &String| self.is_of(name, of);
            // A container that has ended otherwise may have been pruned, or its function was not made ready for events.
            let may_differ = now.is_none() || self.is_forbidden() || self.scenario.logs_withheld;
            let excuse = failed.contains(name) || may_differ && excused.iter().any(is_of);
            // What has ended without a run needs no function until it is started again.
            let excuse = excuse || now.is_none() && unneeded.iter().any(is_of);
            let same = told == now || excuse;
            ensure(same, || format!("the function {name} is {now:?}, undisturbed {told:?}"))?;
        }
        ensure(now.end.claims == told.claims, || format!("{} claims, undisturbed {}", now.end.claims, told.claims))?;
        for (name, told) in &told.taken {
            let taken = now.end.taken.get(name).copied().unwrap_or_default();
            // Whether something runs before it is removed by force is a matter of time.
            let is_gone = now.end.containers.get(name).is_some_and(|view| view.state == "gone");
            // Nobody has learned that the role writes no logs, so an Event was tried.
            let tried = self.scenario.logs_withheld && self.is_event(name);
            let most = *told + self.reruns(name);
            let fits = if excused.contains(name) { taken <= most || tried } else { taken == *told } || is_gone;
            ensure(fits, || format!("{name}: Lambda has taken {taken} invocations, undisturbed {told}"))?;
        }
        Ok(())
    }
}

/// Whether a container was removed before any run of it had ended.
fn removed_early(played: &Played, name: &str) -> bool {
    let is_gone = played.end.containers.get(name).is_some_and(|view| view.state == "gone");
    is_gone && played.endings.keys().all(|of| of.name != name)
}
