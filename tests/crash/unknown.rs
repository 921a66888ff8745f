//! When may a run be called unknown? Only when its answer was lost and its log does not tell, and each of the two has a
//! cause that belongs to this very run.

use sockerless_lambda::clock::Timestamp;
use sockerless_sandbox::faults::FaultKind;
use sockerless_sandbox::model::InvocationState;
use sockerless_sandbox::model::lambda_api::InvocationType;

use super::history::{Ending, Intent, RunOf};
use super::invokes::{Arrived, Invokes, intents};
use super::points::{Disturbance, Plan};
use super::stage::{Broken, faults};
use super::verdict::{Judge, ensure};

impl Judge<'_> {
    /// The Invokes that have arrived.
    pub(crate) fn invokes(&self) -> Invokes {
        let faults = faults(&self.scenario.faults, self.plan);
        Invokes::of(&self.stage.around.ledger.journal_from(0), &self.stage.sandbox.state().invocations, &faults)
    }

    /// Whether a run whose outcome is called unknown took place; an error if its outcome could be known.
    pub(crate) fn unknown(&self, run: &RunOf, ending: &Ending) -> Result<bool, Broken> {
        let RunOf { name, no, .. } = run;
        let Some(intent) = &ending.issued else {
            return Err(format!("run {no} of {name} was never issued and is called unknown"));
        };
        let ran = self.invocation_of(name, ending);
        let lost = self.was_cut(name, *no) || self.answer_was_lost(name, intent);
        match &ran {
            None => ensure(lost, || {
                format!("run {no} of {name} is called unknown, and nothing came between its intent and its end")
            })?,
            Some(invocation) => {
                let untold = lost || invocation.kind == InvocationType::Event || self.nobody_waited(name, intent);
                ensure(untold, || format!("run {no} of {name} is called unknown, and its answer has come"))?;
                ensure(self.is_log_withheld(invocation), || {
                    format!("run {no} of {name} is called unknown, and the log has its end")
                })?;
            }
        }
        Ok(ran.is_some())
    }

    /// Whether Lambda has taken the run.
    pub(crate) fn ran(&self, name: &str, ending: &Ending) -> bool {
        self.invocation_of(name, ending).is_some()
    }

    fn invocation_of(&self, name: &str, ending: &Ending) -> Option<InvocationState> {
        self.invokes_of(name, ending.issued.as_ref()?).into_iter().find_map(|invoke| invoke.taken)
    }

    /// Whether a kill of the plan came between the run's intent and its recorded end.
    fn was_cut(&self, name: &str, no: u64) -> bool {
        self.stage.history.open_at_a_cut.contains(&(name.to_owned(), no))
    }

    /// Whether something has happened to the run's own Invoke that leaves its sender without knowledge.
    fn answer_was_lost(&self, name: &str, intent: &Intent) -> bool {
        self.invokes_of(name, intent).iter().any(|invoke| invoke.unanswered)
    }

    /// Whether the daemon that had sent the run's Invoke was stopped before the run ended, as the scenario wants it.
    fn nobody_waited(&self, name: &str, intent: &Intent) -> bool {
        self.invokes_of(name, intent).iter().any(|invoke| {
            let end_ms = invoke.taken.as_ref().and_then(|taken| taken.end_ms);
            let stopped_ms = self.stage.stopped_ms.get(&invoke.life);
            stopped_ms.is_some_and(|stopped_ms| end_ms.is_none_or(|end_ms| *stopped_ms <= end_ms))
        })
    }

    /// The Invokes that belong to an intent: a native function's have no token, so all are told apart by time.
    fn invokes_of(&self, name: &str, intent: &Intent) -> Vec<Arrived> {
        let function = self.stage.function_name(&self.users.id(name).to_string());
        let from_ms = by_aws_clock(intent.at, self.stage.skew_ms);
        let endings = self.stage.endings.so_far();
        let issued = intents(endings.iter().filter(|(of, _)| of.name == name).map(|(_, e)| e), self.stage.skew_ms);
        let until_ms = issued.range(from_ms + 1..).next().copied().unwrap_or(i64::MAX);
        self.invokes().of_run(&function, from_ms, until_ms)
    }

    /// Whether the log does not tell in time how a run has ended.
    fn is_log_withheld(&self, run: &InvocationState) -> bool {
        let too_late = i64::try_from(super::DELIVERY_MS).unwrap_or(i64::MAX);
        let struck_ms = self.stage.around.ledger.struck_ms();
        let had_ended = || struck_ms.zip(run.end_ms).is_some_and(|(struck_ms, end_ms)| end_ms <= struck_ms);
        let by_plan = |plan: &Plan| match &plan.disturbance {
            Disturbance::Weather(faults) => faults.log_delay_ms > too_late,
            // What lacks in the one look at a log that is hours old is not looked for again.
            Disturbance::Fault(FaultKind::MissingEvents) => plan.scenario == "three-hours-down" && had_ended(),
            _ => false,
        };
        self.scenario.logs_withheld || self.plan.is_some_and(by_plan)
    }
}

fn by_aws_clock(at: Timestamp, skew_ms: i64) -> i64 {
    at.as_millis() - skew_ms
}
