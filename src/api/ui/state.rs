//! What the status page shows, from rows, metrics and health. PURE.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::wire::status_word;
use crate::clock::Timestamp;
use crate::state::model::life::{Life, current_run, life};
use crate::state::model::{Container, RunPhase};
use crate::telemetry as names;

/// Failures that are shown, the latest ones.
const ERRORS: usize = 20;
/// Digits of an id, as Docker shows it.
const SHORT_ID: usize = 12;

/// The answer of `/ui/state`.
pub(super) fn state(
    containers: &[Container],
    metrics: &str,
    problems: BTreeMap<&'static str, String>,
    now: Timestamp,
) -> Value {
    let metrics = Metrics::read(metrics);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": now.to_string(),
        "ready": problems.is_empty(),
        "problems": problems,
        "counts": metrics.by("state", names::CONTAINERS),
        "containers": containers.iter().map(|container| row(container, now)).collect::<Vec<_>>(),
        "runs": {
            "in_flight": metrics.sum(names::RUNS_IN_FLIGHT),
            "by_outcome": metrics.by("outcome", names::RUNS_TOTAL),
            "twice": metrics.sum(names::SECOND_RUNS),
        },
        "queue": {
            "waiting": metrics.sum(names::QUEUE_DEPTH),
            "at_work": metrics.sum(names::ACTIVE_WORKERS),
            "retries": metrics.sum(names::QUEUE_RETRIES),
            "longest_s": metrics.sum(names::QUEUE_LONGEST),
            "oldest_wish_s": metrics.sum(names::OLDEST_WISH),
        },
        "quota": quota(&metrics),
        "throttled": metrics.sum(names::AWS_THROTTLES),
        "drift": {
            "found": metrics.sum(names::DRIFT_FOUND),
            "mended": metrics.sum(names::DRIFT_MENDED),
            "orphans": metrics.sum(names::ORPHANS),
            "orphans_deleted": metrics.sum(names::ORPHANS_DELETED),
            "foreign": metrics.sum(names::FOREIGN_FUNCTIONS),
        },
        "log_lag_s": metrics.sum(names::INFORMER_LAG),
        "errors": errors(containers),
    })
}

fn row(container: &Container, now: Timestamp) -> Value {
    let (spec, status) = (&container.spec, &container.status);
    let life = life(spec, status);
    let (since, exit) = match &life {
        Life::Created => (container.created_at, None),
        Life::Running { since } => (*since, None),
        Life::Restarting(exit) | Life::Exited(exit) => (exit.finished_at, Some(exit)),
    };
    let run = current_run(spec, status);
    json!({
        "id": short(container),
        "name": container.name,
        "image": spec.config.image,
        "state": status_word(&life),
        "for_s": now.since(since).as_secs(),
        "run": run.map_or(0, |run| run.no),
        "phase": run.map(|run| phase(&run.phase)),
        "request_id": run.and_then(|run| run.request_id.as_deref()),
        "exit_code": exit.map(|exit| exit.code),
        "cause": exit.map(|exit| exit.cause),
        "attempts": status.retry.attempts,
    })
}

fn phase(phase: &RunPhase) -> &'static str {
    match phase {
        RunPhase::Refused => "refused",
        RunPhase::Issued => "issued",
        RunPhase::Accepted { .. } => "accepted",
        RunPhase::Running { .. } => "running",
        RunPhase::Exited(_) => "ended",
    }
}

fn short(container: &Container) -> String {
    let mut id = container.id.to_string();
    id.truncate(SHORT_ID);
    id
}

fn errors(containers: &[Container]) -> Vec<Value> {
    let mut failures: Vec<_> =
        containers.iter().filter_map(|container| Some((container, container.status.retry.failure.as_ref()?))).collect();
    failures.sort_by_key(|(_, failure)| std::cmp::Reverse(failure.at));
    failures
        .into_iter()
        .take(ERRORS)
        .map(|(container, failure)| {
            json!({
                "at": failure.at.to_string(),
                "id": short(container),
                "name": container.name,
                "action": failure.action,
                "message": failure.message,
                "request_id": failure.request_id,
                "given_up": failure.terminal_for.is_some(),
            })
        })
        .collect()
}

/// One row a bucket: how many calls it let through, and how long they waited for it.
fn quota(metrics: &Metrics<'_>) -> Vec<Value> {
    let limits = metrics.by("bucket", names::AWS_QUOTA_LIMIT);
    let of = |suffix: &str| metrics.by("bucket", &format!("{}{suffix}", names::AWS_QUOTA_WAIT));
    let (calls, waited) = (of("_count"), of("_sum"));
    limits
        .into_iter()
        .map(|(bucket, limit)| {
            let number = |of: &Map<String, Value>| of.get(&bucket).cloned().unwrap_or(json!(0));
            json!({ "bucket": bucket, "per_second": limit, "calls": number(&calls), "waited_s": number(&waited) })
        })
        .collect()
}

