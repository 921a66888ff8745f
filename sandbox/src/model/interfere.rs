//! Applies the fault rules to a call.

use super::api::{ApiError, Operation, Transport};
use super::rng::Rng;
use crate::faults::{FaultKind, Faults};
use crate::settings::StateReason;

/// What the faults do to a call that is processed.
#[derive(Clone, Debug)]
pub(super) struct Interference {
    pub(super) transport: Transport,
    pub(super) error_after: Option<ApiError>,
    pub(super) stale_ms: i64,
    pub(super) duplicate: bool,
    pub(super) twice: bool,
    pub(super) page: Page,
    /// Why the update that is asked for fails.
    pub(super) update_fails: Option<StateReason>,
}

/// What becomes of a page of log events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// It is as it should be.
    Whole,
    /// It is empty, and the next one begins where it does.
    Postponed,
    /// Its events are left out, and the next one goes on after them.
    Missing,
    /// Each event stands there twice.
    Doubled,
    /// The last event comes first.
    Reversed,
}

impl Page {
    /// Does it to the events that were found.
    pub(super) fn spoil<T: Clone>(self, events: &mut Vec<T>) {
        match self {
            Self::Whole => {}
            Self::Postponed | Self::Missing => events.clear(),
            Self::Doubled => *events = events.iter().flat_map(|event| [event.clone(), event.clone()]).collect(),
            Self::Reversed => events.reverse(),
        }
    }
}

pub(super) const NONE: Interference = Interference {
    transport: Transport::Whole,
    error_after: None,
    stale_ms: 0,
    duplicate: false,
    twice: false,
    page: Page::Whole,
    update_fails: None,
};

/// What the faults do to a call.
pub(super) enum Verdict {
    /// It is refused and not processed.
    Refuse(ApiError),
    /// It does not arrive.
    Drop,
    /// It is processed.
    Process(Interference),
}

/// The faults in force, with the number of calls that each rule fitted.
#[derive(Clone, Debug)]
pub(super) struct Active {
    faults: Faults,
    counts: Vec<u64>,
    since: Option<i64>,
}

impl Active {
    /// Faults that are set at a time; 0: at the first call.
    pub(super) fn new(faults: Faults, now: i64) -> Self {
        let counts = vec![0; faults.rules.len()];
        Self { faults, counts, since: (now > 0).then_some(now) }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What is added to the delivery of a log line that is written now.
    pub(super) fn log_delay_ms(&mut self, now: i64) -> i64 {
        let age = now.saturating_sub(*self.since.get_or_insert(now));
        let holds = self.faults.log_delay_for_ms.is_none_or(|limit| age < limit);
        if holds { self.faults.log_delay_ms.max(0) } else { 0 }
    }

    /// Counts the call for every rule that fits it; the first that holds decides.
    pub(super) fn judge(&mut self, now: i64, operation: Operation, resource: Option<&str>, rng: &mut Rng) -> Verdict {
        let age = now.saturating_sub(*self.since.get_or_insert(now));
        let mut chosen: Option<&FaultKind> = None;
        for (rule, count) in self.faults.rules.iter().zip(&mut self.counts) {
            if !rule.fits(operation, resource) {
                continue;
            }
            *count += 1;
            if chosen.is_none() && rule.holds(*count, age) && rule.probability.is_none_or(|p| rng.chance(p)) {
                chosen = Some(&rule.kind);
            }
        }
        let mut verdict = chosen.map_or(Verdict::Process(NONE), |kind| apply(kind, operation));
        let duplicates = self.faults.duplicate_events;
        if let (Verdict::Process(interference), Operation::Invoke, true) = (&mut verdict, operation, duplicates > 0.0) {
            interference.duplicate |= rng.chance(duplicates);
        }
        verdict
    }
}

fn apply(kind: &FaultKind, operation: Operation) -> Verdict {
    let service = operation.service();
    let page = |page| Verdict::Process(Interference { page, ..NONE });
    let transport = |transport| Verdict::Process(Interference { transport, ..NONE });
    match kind {
        FaultKind::Throttle { retry_after_s } => Verdict::Refuse(ApiError::throttled(service, *retry_after_s)),
        FaultKind::ServiceError { status } => Verdict::Refuse(ApiError::service_failure(service, *status)),
        FaultKind::ServiceErrorAfter { status } => {
            let error_after = Some(ApiError::service_failure(service, *status));
            Verdict::Process(Interference { error_after, ..NONE })
        }
        FaultKind::AccessDenied => Verdict::Refuse(ApiError::access_denied(operation)),
        FaultKind::RoleNotAssumable => Verdict::Refuse(ApiError::invalid_parameter(
            "The role defined for the function cannot be assumed by Lambda.",
        )),
        FaultKind::Refuse { status, code, message } => Verdict::Refuse(ApiError::new(*status, code, message.as_str())),
        FaultKind::UpdateFails { code, message } => {
            let update_fails = Some(StateReason { code: code.clone(), message: message.clone() });
            Verdict::Process(Interference { update_fails, ..NONE })
        }
        FaultKind::ResetBefore => Verdict::Drop,
        FaultKind::ResetAfter => transport(Transport::Reset),
        FaultKind::LoseAnswer => transport(Transport::Lost),
        FaultKind::Delay { ms } => transport(Transport::Late(*ms)),
        FaultKind::MalformedBody => transport(Transport::Malformed),
        FaultKind::Stale { ms } => Verdict::Process(Interference { stale_ms: (*ms).max(0), ..NONE }),
        FaultKind::DuplicateDelivery => Verdict::Process(Interference { duplicate: true, ..NONE }),
        FaultKind::Twice => Verdict::Process(Interference { twice: true, ..NONE }),
        FaultKind::EmptyPage => page(Page::Postponed),
        FaultKind::MissingEvents => page(Page::Missing),
        FaultKind::DoubledEvents => page(Page::Doubled),
        FaultKind::ReversedEvents => page(Page::Reversed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FaultRule;

    #[test]
    fn the_first_rule_that_holds_decides_and_all_count() {
        let rules = vec![
            FaultRule::nth(Operation::Invoke, 2, FaultKind::AccessDenied),
            FaultRule { to: Some(2), ..FaultRule::every(Operation::Invoke, FaultKind::ResetBefore) },
        ];
        let mut active = Active::new(Faults { rules, ..Faults::default() }, 0);
        let mut rng = Rng::new(1);
        let mut judge = |operation| match active.judge(5, operation, None, &mut rng) {
            Verdict::Refuse(error) => error.code,
            Verdict::Drop => "dropped".to_owned(),
            Verdict::Process(_) => "processed".to_owned(),
        };
        assert_eq!(judge(Operation::GetFunction), "processed");
        assert_eq!(judge(Operation::Invoke), "dropped");
        assert_eq!(judge(Operation::Invoke), "AccessDeniedException");
        assert_eq!(judge(Operation::Invoke), "processed");
    }
}
