//! What can go wrong on the way to AWS and in it: rules that pick calls, and conditions that last.
//!
//! The model applies them all, so that a story with faults is as repeatable as one without; those that concern
//! the connection are carried out by the HTTP side, which the model tells in [`crate::model::Transport`].

use serde::{Deserialize, Serialize};

use crate::model::Operation;

/// The most rules that can be set at a time.
pub const MAX_RULES: usize = 1_000;

/// All that goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// For single calls; the first rule that applies to a call decides.
    pub rules: Vec<FaultRule>,
    /// Execution roles (ARNs, or `*` for all) that cannot write logs: nothing of their functions ever appears.
    pub roles_without_logs: Vec<String>,
    /// Log events of the same millisecond come in any order.
    pub reorder_logs: bool,
    /// Added to every delivery of a log line, in milliseconds.
    pub log_delay_ms: i64,
    /// Only for so long after the faults were set, in milliseconds; absent: always.
    pub log_delay_for_ms: Option<i64>,
    /// The probability, 0 to 1, that an Event is delivered twice.
    pub duplicate_events: f64,
    /// The caller has no right to read tags (lambda:ListTags): GetFunction keeps them back.
    pub hidden_tags: Option<HiddenTags>,
}

/// How GetFunction keeps tags back. AWS's documents leave both open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenTags {
    /// As if there were none.
    Silently,
    /// With a TagsError.
    WithAnError,
}

/// Which calls, and what happens to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The operation; absent: every one.
    #[serde(default)]
    pub operation: Option<Operation>,
    /// Only calls that name this function or log group.
    #[serde(default)]
    pub resource: Option<String>,
    /// Only the nth call that the rule fits, counted from 1 when the rule is set.
    #[serde(default)]
    pub nth: Option<u64>,
    /// Only from this call on.
    #[serde(default)]
    pub from: Option<u64>,
    /// Only up to this call, included.
    #[serde(default)]
    pub to: Option<u64>,
    /// The probability, 0 to 1; absent: always.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Only for so long after the rule was set, in milliseconds.
    #[serde(default)]
    pub for_ms: Option<i64>,
    /// What happens.
    pub kind: FaultKind,
}

impl FaultRule {
    /// A rule for every call of an operation.
    #[must_use]
    pub fn every(operation: Operation, kind: FaultKind) -> Self {
        Self {
            operation: Some(operation),
            resource: None,
            nth: None,
            from: None,
            to: None,
            probability: None,
            for_ms: None,
            kind,
        }
    }

    /// A rule for the nth call of an operation, counted from 1.
    #[must_use]
    pub fn nth(operation: Operation, nth: u64, kind: FaultKind) -> Self {
        Self { nth: Some(nth), ..Self::every(operation, kind) }
    }

    /// Whether the rule speaks of such a call at all; such calls are what `nth`, `from` and `to` count.
    pub(crate) fn fits(&self, operation: Operation, resource: Option<&str>) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation)
            && self.resource.as_deref().is_none_or(|wanted| Some(wanted) == resource)
    }

    /// Whether the rule holds for the call with this number, so long after it was set.
    pub(crate) fn holds(&self, number: u64, age_ms: i64) -> bool {
        self.nth.is_none_or(|nth| nth == number)
            && self.from.is_none_or(|from| number >= from)
            && self.to.is_none_or(|to| number <= to)
            && self.for_ms.is_none_or(|limit| age_ms < limit)
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Refused as too many.
    Throttle {
        /// The Retry-After header, in seconds.
        #[serde(default)]
        retry_after_s: Option<u32>,
    },
    /// Refused with a failure of the service itself.
    ServiceError {
        /// 500 or 502.
        status: u16,
    },
    /// Processed, but answered with a failure of the service.
    ServiceErrorAfter {
        /// 500 or 502.
        status: u16,
    },
    /// Refused for want of a permission.
    AccessDenied,
    /// Refused because the role is too new to be assumed (CreateFunction, UpdateFunctionConfiguration).
    RoleNotAssumable,
    /// Refused with this error.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// AWS's code.
        code: String,
        /// A sentence.
        message: String,
    },
    /// An update is taken, and fails when it is carried out: the function is shown with the new settings, and runs with the
    /// old ones (UpdateFunctionCode, UpdateFunctionConfiguration).
    UpdateFails {
        /// LastUpdateStatusReasonCode.
        code: String,
        /// LastUpdateStatusReason.
        message: String,
    },
    /// The connection is reset before the call is processed.
    ResetBefore,
    /// The call is processed, then the connection is reset at once.
    ResetAfter,
    /// The call is processed to its end, then the connection is closed instead of the answer.
    LoseAnswer,
    /// The answer waits.
    Delay {
        /// For so long, in milliseconds.
        ms: u64,
    },
    /// The call is processed; the answer is cut and is no JSON.
    MalformedBody,
    /// A read shows what was so long ago.
    Stale {
        /// In milliseconds.
        ms: i64,
    },
    /// An Event is delivered twice.
    DuplicateDelivery,
    /// The call is carried out twice, as when something on the way repeats it; the answer is the second one's.
    Twice,
    /// A page of FilterLogEvents or GetLogEvents is empty and has a token.
    EmptyPage,
    /// A page of FilterLogEvents or GetLogEvents lacks its events: this reader does not get them.
    MissingEvents,
    /// A page of FilterLogEvents or GetLogEvents has each event twice.
    DoubledEvents,
    /// A page of FilterLogEvents or GetLogEvents has its last event first.
    ReversedEvents,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_as_json() {
        let text = r#"{"rules":[{"operation":"Invoke","nth":2,"kind":{"type":"throttle","retry_after_s":3}},
            {"kind":{"type":"reset_before"}}],"roles_without_logs":["*"]}"#;
        let faults: Faults = serde_json::from_str(text).unwrap();
        assert_eq!(
            faults.rules.first(),
            Some(&FaultRule::nth(Operation::Invoke, 2, FaultKind::Throttle { retry_after_s: Some(3) }))
        );
        assert!(serde_json::from_str::<Faults>(r#"{"rules":[{"kind":{"type":"nonsense"}}]}"#).is_err());
        let again: Faults = serde_json::from_str(&serde_json::to_string(&faults).unwrap()).unwrap();
        assert_eq!(again, faults);
    }

    #[test]
    fn when_a_rule_holds() {
        let rule = FaultRule {
            from: Some(2),
            to: Some(3),
            for_ms: Some(100),
            ..FaultRule::every(Operation::Invoke, FaultKind::AccessDenied)
        };
        assert!(rule.fits(Operation::Invoke, Some("f")));
        assert!(!rule.fits(Operation::GetFunction, Some("f")));
        assert_eq!([1, 2, 3, 4].map(|n| rule.holds(n, 0)), [false, true, true, false]);
        assert!(!rule.holds(2, 100));
    }
}
