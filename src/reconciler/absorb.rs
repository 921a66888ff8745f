//! Folding what became of an action into the facts. PURE, and the only place that counts failures.
//!
//! Retry policy lives here and in `plan` and `schedule` alone; it is part of the facts, so it survives a restart.

use std::time::Duration;

use super::plan::Action;
use super::schedule::ACTIONS;
use crate::aws::{AwsError, AwsErrorKind};
use crate::clock::Timestamp;
use crate::state::model::{BoundedWait, Failure, FailureKind, Known, Retry, RunPhase, Status};

/// How long a role may take to become visible to Lambda before that counts as final.
pub(crate) const ROLE_PATIENCE: Duration = Duration::from_secs(120);
/// How long rights, keys and EC2's rate limit may keep a function from being made before that counts as final: a new
/// policy takes a minute or two to become visible, and EC2 throttles in bursts.
pub(crate) const DEPENDENCY_PATIENCE: Duration = Duration::from_secs(300);
/// How long an image may take to become visible after its push before it counts as missing. Short, since a mistyped name
/// is the usual reason, and a client waits.
pub(crate) const IMAGE_PATIENCE: Duration = Duration::from_secs(10);
/// The longest `Retry-After` that is honoured.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It happened.
    Done,
    /// Lambda has the event in its queue.
    Accepted {
        /// Lambda's id of the invocation.
        request_id: Option<String>,
    },
    /// It surely did not happen, and may be tried again.
    Refused(AwsError),
    /// It may have happened.
    Unknown(AwsError),
    /// It surely did not happen, and trying again cannot help.
    Terminal(AwsError),
}

/// What an error means for an action.
#[must_use]
pub(crate) fn outcome_of(action: &Action, error: AwsError) -> Outcome {
    if !error.kind.surely_not_done() {
        return Outcome::Unknown(error);
    }
    let cleans_up =
        matches!(action, Action::DeleteFunction { .. } | Action::ReleaseFunction { .. } | Action::GetFunction { .. });
    match error.kind {
        AwsErrorKind::AccessDenied
        | AwsErrorKind::InvalidParameter
        | AwsErrorKind::TooLarge
        | AwsErrorKind::Refused
            if !cleans_up =>
        {
            Outcome::Terminal(error)
        }
        _ => Outcome::Refused(error),
    }
}

/// The facts after an action. `jitter` is in 0..1.
#[must_use]
pub(crate) fn absorb(now: Timestamp, jitter: f64, mut status: Status, action: &Action, outcome: &Outcome) -> Status {
    if let Action::Invoke { run_no } = action
        && status.run.as_ref().is_none_or(|run| run.no != *run_no)
    {
        // The log was faster, and the next run may be under way: this one's late answer must not be taken for its own.
        return status;
    }
    match outcome {
        Outcome::Done | Outcome::Accepted { .. } => absorb_success(now, &mut status, action, outcome),
        Outcome::Refused(error) => {
            absorb_refusal(&mut status, action, error);
            let patience_is_over = patience_is_over(now, &mut status.retry, error.kind);
            count_failure(now, jitter, &mut status, action, error, patience_is_over);
        }
        Outcome::Terminal(error) => {
            let look_first = error.kind == AwsErrorKind::AccessDenied && !was_denied(&status, action);
            absorb_refusal(&mut status, action, error);
            let look_first = look_first && status.function == Known::Maybe;
            count_failure(now, jitter, &mut status, action, error, !look_first);
        }
        Outcome::Unknown(error) => {
            absorb_unknown(&mut status, action);
            // A run without an answer is not tried again, so there is nothing to count.
            if !matches!(action, Action::Invoke { .. }) {
                count_failure(now, jitter, &mut status, action, error, false);
            }
        }
    }
    status
}

fn absorb_success(now: Timestamp, status: &mut Status, action: &Action, outcome: &Outcome) {
    match action {
        Action::DeleteFunction { .. } | Action::ReleaseFunction { .. } => {
            status.function = Known::Absent;
            status.create_sent_at = None;
            status.missing_since = None;
        }
        Action::PutEventInvokeConfig { .. } => {
            if let Known::Is(function) = &mut status.function {
                function.event_config = true;
            }
        }
        Action::Invoke { .. } => {
            if let (Some(run), Outcome::Accepted { request_id }) = (status.run.as_mut(), outcome)
                && run.phase == RunPhase::Issued
            {
                run.phase = RunPhase::Accepted { at: now };
                run.request_id = run.request_id.take().or_else(|| request_id.clone());
            }
        }
        Action::GetFunction { .. } => {
            // A look that worked says nothing about what failed before, unless it was a look.
            if status.retry.failure.as_ref().is_none_or(|failure| failure.action != action.name()) {
                return;
            }
        }
        Action::CreateFunction { .. }
        | Action::UpdateFunction { .. }
        | Action::Wait { .. }
        | Action::AwaitSlot
        | Action::Forget => {}
    }
    status.retry = Retry::default();
}

/// Whether the same action was denied just before.
fn was_denied(status: &Status, action: &Action) -> bool {
    let failure = status.retry.failure.as_ref();
    failure.is_some_and(|failure| failure.kind == FailureKind::AccessDenied && failure.action == action.name())
}

/// Whether a refusal may mean that the function is not there, or not as we know it. A right that is limited to functions
/// with our tags is denied for a function that is gone: it has no tags.
fn doubts_the_function(kind: AwsErrorKind) -> bool {
    matches!(kind, AwsErrorKind::NotFound | AwsErrorKind::Conflict | AwsErrorKind::AccessDenied)
}

