//! What the daemon is watched with: the table of metrics, the rules, the dashboard, and a real Prometheus over them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sockerless_lambda::telemetry::{METRICS, MetricKind};

use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, free_address, http, until};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

/// The queries of the dashboard's panels, for every daemon and short intervals.
fn panels() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/sockerless-lambda.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().unwrap().to_owned());
    queries.map(|query| query.replace("$instance", ".*").replace("$__rate_interval", "10s")).collect()
}

/// The queries of the rules; of an alert what is compared, since it returns nothing while all is well.
fn rules() -> Vec<String> {
    let rules: Value = serde_saphyr::from_str(&text("deploy/prometheus/rules.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let queries = groups.map(|rule| rule["expr"].as_str().unwrap().to_owned());
    queries
        .map(|query| {
            [" > 0.1", " > 600", " > 300", " > 20", " > 0", " == 0"].iter().fold(query, |q, c| q.replace(c, ""))
        })
        .collect()
}

/// The words of a query that can be names of metrics.
fn names(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words
        .filter(|word| ["sockerless", "workqueue_", "controller_runtime_"].iter().any(|p| word.starts_with(p)))
        .collect()
}

#[test]
fn the_table_in_the_docs_is_the_metrics() {
    let rows: String = METRICS
        .iter()
        .map(|metric| {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            format!("| `{}` | {kind} | {} |\n", metric.name, metric.help)
        })
        .collect();
    let expected = format!("| metric | kind | meaning |\n|---|---|---|\n{rows}");
    let docs = text("docs/metrics.md");
    let (_, table) = docs.split_once("<!-- metrics table -->\n").unwrap();
    let (table, _) = table.split_once("<!-- end of the metrics table -->").unwrap();
    assert_eq!(table, expected);
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_exist_and_alerts_have_a_runbook() {
    let rules_text = text("deploy/prometheus/rules.yaml");
    let records: BTreeSet<&str> =
        rules_text.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let queries = [panels(), rules()].concat();
    assert!(queries.len() > 40, "{queries:?}");
    for query in &queries {
        for name in names(query) {
            let known = METRICS.iter().any(|metric| match metric.kind {
                MetricKind::Histogram => {
                    name.strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
                }
                MetricKind::Counter | MetricKind::Gauge => name == metric.name,
            });
            assert!(known || records.contains(name), "{name} of {query}");
        }
    }
    let docs = text("docs/metrics.md");
    for alert in rules_text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(docs.contains(&format!("### {alert}\n")), "{alert} has no paragraph");
        assert!(
            rules_text.contains(&format!("docs/metrics.md#{}", alert.to_lowercase())),
            "{alert} does not point to it"
        );
    }
}

/// Whether Debian's package `prometheus` is there; says so if it is not.
fn has_prometheus() -> bool {
    let found = ["promtool", "prometheus"].iter().all(|program| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    if !found {
        println!("SKIPPED: prometheus and promtool are not installed");
    }
    found
}

fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn the_rules_are_right_and_fire_when_they_must() {
    if has_prometheus() {
        promtool(&["check", "rules", file("deploy/prometheus/rules.yaml").to_str().unwrap()], "");
        promtool(&["test", "rules", file("deploy/prometheus/rules_test.yaml").to_str().unwrap()], "");
    }
}

/// A real Prometheus that scrapes one daemon every second.
struct Prometheus {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let address = free_address();
        let rules = file("deploy/prometheus/rules.yaml");
        let settings = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  \
             - {{ job_name: sockerless, static_configs: [{{ targets: ['{target}'] }}] }}\n",
            rules.display()
        );
        std::fs::write(data.path().join("prometheus.yml"), settings).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", data.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _data: data }
    }

    /// How many series answer a query; `None`: Prometheus is not there yet.
    fn ask(&self, query: &str) -> Option<usize> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let (status, body) = http(&self.address, "GET", &path, "").ok()?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!(status, 200, "{query}: {answer}");
        answer["data"]["result"].as_array().map(Vec::len)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn every_panel_and_every_rule_finds_data() {
    let home = Home::new();
    let aws = Aws::start(&home);
    let account = Account::serving(&home, &aws, &["--gc-interval", "1s"]).await;
    let docker = account.docker();
    let prometheus = has_prometheus().then(|| Prometheus::start(&account.metrics));
    for (name, kind) in [("one", "RequestResponse"), ("two", "Event")] {
        create(&docker, name, "exit 3", &[("sockerless.lambda.invocation-type", kind)]).await;
        start(&docker, name).await;
        assert_eq!(wait(&docker, name).await, 3);
    }
    let served = until("the numbers of the REPORT lines are there", async || {
        Some(account.metrics()).filter(|text| text.contains("sockerless_run_billed_seconds_count 2"))
    })
    .await;
    for metric in METRICS.iter().filter(|metric| served.contains(metric.name)) {
        assert!(served.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
    }
    let Some(prometheus) = prometheus else { return };
    promtool(&["check", "metrics"], &served);
    // Containers come and go while it looks, so that rates have something to tell.
    for round in 0.. {
        let missing: Vec<String> = [panels(), rules()]
            .concat()
            .into_iter()
            .filter(|query| prometheus.ask(query).is_none_or(|found| found == 0))
            .collect();
        if missing.is_empty() {
            break;
        }
        assert!(round < 30, "without data: {missing:#?}");
        let name = format!("more-{round}");
        create(&docker, &name, "exit 0", &[]).await;
        start(&docker, &name).await;
        wait(&docker, &name).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    account.stop();
}
