//! `/healthz`: the process is alive. `/readyz`: it can do its work, or why not.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use crate::clock::Timestamp;
use crate::health::Health;

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

/// What is wrong, by check.
pub(super) fn problems(health: &Health, now: Timestamp) -> BTreeMap<&'static str, String> {
    health.problems_at(now).into_iter().map(|(check, reason)| (check.as_str(), reason)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Check;

    #[test]
    fn who_is_not_ready_tells_why() {
        let health = Health::default();
        let now = Timestamp::from_secs(1_000);
        assert_eq!(ready_reply(&health, now).status(), 503, "the loop has not begun");
        health.beat(now);
        health.fail(Check::Aws, "no credentials");
        assert_eq!(problems(&health, now), BTreeMap::from([("aws", "no credentials".to_owned())]));
        assert_eq!(ready_reply(&health, now).status(), 503);
        health.pass(Check::Aws);
        assert_eq!(ready_reply(&health, now).status(), 200);
    }
}
