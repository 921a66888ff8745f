//! Log lines and metrics, and where traces join them. Every metric name stands here once, with its help text.
//!
//! Log lines go to stderr: stdout belongs to what a command answers. The metrics are only recorded and rendered here;
//! the API room serves them.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Config, Environment, LogFormat};
use crate::traces;

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

/// How often the recorder tidies up, so that histograms do not grow between two scrapes.
const UPKEEP: Duration = Duration::from_secs(5);
/// Calls, commits, requests: from below a millisecond to a minute.
const SHORT_SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Waits, and what may last as long as a run.
const LONG_SECONDS: &[f64] = &[0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];
/// From 16 MB to Lambda's largest function.
const BYTES: &[f64] = &[
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    536_870_912.0,
    1_073_741_824.0,
    2_147_483_648.0,
    4_294_967_296.0,
    8_589_934_592.0,
    10_737_418_240.0,
];
/// From a tenth of a second in the smallest function to 15 minutes in the largest: powers of four, from 8 MB-seconds on.
const BYTE_SECONDS: &[f64] = &[
    8_388_608.0,
    33_554_432.0,
    134_217_728.0,
    536_870_912.0,
    2_147_483_648.0,
    8_589_934_592.0,
    34_359_738_368.0,
    137_438_953_472.0,
    549_755_813_888.0,
    2_199_023_255_552.0,
    10_000_000_000_000.0,
];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