/// Prometheus' text, as this daemon renders it.
struct Metrics<'a> {
    series: Vec<(&'a str, &'a str, f64)>,
}

impl<'a> Metrics<'a> {
    fn read(text: &'a str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let series = samples.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some((name, labels, value.parse().ok()?))
        });
        Self { series: series.collect() }
    }

    fn sum(&self, name: &str) -> f64 {
        // No series is zero, not minus zero.
        self.series.iter().filter(|(series, ..)| *series == name).fold(0.0, |sum, (.., value)| sum + value)
    }

    /// Sums by the value of a label, whose values are words of ours.
    fn by(&self, label: &str, name: &str) -> Map<String, Value> {
        let mut sums = BTreeMap::<&str, f64>::new();
        for (_, labels, value) in self.series.iter().filter(|(series, ..)| *series == name) {
            let begin = format!("{label}=\"");
            if let Some((_, rest)) = labels.split_once(&begin)
                && let Some((word, _)) = rest.split_once('"')
            {
                *sums.entry(word).or_default() += value;
            }
        }
        sums.into_iter().map(|(word, sum)| (word.to_owned(), json!(sum))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::model::samples;
    use crate::state::model::{ContainerId, Failure, FailureKind, InvocationKind, Issued, Run, Spec, Status};

    const METRICS: &str = "# HELP x y\n\
        sockerless_containers{state=\"running\"} 2\n\
        sockerless_runs_total{invocation=\"Event\",outcome=\"success\"} 3\n\
        sockerless_runs_total{invocation=\"RequestResponse\",outcome=\"success\"} 4\n\
        sockerless_aws_quota_calls_per_second{bucket=\"control_plane\"} 12\n\
        sockerless_aws_quota_wait_seconds_count{bucket=\"control_plane\"} 7\n\
        workqueue_depth{name=\"container\"} 5\n";

    fn container() -> Container {
        let mut config = samples::config();
        config.env = vec!["PASSWORD=secret-in-env".to_owned()];
        config.cmd = Some(vec!["secret-in-cmd".to_owned()]);
        config.function.payload = Some("secret-in-payload".to_owned());
        let issued = Issued {
            token: "secret-token".to_owned(),
            kind: InvocationKind::RequestResponse,
            function_name: "f".to_owned(),
            at: Timestamp::from_secs(90),
            deadline: Timestamp::from_secs(900),
        };
        let mut run = Run::new(1, 1, Some(issued), RunPhase::Running { since: Timestamp::from_secs(95) });
        run.result = Some("secret-result".to_owned());
        let failure = Failure {
            kind: FailureKind::Throttled,
            action: "Invoke".to_owned(),
            message: "too many".to_owned(),
            request_id: None,
            at: Timestamp::from_secs(91),
            terminal_for: None,
        };
        let mut status = Status { run: Some(run), ..Status::default() };
        status.retry.failure = Some(failure);
        Container {
            seq: 1,
            id: ContainerId::from_bytes([0xab; 32]),
            name: "job".to_owned(),
            created_at: Timestamp::from_secs(80),
            spec: Spec { starts: 1, ..Spec::new(config) },
            status,
            due_at: None,
            revision: 1,
        }
    }

    #[test]
    fn it_tells_what_goes_on_and_no_secret() {
        let problems = BTreeMap::from([("aws", "no credentials".to_owned())]);
        let seen = state(&[container()], METRICS, problems, Timestamp::from_secs(100));
        assert_eq!(seen["counts"], json!({ "running": 2.0 }));
        assert_eq!(seen["runs"]["by_outcome"], json!({ "success": 7.0 }));
        assert_eq!(seen["queue"]["waiting"], 5.0);
        let quota = json!([{ "bucket": "control_plane", "per_second": 12.0, "calls": 7.0, "waited_s": 0 }]);
        assert_eq!(seen["quota"], quota);
        assert_eq!((&seen["ready"], &seen["problems"]["aws"]), (&json!(false), &json!("no credentials")));
        let row = &seen["containers"][0];
        assert_eq!((&row["id"], &row["state"], &row["for_s"]), (&json!("abababababab"), &json!("running"), &json!(5)));
        assert_eq!((&row["phase"], &row["run"]), (&json!("running"), &json!(1)));
        assert_eq!(seen["errors"][0]["message"], "too many");
        assert!(!seen.to_string().contains("secret"), "{seen}");
    }
}
