//! The processes: a sandbox that stands for AWS, and daemons on it that are started and killed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::client::Client;
use crate::support::{Aws, Home, authorization, exchange, free_address, http, keys};

/// Where daemons claim their databases, unless they are told otherwise.
const CLAIMS_GROUP: &str = "/sockerless/lambda-claims";
const DESCRIBE_LOG_STREAMS: &str =
    "Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Logs_20140328.DescribeLogStreams\r\n";
/// How long a daemon may take to serve.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);

/// A daemon's place, whichever process is in it: database, socket and log.
pub(crate) struct Machine {
    home: Home,
    endpoint: String,
    process: Option<Child>,
    metrics: String,
    pub(crate) client: Client,
}

impl Machine {
    pub(crate) fn new(aws: &Aws) -> Self {
        let home = Home::new();
        std::fs::create_dir_all(home.directory()).unwrap();
        let client = Client::new(home.socket());
        Self { home, endpoint: aws.endpoint.clone(), process: None, metrics: free_address(), client }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.home.database()
    }

    /// What programs write to.
    pub(crate) fn shared(&self) -> PathBuf {
        self.home.shared("")
    }

    fn log(&self) -> PathBuf {
        self.home.directory().join("log")
    }

    /// Starts a daemon; it may take a while until it serves.
    pub(crate) fn spawn(&mut self) {
        let (key, secret) = keys(&self.endpoint).unwrap();
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let child = self
            .home
            .command(&["--region", "us-east-1", "--role-arn", "arn:aws:iam::000000000000:role/job"])
            .args(["--image-registry", "000000000000.dkr.ecr.us-east-1.amazonaws.com", "--event-age", "60"])
            .args(["--endpoint-url", &self.endpoint, "--metrics-listen", &self.metrics, "--database"])
            .arg(self.home.database())
            .arg("--listen")
            .arg(format!("unix://{}", self.home.socket().display()))
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    /// The process id of the daemon that is there.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Waits until it serves.
    pub(crate) async fn until_served(&mut self) {
        let begin = Instant::now();
        while !self.client.is_served().await {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon has ended by itself ({ended:?}):\n{}", self.last_words());
            assert!(begin.elapsed() < START_LIMIT, "the daemon does not serve:\n{}", self.last_words());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `kill -9`. Fails if it had ended before: then it was not killed.
    pub(crate) fn kill(&mut self) {
        let mut child = self.process.take().unwrap();
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the daemon has ended by itself ({ended:?}):\n{}", self.last_words());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Lines of the log with a word of alarm that no kill explains.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let is_alarm =
            |line: &&str| ["panic", "internal error", "the claim is lost"].iter().any(|word| line.contains(word));
        log.lines().filter(is_alarm).map(str::to_owned).collect()
    }

    /// Gauges of what is under way that are not back at zero when nothing is.
    pub(crate) fn gauges_left(&self) -> Vec<String> {
        let text = http(&self.metrics, "GET", "/metrics", "").unwrap().1;
        let is_left = |line: &&str| GAUGES.iter().any(|gauge| line.starts_with(gauge)) && !line.ends_with(" 0");
        text.lines().filter(is_left).map(|line| format!("after the end: {line}")).collect()
    }

    /// Containers in the database, those that are being removed too.
    pub(crate) async fn rows(&self) -> Vec<Row> {
        let mut connection = SqliteConnectOptions::new().filename(self.database()).connect().await.unwrap();
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT lower(hex(id)), status FROM container ORDER BY seq")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        rows.into_iter().map(|(id, status)| Row { id, status: serde_json::from_str(&status).unwrap() }).collect()
    }

    /// Its claims in AWS: log streams that are called as its instance.
    pub(crate) async fn claims(&self) -> Vec<String> {
        let mut connection = SqliteConnectOptions::new().filename(self.database()).connect().await.unwrap();
        let instance: String = sqlx::query_scalar("SELECT id FROM instance").fetch_one(&mut connection).await.unwrap();
        let body = json!({ "logGroupName": CLAIMS_GROUP, "logStreamNamePrefix": format!("{instance}/") }).to_string();
        let headers = authorization(&self.endpoint) + DESCRIBE_LOG_STREAMS;
        let (status, answer) = exchange(&self.endpoint, "POST", "/", &headers, &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let streams = answer["logStreams"].as_array().unwrap();
        streams.iter().map(|stream| stream["logStreamName"].as_str().unwrap().to_owned()).collect()
    }

    /// Makes everything that is known so much older, as if the daemon had not been there for so long. The daemon must
    /// not be running.
    pub(crate) async fn age(&self, by: Duration) {
        assert!(self.process.is_none());
        let mut connection = SqliteConnectOptions::new().filename(self.database()).connect().await.unwrap();
        let nanos = i64::try_from(by.as_nanos()).unwrap();
        for path in AGING {
            let older = "UPDATE container SET status = json_set(status, ?1, json_extract(status, ?1) - ?2), revision = \
                 revision + 1 WHERE json_type(status, ?1) = 'integer'";
            sqlx::query(older).bind(*path).bind(nanos).execute(&mut connection).await.unwrap();
        }
        sqlx::query("UPDATE container SET due_at = due_at - ?1").bind(nanos).execute(&mut connection).await.unwrap();
    }
}

/// What counts things that come to an end.
const GAUGES: &[&str] = &["sockerless_containers", "sockerless_runs_in_flight", "workqueue_depth"];

/// The times in a container's facts that something is waited for by.
const AGING: &[&str] = &[
    "$.create_sent_at",
    "$.missing_since",
    "$.function.is.seen_at",
    "$.retry.since",
    "$.retry.bounded.since",
    "$.retry.not_before",
    "$.run.issued.at",
    "$.run.issued.deadline",
    "$.run.report.seen_at",
    "$.run.phase.exited.finished_at",
];

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A container as the database has it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    status: Value,
}

impl Row {
    /// The token of a run that was issued and has no end.
    pub(crate) fn unsettled_token(&self) -> Option<&str> {
        let run = &self.status["run"];
        let open = run["phase"] != "refused" && run["phase"].get("exited").is_none();
        run["issued"]["token"].as_str().filter(|_| open)
    }
}

/// Whether the sandbox has nothing queued and nothing running.
pub(crate) fn is_idle(sandbox: &Value) -> bool {
    let busy = |invocation: &Value| matches!(invocation["status"].as_str(), Some("queued" | "running"));
    !sandbox["invocations"].as_array().unwrap().iter().any(busy)
}

/// Functions and environments that are left in the sandbox.
pub(crate) fn objects(sandbox: &Value) -> usize {
    let environments = sandbox["environments"].as_u64().unwrap();
    sandbox["functions"].as_array().unwrap().len() + usize::try_from(environments).unwrap()
}

/// Tells the sandbox what goes wrong from now on.
pub(crate) fn set_faults(aws: &Aws, faults: &Value) {
    let (status, body) = http(&aws.endpoint, "POST", "/_sandbox/faults", &faults.to_string()).unwrap();
    assert_eq!(status, 200, "{body}");
}
