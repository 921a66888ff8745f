//! What is still looked for of invocations before the current run. PURE.
//!
//! The log shows lines seconds late. By then a later start may have ended without a run of its own, so that nothing of the
//! current run says where the output of the last invocation is.

use super::plan::{Action, DELIVERY_SLACK, Decision, LOG_PATIENCE, LOG_POLL};
use crate::clock::Timestamp;
use crate::state::model::{LastIssued, Run, RunPhase, Status};

/// Request ids of earlier runs that are remembered.
const MAX_PAST_REQUEST_IDS: usize = 64;

/// Remembers the request id of the current run, which another one follows.
pub(super) fn remember_request_id(status: &mut Status) {
    if let Some(id) = status.run.as_mut().and_then(|run| run.request_id.take()) {
        status.past_request_ids.push(id);
        let surplus = status.past_request_ids.len().saturating_sub(MAX_PAST_REQUEST_IDS);
        status.past_request_ids.drain(..surplus);
    }
}

/// Remembers what the log of the current run is looked for by, before a start that ends without a run takes its place. Without
/// a request id no line could be recognised as the run's.
pub(super) fn remember_invocation(now: Timestamp, status: &mut Status) {
    if let Some(Run { issued: Some(issued), phase: RunPhase::Exited(_), log_closed: false, log_stream: None, .. }) =
        &status.run
        && status.run.as_ref().is_some_and(|run| run.request_id.is_some())
    {
        let (function_name, at) = (issued.function_name.clone(), issued.at);
        status.last_issued = Some(LastIssued { function_name, at, looked_for_until: now.after(LOG_PATIENCE) });
    }
}

/// Gives up on the log of the last invocation when it was read to the end of all patience.
pub(super) fn give_up(read: Timestamp, status: &mut Status) {
    if status.last_issued.as_ref().is_some_and(|last| read >= last.looked_for_until) {
        status.last_issued = None;
    }
}

/// A container that waits for nothing else is looked at again when the log can have been read that far.
pub(super) fn look_again(now: Timestamp, mut decision: Decision) -> Decision {
    if let (Some(last), Action::Wait { until: until @ None }) = (&decision.status.last_issued, &mut decision.action) {
        *until = Some(last.looked_for_until.after(DELIVERY_SLACK).max(now.after(LOG_POLL)));
    }
    decision
}

/// A line of an earlier invocation was seen: of the last one nothing more is looked for, since its stream is known.
pub(super) fn note_line_of(request_id: &str, status: &mut Status) {
    if status.past_request_ids.last().is_some_and(|last| last == request_id) {
        status.last_issued = None;
    }
}
