//! `/healthz`: the process is alive. `/readyz`: it can do its work, or why not.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::limits;
use super::reply::{self, Reply};
use crate::clock::Timestamp;
use crate::health::{Check, Health};

/// The process answers.
pub(super) async fn alive(_call: Call) -> Result<Reply, ApiError> {
    Ok(alive_reply())
}

/// Whether the daemon can do its work.
pub(super) async fn ready(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    Ok(ready_reply(&api.health, api.clock.now()))
}

/// The answer of `/healthz`.
pub(super) fn alive_reply() -> Reply {
    reply::ok(&json!({ "status": "alive" }))
}

/// The answer of `/readyz`.
pub(super) fn ready_reply(health: &Health, now: Timestamp) -> Reply {
    let problems = problems(health, now);
    let (status, word) = match problems.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    reply::json(status, &json!({ "status": word, "problems": problems }))
}

/// What is wrong, by check. A reconcile loop without a sign of life is a problem that it cannot report itself.
pub(super) fn problems(health: &Health, now: Timestamp) -> BTreeMap<&'static str, String> {
    let mut problems: BTreeMap<&'static str, String> =
        health.problems().into_iter().map(|(check, reason)| (check.as_str(), reason)).collect();
    let silent = now.since(health.last_beat());
    if silent > limits::STALL_LIMIT {
        let reason = match health.last_beat() == Timestamp::default() {
            true => "the reconcile loop has not begun".to_owned(),
            false => format!("the reconcile loop has given no sign of life for {} s", silent.as_secs()),
        };
        problems.entry(Check::Reconciler.as_str()).or_insert(reason);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_loop_is_a_problem() {
        let health = Health::default();
        let now = Timestamp::from_secs(1_000);
        assert_eq!(problems(&health, now)["reconciler"], "the reconcile loop has not begun");
        health.beat(now);
        assert!(problems(&health, now.after(limits::STALL_LIMIT)).is_empty());
        let later = Timestamp::from_secs(1_061);
        assert_eq!(problems(&health, later)["reconciler"], "the reconcile loop has given no sign of life for 61 s");
        health.fail(Check::Aws, "no credentials");
        assert_eq!(problems(&health, now), BTreeMap::from([("aws", "no credentials".to_owned())]));
        assert_eq!(ready_reply(&health, now).status(), 503);
        health.pass(Check::Aws);
        assert_eq!(ready_reply(&health, now).status(), 200);
    }
}