/// It surely did not happen.
fn absorb_refusal(status: &mut Status, action: &Action, error: &AwsError) {
    match action {
        Action::CreateFunction { .. } if error.kind == AwsErrorKind::Conflict => {
            // It exists: an earlier create of ours, or somebody else's. A look will tell.
            status.function = Known::Maybe;
        }
        Action::CreateFunction { .. } => {
            status.function = Known::Absent;
            status.create_sent_at = None;
        }
        Action::Invoke { .. } => {
            if let Some(run) = status.run.as_mut().filter(|run| run.phase == RunPhase::Issued) {
                run.phase = RunPhase::Refused;
            }
            if doubts_the_function(error.kind) {
                status.function = Known::Maybe;
            }
        }
        Action::DeleteFunction { .. }
        | Action::ReleaseFunction { .. }
        | Action::UpdateFunction { .. }
        | Action::PutEventInvokeConfig { .. }
            if doubts_the_function(error.kind) =>
        {
            status.function = Known::Maybe;
        }
        _ => {}
    }
}

/// It may have happened: nothing is known of the function any more, and nothing new of a run.
fn absorb_unknown(status: &mut Status, action: &Action) {
    match action {
        Action::CreateFunction { .. } | Action::UpdateFunction { .. } | Action::DeleteFunction { .. } => {
            status.function = Known::Maybe;
        }
        Action::ReleaseFunction { .. }
        | Action::GetFunction { .. }
        | Action::PutEventInvokeConfig { .. }
        | Action::Invoke { .. }
        | Action::Wait { .. }
        | Action::AwaitSlot
        | Action::Forget => {}
    }
}

/// How long a kind of failure is borne before it counts as final; `None`: for ever.
fn patience(kind: AwsErrorKind) -> Option<Duration> {
    match kind {
        AwsErrorKind::RoleNotReady => Some(ROLE_PATIENCE),
        AwsErrorKind::DependencyNotReady => Some(DEPENDENCY_PATIENCE),
        AwsErrorKind::ImageNotFound => Some(IMAGE_PATIENCE),
        _ => None,
    }
}

/// Whether a failure says nothing about the condition that is waited for: the call did not come that far.
fn is_beside_the_point(kind: AwsErrorKind) -> bool {
    matches!(
        kind,
        AwsErrorKind::Throttled
            | AwsErrorKind::Credentials
            | AwsErrorKind::Unreachable
            | AwsErrorKind::ServiceError
            | AwsErrorKind::NoAnswer
            | AwsErrorKind::Malformed
    )
}

/// Counts the time since a condition of bounded patience was met first. An unrelated failure before does not count.
fn patience_is_over(now: Timestamp, retry: &mut Retry, kind: AwsErrorKind) -> bool {
    let Some(patience) = patience(kind) else {
        retry.bounded = retry.bounded.take().filter(|_| is_beside_the_point(kind));
        return false;
    };
    let kind = kind_of(kind);
    let met_before = retry.bounded.take().filter(|bounded| bounded.kind == kind);
    let bounded = met_before.unwrap_or(BoundedWait { kind, since: now });
    let is_over = now.since(bounded.since) >= patience;
    retry.bounded = Some(bounded);
    is_over
}

fn count_failure(now: Timestamp, jitter: f64, status: &mut Status, action: &Action, error: &AwsError, terminal: bool) {
    let kind = kind_of(error.kind);
    let retry = &mut status.retry;
    if retry.failure.as_ref().is_none_or(|failure| failure.kind != kind || failure.action != action.name()) {
        (retry.attempts, retry.since) = (0, None);
    }
    retry.attempts = retry.attempts.saturating_add(1);
    retry.failures = retry.failures.saturating_add(1);
    retry.since.get_or_insert(now);
    let asked = error.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    retry.not_before = (!terminal).then(|| now.after(ACTIONS.delay(retry.failures, jitter).max(asked)));
    retry.failure = Some(Failure {
        kind,
        action: action.name().to_owned(),
        message: message(error),
        request_id: error.request_id.clone(),
        at: now,
        terminal_for: terminal.then_some(status.observed_generation),
    });
}

/// AWS's words with their context; a missing image is named first, in Docker's words.
fn message(error: &AwsError) -> String {
    let image = || error.message.split_once("Source image ")?.1.split_once(" does not exist").map(|(image, _)| image);
    match image().filter(|_| error.kind == AwsErrorKind::ImageNotFound) {
        Some(image) => format!("No such image: {image}: {error}"),
        None => error.to_string(),
    }
}

fn kind_of(kind: AwsErrorKind) -> FailureKind {
    match kind {
        AwsErrorKind::NotFound => FailureKind::NotFound,
        AwsErrorKind::Conflict => FailureKind::Conflict,
        AwsErrorKind::Throttled => FailureKind::Throttled,
        AwsErrorKind::AccessDenied => FailureKind::AccessDenied,
        AwsErrorKind::InvalidParameter => FailureKind::InvalidParameter,
        AwsErrorKind::RoleNotReady => FailureKind::RoleNotReady,
        AwsErrorKind::DependencyNotReady => FailureKind::DependencyNotReady,
        AwsErrorKind::ImageNotFound => FailureKind::ImageNotFound,
        AwsErrorKind::Refused => FailureKind::Refused,
        AwsErrorKind::TooLarge => FailureKind::TooLarge,
        AwsErrorKind::Credentials | AwsErrorKind::Unreachable => FailureKind::Unreachable,
        AwsErrorKind::EnvironmentNotReady | AwsErrorKind::ServiceError => FailureKind::ServiceError,
        AwsErrorKind::NoAnswer | AwsErrorKind::Malformed => FailureKind::NoAnswer,
    }
}
