//! The Invokes as AWS saw them come, also those that it never took: what a daemon must not repeat is not what Lambda has
//! run, but what it may have run for all that the daemon was told.

use std::collections::{BTreeMap, BTreeSet};

use sockerless_sandbox::faults::{FaultKind, FaultRule, Faults};
use sockerless_sandbox::model::{InvocationState, Operation};

use super::history::{Ending, Intent};
use super::ledger::Entry;

/// An answer that is later than this is not waited for, by any run of the scenarios.
const WAITED_FOR_MS: u64 = 600_000;

/// An Invoke that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) at_ms: i64,
    /// The life that sent it.
    pub(crate) life: u32,
    pub(crate) function: String,
    /// What Lambda has made of it, if it has taken it.
    pub(crate) taken: Option<InvocationState>,
    /// The daemon got no answer, or one that proves nothing.
    pub(crate) unanswered: bool,
}

impl Arrived {
    /// Whether it may have run, for all that the daemon was told. All others were refused in so many words.
    fn may_have_run(&self) -> bool {
        self.taken.is_some() || self.unanswered
    }
}

/// All of them, in the order in which they came.
pub(crate) struct Invokes(Vec<Arrived>);

impl Invokes {
    /// What the journal has of them, in an AWS with these faults.
    pub(crate) fn of(journal: &[Entry], taken: &[InvocationState], faults: &Faults) -> Self {
        let begin_ms = journal.first().map_or(0, |call| call.at_ms);
        let invokes = journal.iter().filter(|call| call.operation == Operation::Invoke).zip(1..);
        let arrived = invokes.map(|(call, nth)| {
            let taken = taken.iter().find(|invocation| invocation.request_id == call.request_id).cloned();
            let fault = fault_of(faults, nth, call.at_ms - begin_ms);
            // What Lambda refuses it refuses before it can fail: the daemon was told.
            let told = taken.is_none() && matches!(fault, Some(FaultKind::ServiceErrorAfter { .. }));
            Arrived {
                at_ms: call.at_ms,
                life: call.life,
                function: call.resource.clone().unwrap_or_default(),
                taken,
                unanswered: !told && fault.is_some_and(hides_the_answer),
            }
        });
        Self(arrived.collect())
    }

    /// Those of a container's functions that may have run.
    pub(crate) fn may_have_run(&self, function: &str) -> usize {
        self.0.iter().filter(|invoke| invoke.function.starts_with(function) && invoke.may_have_run()).count()
    }

    /// More than one for one run, with the number: each belongs to the last intent before it.
    pub(crate) fn repeated(&self, function: &str, intents: &BTreeSet<i64>) -> Option<usize> {
        let mut runs: BTreeMap<Option<i64>, usize> = BTreeMap::new();
        for invoke in self.0.iter().filter(|invoke| invoke.function.starts_with(function) && invoke.may_have_run()) {
            let intent = intents.range(..=invoke.at_ms).next_back().copied();
            *runs.entry(intent).or_default() += 1;
        }
        // Of what has no intent here no end is known either: it is counted with its container.
        runs.into_iter().find(|(intent, count)| intent.is_some() && *count > 1).map(|(_, count)| count)
    }

    /// Those of a run that was issued then; `until_ms`: when its container's next one was.
    pub(crate) fn of_run(self, function: &str, from_ms: i64, until_ms: i64) -> Vec<Arrived> {
        let of =
            |invoke: &Arrived| invoke.function.starts_with(function) && (from_ms..until_ms).contains(&invoke.at_ms);
        self.0.into_iter().filter(of).collect()
    }
}

/// What happens to the nth Invoke, at an age of the faults.
fn fault_of(faults: &Faults, nth: u64, age_ms: i64) -> Option<&FaultKind> {
    let fits = |rule: &&FaultRule| {
        rule.operation.is_none_or(|operation| operation == Operation::Invoke)
            && rule.nth.is_none_or(|wanted| wanted == nth)
            && rule.for_ms.is_none_or(|limit| age_ms < limit)
    };
    faults.rules.iter().find(fits).map(|rule| &rule.kind)
}

/// Whether a daemon cannot know what has become of an Invoke that this happens to.
fn hides_the_answer(kind: &FaultKind) -> bool {
    match kind {
        FaultKind::ServiceError { .. }
        | FaultKind::ServiceErrorAfter { .. }
        | FaultKind::ResetBefore
        | FaultKind::ResetAfter
        | FaultKind::LoseAnswer
        | FaultKind::MalformedBody => true,
        FaultKind::Delay { ms } => *ms > WAITED_FOR_MS,
        _ => false,
    }
}

/// When the runs of a container were issued, by AWS's clock.
pub(crate) fn intents<'a>(endings: impl Iterator<Item = &'a Ending>, skew_ms: i64) -> BTreeSet<i64> {
    endings.filter_map(|ending| ending.issued.as_ref()).map(|Intent { at, .. }| at.as_millis() - skew_ms).collect()
}
