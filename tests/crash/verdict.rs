//! What must hold after every plan, and in what a disturbed run may differ from the undisturbed one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sockerless_lambda::clock::Timestamp;
use sockerless_lambda::state::model::{Cause, InvocationKind};
use sockerless_sandbox::faults::FaultKind;
use sockerless_sandbox::model::{Operation, Service};

use super::acts::Users;
use super::end::{End, View};
use super::history::Ending;
use super::life::LOG_GROUP;
use super::points::{Disturbance, Plan, Point};
use super::scenario::{Act, Scenario};
use super::stage::{Broken, Stage};

/// How a run of a scenario went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Played {
    pub(crate) end: End,
    pub(crate) endings: BTreeMap<(String, u64), Ending>,
    /// Outcomes that nobody could know, of runs that took place.
    pub(crate) unknown_that_ran: usize,
    /// Outcomes that nobody could know, of runs that never took place.
    pub(crate) unknown_that_never_ran: usize,
    /// Somebody had no right, and the container's end says so.
    pub(crate) refused: usize,
}

/// All that is needed to judge.
pub(crate) struct Judge<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) users: &'a Users,
    pub(crate) scenario: &'a Scenario,
    pub(crate) plan: Option<&'a Plan>,
    /// Functions of others, as they were made.
    pub(crate) foreign: &'a BTreeMap<String, Value>,
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Broken> {
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
                Service::Logs => resource == LOG_GROUP,
                // A name that is taken is found out by trying.
                Service::Lambda if call.operation == Operation::CreateFunction => resource.starts_with(&ours),
                Service::Lambda => resource.starts_with(&ours) && !self.foreign.contains_key(resource),
            };
            ensure(own, || format!("{} of {resource}, which is not ours", call.operation.name()))?;
        }
        let functions = self.stage.functions();
        for (name, settings) in self.foreign {
            ensure(functions.get(name) == Some(settings), || format!("{name}, which is not ours, is changed or gone"))?;
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
            let known = !self.foreign.contains_key(&invocation.function);
            ensure(known, || format!("{}, which is not ours, is invoked", invocation.function))?;
            let token = invocation.token.ok_or("an invocation without a token")?;
            by_token.entry(token).or_default().insert(invocation.request_id);
        }
        for (token, taken) in &by_token {
            ensure(taken.len() == 1, || {
                format!("Lambda has taken {} invocations with the token {token}", taken.len())
            })?;
        }
        for (name, starts) in &self.users.starts {
            let taken = self.stage.taken(&self.users.id(name).to_string()).len();
            let wanted = usize::try_from(*starts).unwrap_or(usize::MAX);
            ensure(taken <= wanted, || {
                format!("{name}: {wanted} runs are wanted, Lambda has taken {taken} invocations")
            })?;
        }
        Ok(())
    }

    /// Compares with the undisturbed run.
    pub(crate) fn compare(&self, as_told: &Played, mut now: Played) -> Result<Played, Broken> {
        let mut excused = BTreeSet::new();
        for ((name, run), ending) in &now.endings {
            let told = as_told.endings.get(&(name.clone(), *run));
            let same = |told: &Ending| (told.code, told.cause) == (ending.code, ending.cause);
            // What is unknown without a disturbance may be known with one, and ran in both.
            let told_unknown = told.is_some_and(|told| told.cause == Cause::Unknown);
            if told_unknown && self.ran(ending) || !told_unknown && told.is_some_and(same) {
                continue;
            }
            if told.is_none() && self.may_have_ended(name, ending, as_told) {
                continue;
            }
            excused.insert(name.clone());
            match ending.cause {
                Cause::Unknown => {
                    if self.unknown(name, *run, ending)? {
                        now.unknown_that_ran += 1;
                    } else {
                        now.unknown_that_never_ran += 1;
                    }
                }
                Cause::NeverRan if self.is_forbidden() => now.refused += 1,
                // A start whose answer was lost is wished again, here after its end; nothing ran either time.
                Cause::NeverRan
                    if told.is_none() && as_told.endings.iter().any(|((of, _), told)| of == name && same(told)) => {}
                // What the user started again after a refusal is another run.
                _ if self.is_forbidden() && as_told.endings.values().any(same) => {}
                _ => return Err(format!("run {run} of {name} ends with {ending:?}, undisturbed with {told:?}")),
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
        let dies = self.plan.is_some_and(|plan| matches!(plan.disturbance, Disturbance::Kill(_)));
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

    fn is_event(&self, name: &str) -> bool {
        let rows = &self.stage.rows;
        rows.iter().any(|row| row.name == name && row.spec.config.function.invocation == InvocationKind::Event)
    }

    fn is_forbidden(&self) -> bool {
        matches!(self.plan.map(|plan| &plan.disturbance), Some(Disturbance::Fault(FaultKind::AccessDenied)))
    }

    /// Whether a run whose outcome is called unknown took place; an error if its outcome could be known.
    fn unknown(&self, name: &str, run: u64, ending: &Ending) -> Result<bool, Broken> {
        let history = &self.stage.history;
        let Some((issued_at, _)) = &ending.issued else {
            return Err(format!("run {run} of {name} was never issued and is called unknown"));
        };
        let struck = self.stage.around.ledger.struck_ms().map(|ms| Timestamp::from_millis(ms + self.stage.skew_ms));
        let within = match (self.plan.map(|plan| &plan.disturbance), &history.open_at_the_cut) {
            (Some(Disturbance::Kill(_)), Some(open)) => open.contains(&(name.to_owned(), run)),
            (Some(Disturbance::Fault(_)), _) => struck.is_some_and(|struck| *issued_at <= struck),
            (Some(Disturbance::Weather(_)), _) => true,
            _ => false,
        };
        // Nobody has ever learned that this role writes no logs, so an Event was tried.
        let within = within || self.scenario.logs_withheld && self.is_event(name);
        ensure(within, || {
            format!("run {run} of {name} is called unknown, and nothing came between its intent and its end")
        })?;
        let ran = self.ran(ending);
        ensure(!ran || self.is_log_withheld(), || {
            format!("run {run} of {name} is called unknown, and the log has its end")
        })?;
        Ok(ran)
    }

    /// Whether Lambda has taken the run.
    fn ran(&self, ending: &Ending) -> bool {
        let Some((_, token)) = &ending.issued else { return false };
        let invocations = self.stage.sandbox.state().invocations;
        invocations.iter().any(|invocation| invocation.token.as_ref() == Some(token))
    }

    fn is_log_withheld(&self) -> bool {
        let too_late = i64::try_from(super::DELIVERY_MS).unwrap_or(i64::MAX);
        let by_plan = |plan: &Plan| match &plan.disturbance {
            Disturbance::Weather(faults) => faults.log_delay_ms > too_late,
            // What lacks in the one look at a log that is hours old is not looked for again.
            Disturbance::Fault(FaultKind::MissingEvents) => plan.scenario == "three-hours-down",
            _ => false,
        };
        self.scenario.logs_withheld || self.plan.is_some_and(by_plan)
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
            .map(|((name, _), _)| name.clone())
            .collect();
        let names: BTreeSet<&String> = told.functions.keys().chain(now.end.functions.keys()).collect();
        for name in names {
            let (told, now) = (told.functions.get(name), now.end.functions.get(name));
            let is_of = |of: &String| name.starts_with(&self.stage.function_name(&self.users.id(of).to_string()));
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
            let fits = if excused.contains(name) { taken <= *told || tried } else { taken == *told } || is_gone;
            ensure(fits, || format!("{name}: Lambda has taken {taken} invocations, undisturbed {told}"))?;
        }
        Ok(())
    }
}

/// Whether a container was removed before any run of it had ended.
fn removed_early(played: &Played, name: &str) -> bool {
    let is_gone = played.end.containers.get(name).is_some_and(|view| view.state == "gone");
    is_gone && played.endings.keys().all(|(of, _)| of != name)
}
