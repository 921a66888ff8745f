//! Tracing and metrics. Every metric name stands here once, with its help text.

/// A metric: its name and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name that Prometheus sees.
    pub name: &'static str,
    /// The help text, with the labels.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
}

/// Prometheus' kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

macro_rules! metrics_table {
    ($($constant:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric of the daemon.
        pub const METRICS: &[Metric] =
            &[$(Metric { name: $name, help: $help, kind: MetricKind::$kind }),*];
    };
}

metrics_table! {
    RECONCILE_TOTAL, Counter, "controller_runtime_reconcile_total", "Reconciles of one container, by controller and result (success, requeue, requeue_after, error).";
    RECONCILE_ERRORS, Counter, "controller_runtime_reconcile_errors_total", "Reconciles that ended in an error, by controller.";
    RECONCILE_SECONDS, Histogram, "controller_runtime_reconcile_time_seconds", "Time of one reconcile, by controller.";
    ACTIVE_WORKERS, Gauge, "controller_runtime_active_workers", "Reconciles under way, by controller.";
    QUEUE_DEPTH, Gauge, "workqueue_depth", "Containers that wait for a reconcile now, by name.";
    QUEUE_ADDS, Counter, "workqueue_adds_total", "Containers put into the queue, by name.";
    QUEUE_SECONDS, Histogram, "workqueue_queue_duration_seconds", "Time a container waited in the queue after it was due, by name.";
    QUEUE_RETRIES, Counter, "workqueue_retries_total", "Actions that are tried again after a failure, by name.";
    AWS_REQUESTS, Counter, "sockerless_aws_requests_total", "Calls of AWS, by service, operation and code (OK, or AWS's error code).";
    AWS_SECONDS, Histogram, "sockerless_aws_request_seconds", "Time of a call of AWS, by service and operation.";
    AWS_THROTTLES, Counter, "sockerless_aws_throttles_total", "Calls that AWS refused as too many, by service and operation.";
    AWS_QUOTA_WAIT, Histogram, "sockerless_aws_quota_wait_seconds", "Time a call waited for our own share of a quota, by bucket.";
    RUNS_TOTAL, Counter, "sockerless_runs_total", "Runs that have ended, by invocation (RequestResponse, Event) and outcome.";
    RUNS_IN_FLIGHT, Gauge, "sockerless_runs_in_flight", "Runs that were issued and have no end yet.";
    UNKNOWN_OUTCOMES, Counter, "sockerless_unknown_outcomes_total", "Runs of which nobody can tell how they ended.";
    SECOND_RUNS, Counter, "sockerless_second_runs_total", "Runs that Lambda was seen to run once more.";
    CONTAINERS, Gauge, "sockerless_containers", "Containers by state (created, running, restarting, exited, removing).";
    DRIFT_FOUND, Counter, "sockerless_drift_found_total", "Functions found changed or missing, by kind (changed, missing).";
    DRIFT_MENDED, Counter, "sockerless_drift_mended_total", "Functions put back as wanted, by kind (changed, missing).";
    ORPHANS, Gauge, "sockerless_orphans", "Functions of this instance without a container, seen by the last sweep.";
    ORPHANS_DELETED, Counter, "sockerless_orphans_deleted_total", "Orphaned functions that were deleted.";
    FOREIGN_FUNCTIONS, Gauge, "sockerless_foreign_functions", "Functions with our prefix that belong to other instances, seen by the last sweep.";
    CREATE_TO_ACTIVE, Histogram, "sockerless_function_create_to_active_seconds", "Time from CreateFunction to Active.";
    INFORMER_LAG, Gauge, "sockerless_informer_lag_seconds", "How far the reading of the logs is behind.";
    STORE_COMMIT_SECONDS, Histogram, "sockerless_store_commit_seconds", "Time of one commit of the store.";
    STORE_BATCH_SIZE, Histogram, "sockerless_store_batch_size", "Writes that one commit carried.";
    HTTP_REQUESTS, Counter, "sockerless_http_requests_total", "Requests by method, route template and status.";
    HTTP_SECONDS, Histogram, "sockerless_http_request_seconds", "Time to the answer's header, by route template.";
}
