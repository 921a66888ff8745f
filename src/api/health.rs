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
    let (status, word) = match (health.problems_at(now).is_empty(), health.degraded().is_empty()) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    reply::json(status, &json!({ "status": word, "problems": problems(health, now) }))
}

/// What is wrong, by check: what fails, and what is degraded.
pub(super) fn problems(health: &Health, now: Timestamp) -> BTreeMap<&'static str, String> {
    let all = health.degraded().into_iter().chain(health.problems_at(now));
    all.map(|(check, reason)| (check.as_str(), reason)).collect()
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

    #[test]
    fn readyz_degraded_answers_200_with_the_reason() {
        let health = Health::default();
        let now = Timestamp::from_secs(1_000);
        health.beat(now);
        health.degrade(Check::Rows, "1 row");
        assert_eq!(ready_reply(&health, now).status(), 200);
        assert_eq!(problems(&health, now), BTreeMap::from([("rows", "1 row".to_owned())]));
        health.fail(Check::Aws, "no credentials");
        assert_eq!(ready_reply(&health, now).status(), 503);
        assert_eq!(problems(&health, now).len(), 2);
        health.pass(Check::Aws);
        health.recover(Check::Rows);
        assert!(problems(&health, now).is_empty());
    }
}