macro_rules! metrics_table {
    ($($constant:ident, $kind:ident, $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric of the daemon.
        pub const METRICS: &[Metric] =
            &[$(Metric { name: $name, help: $help, kind: MetricKind::$kind }),*];
    };
}

metrics_table! {
    RECONCILE_TOTAL, Counter, "controller_runtime_reconcile_total", "Reconciles of one container, by controller and result (success, requeue_after, error).";
    RECONCILE_ERRORS, Counter, "controller_runtime_reconcile_errors_total", "Reconciles that ended in an error, by controller.";
    RECONCILE_SECONDS, Histogram, "controller_runtime_reconcile_time_seconds", "Time of one reconcile, by controller.";
    ACTIVE_WORKERS, Gauge, "controller_runtime_active_workers", "Reconciles under way, by controller.";
    QUEUE_DEPTH, Gauge, "workqueue_depth", "Containers that wait for a reconcile now, or in line for a quota, by name.";
    QUEUE_ADDS, Counter, "workqueue_adds_total", "Containers put into the queue, by name.";
    QUEUE_SECONDS, Histogram, "workqueue_queue_duration_seconds", "Time a container waited in the queue after it was due, by name.";
    QUEUE_UNFINISHED, Gauge, "workqueue_unfinished_work_seconds", "Seconds of reconciles that are under way and not finished, summed up, by name.";
    QUEUE_LONGEST, Gauge, "workqueue_longest_running_processor_seconds", "Seconds that the longest reconcile under way has taken so far, by name.";
    QUEUE_RETRIES, Counter, "workqueue_retries_total", "Actions that are tried again after a failure, by name.";
    AWS_REQUESTS, Counter, "sockerless_aws_requests_total", "Calls of AWS, by service, operation and code (OK, or AWS's error code).";
    AWS_SECONDS, Histogram, "sockerless_aws_request_seconds", "Time of a call of AWS, by service and operation.";
    AWS_THROTTLES, Counter, "sockerless_aws_throttles_total", "Calls that AWS refused as too many, by service and operation.";
    AWS_QUOTA_WAIT, Histogram, "sockerless_aws_quota_wait_seconds", "Time a call, or the container that makes it, waited for our own share of a quota, by bucket.";
    AWS_QUOTA_LIMIT, Gauge, "sockerless_aws_quota_calls_per_second", "Calls a second that are our own share of a quota, by bucket.";
    RUNS_TOTAL, Counter, "sockerless_runs_total", "Runs that have ended, by invocation (RequestResponse, Event) and outcome.";
    RUNS_IN_FLIGHT, Gauge, "sockerless_runs_in_flight", "Runs that were issued and have no end yet.";
    SLOTS_KEPT, Gauge, "sockerless_slots_kept", "Runs that have ended by their log alone, may go on all the same, and count towards max_running.";
    RUN_SECONDS, Histogram, "sockerless_run_seconds", "Time from a program's start to its exit.";
    BILLED_SECONDS, Histogram, "sockerless_run_billed_seconds", "Time that Lambda bills for a run, from its REPORT line.";
    BILLED_MEMORY_SECONDS, Histogram, "sockerless_run_billed_memory_byte_seconds", "Bytes of the function times the billed seconds of a run, which is what it costs; 1073741824 of them are a GB-second.";
    MEMORY_USED, Histogram, "sockerless_run_max_memory_bytes", "Memory that a run used at most, from its REPORT line.";
    INIT_SECONDS, Histogram, "sockerless_cold_start_seconds", "Time that Lambda took to make an environment for a run, from its REPORT line.";
    UNKNOWN_OUTCOMES, Counter, "sockerless_unknown_outcomes_total", "Runs of which nobody can tell how they ended.";
    SECOND_RUNS, Counter, "sockerless_second_runs_total", "Runs that Lambda was seen to run once more.";
    CONTAINERS, Gauge, "sockerless_containers", "Containers by state (created, running, restarting, exited, removing, dead).";
    OLDEST_WISH, Gauge, "sockerless_oldest_unconverged_wish_seconds", "Age of the oldest wish that is not so yet and can still become so; 0: all is as wished.";
    DRIFT_FOUND, Counter, "sockerless_drift_found_total", "Functions found changed or missing, by kind (changed, missing).";
    DRIFT_MENDED, Counter, "sockerless_drift_mended_total", "Functions put back as wanted, by kind (changed).";
    ORPHANS, Gauge, "sockerless_orphans", "Functions of this instance without a container, seen by the last sweep.";
    ORPHANS_DELETED, Counter, "sockerless_orphans_deleted_total", "Orphaned functions that were deleted.";
    ORPHANS_SKIPPED, Counter, "sockerless_orphans_skipped_total", "Orphaned functions that a sweep did not delete, by reason.";
    FOREIGN_FUNCTIONS, Gauge, "sockerless_foreign_functions", "Functions with our prefix that belong to other instances, seen by the last sweep.";
    FORGED_CLAIMS, Gauge, "sockerless_forged_claims", "Log streams among this instance's claims that no daemon has made, as far as the last look went.";
    CREATE_TO_ACTIVE, Histogram, "sockerless_function_create_to_active_seconds", "Time from CreateFunction to Active.";
    INFORMER_LAG, Gauge, "sockerless_informer_lag_seconds", "How far the reading of the logs is behind.";
    STORE_COMMIT_SECONDS, Histogram, "sockerless_store_commit_seconds", "Time of one commit of the store.";
    STORE_BATCH_SIZE, Histogram, "sockerless_store_batch_size", "Writes that one commit carried.";
    STORE_ERRORS, Counter, "sockerless_store_errors_total", "Failures of the store that the reconciler has met.";
    UNREADABLE_ROWS, Gauge, "sockerless_unreadable_rows", "Rows of the database that cannot be read and are left out, by table; at most 1,000 of each are counted.";
    STALLED, Gauge, "sockerless_stalled", "1 while a part of the daemon (reconciler, writer) makes no progress, by part.";
    HTTP_REQUESTS, Counter, "sockerless_http_requests_total", "Requests by method, route template and status.";
    TLS_RELOADS, Counter, "sockerless_tls_reloads_total", "Changed TLS files that were read again, by result (renewed; failed: the previous ones stay in use).";
    HTTP_SECONDS, Histogram, "sockerless_http_request_seconds", "Time to the answer's header, by route template.";
}

/// The outcomes of runs.
pub const OUTCOMES: [&str; 8] =
    ["success", "failure", "function_error", "timeout", "out_of_memory", "cancelled", "never_ran", "unknown"];

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be understood.
    #[error("log_level: {0}")]
    Filter(#[from] ParseError),
    /// The process has a subscriber already.
    #[error("logging was set up before: {0}")]
    Logging(#[from] TryInitError),
    /// Traces are asked for and cannot be exported.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Traces(#[from] traces::TracesError),
    /// The process has a recorder already.
    #[error("metrics were set up before")]
    Recorder,
    /// The table of metrics is wrong.
    #[error("metrics: {0}")]
    Buckets(#[from] BuildError),
}

impl TelemetryError {
    /// Whether something was asked for that cannot be done, rather than that something has failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Filter(_) => true,
            #[cfg(feature = "otlp")]
            Self::Traces(error) => matches!(error, traces::TracesError::Setting { .. }),
            _ => false,
        }
    }
}

/// The metrics of this process. Cloning gives the same.
#[derive(Clone)]
pub struct Telemetry {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sets up logging and metrics for the whole process, once; and traces, if OpenTelemetry's variables in `environment`
    /// ask for them. To be called inside the runtime.
    ///
    /// # Errors
    ///
    /// If the filter is wrong, traces cannot be exported as they are asked for, or the process has them already.
    pub fn install(config: &Config, environment: &Environment) -> Result<Self, TelemetryError> {
        install_subscriber(config, environment)?;
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Recorder)?;
        describe();
        Ok(Self { handle })
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Keeps the recorder tidy; never returns.
    pub async fn upkeep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.handle.run_upkeep();
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn install_subscriber(config: &Config, environment: &Environment) -> Result<(), TelemetryError> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let lines = log_lines(config)?;
    #[cfg(feature = "otlp")]
    let layers: Vec<BoxedLayer> = traces::layer(environment)?.into_iter().chain([lines]).collect();
    #[cfg(not(feature = "otlp"))]
    let layers = vec![lines];
    tracing_subscriber::registry().with(layers).try_init()?;
    #[cfg(not(feature = "otlp"))]
    if let Some((variable, _)) = traces::asked_for(environment) {
        tracing::warn!(variable, "no traces are exported: this program was built without the cargo feature `otlp`");
    }
    Ok(())
}

/// Log lines, without the spans of the traces.
fn log_lines(config: &Config) -> Result<BoxedLayer, TelemetryError> {
    let wanted = EnvFilter::builder().parse(&config.log_level)?;
    let wanted = wanted.add_directive(format!("{}=off", traces::TARGET).parse()?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(wanted).boxed(),
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(colours).with_filter(wanted).boxed()
        }
    })
}

/// A recorder with the buckets of our histograms.
fn recorder() -> Result<PrometheusRecorder, TelemetryError> {
    let histograms = METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram);
    let builder = histograms.clone().try_fold(PrometheusBuilder::new(), |builder, metric| {
        builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets(metric.name))
    })?;
    Ok(builder.build_recorder())
}

fn buckets(name: &str) -> &'static [f64] {
    match name {
        STORE_BATCH_SIZE => SIZES,
        MEMORY_USED => BYTES,
        BILLED_MEMORY_SECONDS => BYTE_SECONDS,
        QUEUE_SECONDS | AWS_QUOTA_WAIT | CREATE_TO_ACTIVE | RUN_SECONDS | BILLED_SECONDS => LONG_SECONDS,
        _ => SHORT_SECONDS,
    }
}

/// Gives every metric its help text, and those without labels their zero, so that they are there from the start.
fn describe() {
    for Metric { name, help, kind } in METRICS {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(*name, *help),
            MetricKind::Gauge => metrics::describe_gauge!(*name, *help),
            MetricKind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
    // Prometheus sees no increase in a counter that begins with one: what alerts ask for is there as zero.
    for result in ["success", "requeue_after", "error"] {
        metrics::counter!(RECONCILE_TOTAL, "controller" => "container", "result" => result).absolute(0);
    }
    metrics::counter!(RECONCILE_ERRORS, "controller" => "container").absolute(0);
    for name in [QUEUE_ADDS, QUEUE_RETRIES] {
        metrics::counter!(name, "name" => "container").absolute(0);
    }
    for (invocation, outcome) in ["RequestResponse", "Event"].into_iter().flat_map(|i| OUTCOMES.map(|o| (i, o))) {
        metrics::counter!(RUNS_TOTAL, "invocation" => invocation, "outcome" => outcome).absolute(0);
    }
    for kind in ["changed", "missing"] {
        metrics::counter!(DRIFT_FOUND, "kind" => kind).absolute(0);
    }
    metrics::counter!(DRIFT_MENDED, "kind" => "changed").absolute(0);
    for name in [UNKNOWN_OUTCOMES, SECOND_RUNS, ORPHANS_DELETED, STORE_ERRORS] {
        metrics::counter!(name).absolute(0);
    }
    for name in [RUNS_IN_FLIGHT, SLOTS_KEPT, ORPHANS, FOREIGN_FUNCTIONS, FORGED_CLAIMS, INFORMER_LAG, OLDEST_WISH] {
        metrics::gauge!(name).set(0.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn rendered() -> String {
        let recorder = recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for metric in METRICS {
                match metric.kind {
                    MetricKind::Counter => metrics::counter!(metric.name, "code" => "a \"b\"\n").increment(1),
                    MetricKind::Gauge => metrics::gauge!(metric.name).set(1.0),
                    MetricKind::Histogram => metrics::histogram!(metric.name).record(0.02),
                }
            }
        });
        recorder.handle().render()
    }

    #[test]
    fn every_metric_has_its_help_type_and_a_sample() {
        let text = rendered();
        for Metric { name, help, kind } in METRICS {
            let kind = format!("{kind:?}").to_lowercase();
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}: no help");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}: not a {kind}");
            let sample = if kind == "histogram" { format!("{name}_bucket") } else { (*name).to_owned() };
            assert!(text.lines().any(|line| line.starts_with(&sample)), "{name}: no sample");
        }
    }

    #[test]
    fn the_text_is_what_a_scraper_reads() {
        let mut types = BTreeMap::new();
        let text = rendered();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
            if let Some(named) = line.strip_prefix("# TYPE ") {
                let (name, kind) = named.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is typed twice");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(types.contains_key(name) || types.contains_key(base), "{line} comes before its type");
        }
        assert_eq!(types.len(), METRICS.len());
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for Metric { name, help, kind } in METRICS {
            assert!(seen.insert(name), "{name} stands there twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
    }

    #[test]
    fn buckets_go_up() {
        for buckets in [SHORT_SECONDS, LONG_SECONDS, SIZES] {
            assert!(buckets.is_sorted_by(|a, b| a < b));
        }
    }
}
