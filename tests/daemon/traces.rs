//! Traces: a request, the reconciles that it caused, and their calls of AWS, as a collector sees them.

use serde_json::{Value, json};

use crate::collector::{Collector, Span, silent};
use crate::docker::{create, start, wait};
use crate::support::{Account, Aws, Home, exchange, free_address, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";
const JSON: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SECRET: &str = "hunter2";

/// A POST of a client that has begun a trace.
fn post(address: &str, path: &str, body: &Value) -> Value {
    let headers = format!("traceparent: 00-{TRACE}-{CLIENT}-01\r\nContent-Type: application/json\r\n");
    let (status, answer) = exchange(address, "POST", path, &headers, &body.to_string()).unwrap();
    assert!(status < 300, "{path}: {status} {answer}");
    serde_json::from_str(&answer).unwrap_or_default()
}

/// Creates and starts a container inside the client's trace; gives its id.
fn run_traced(address: &str, script: &str) -> String {
    let body = json!({ "Image": "host", "Cmd": ["sh", "-c", script], "Env": [format!("PASSWORD={SECRET}")] });
    let created = post(address, "/v1.44/containers/create?name=traced", &body);
    post(address, "/containers/traced/start", &Value::Null);
    created["Id"].as_str().unwrap().to_owned()
}

/// The spans from this one up to the client's, by name; `None`: one of them is not here yet.
fn way_up(spans: &[Span], name: &str) -> Option<Vec<String>> {
    let mut at = spans.iter().find(|span| span.name == name && span.trace == TRACE)?;
    let mut names = vec![at.name.clone()];
    while at.parent != CLIENT {
        at = spans.iter().find(|span| span.trace == at.trace && span.id == at.parent)?;
        names.push(at.name.clone());
    }
    Some(names)
}

#[tokio::test]
async fn a_request_its_reconciles_and_their_calls_are_one_trace() {
    let (home, collector, address) = (Home::new(), Collector::start(), free_address());
    let aws = Aws::start(&home);
    let listen = format!("tcp://{address}");
    let variables = [(ENDPOINT, collector.endpoint.as_str()), JSON, SOON];
    // Log lines of both formats do without the spans.
    let args = ["--listen", &listen, "--log-format", "json", "--log-level", "debug"];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &args, &variables);
    daemon.until_ready().await;
    let id = run_traced(&address, "exit 4");
    assert_eq!(wait(&daemon.docker(), "traced").await, 4);

    let way = until("the creation is told", async || way_up(&collector.spans(), "Lambda/CreateFunction")).await;
    assert_eq!(way, ["Lambda/CreateFunction", "reconcile", "POST /containers/create"]);
    let way = until("the run is told", async || way_up(&collector.spans(), "Lambda/Invoke")).await;
    assert_eq!(way, ["Lambda/Invoke", "run", "reconcile", "POST /containers/{id}/start"]);
    daemon.stop();

    let spans = collector.spans();
    let ours = |span: &&Span| span.attribute("container.id").is_some_and(|of| of == id);
    let of_container: Vec<&Span> = spans.iter().filter(ours).collect();
    assert!(of_container.iter().any(|span| span.name == "run"), "{spans:?}");
    assert!(of_container.iter().all(|span| span.trace == TRACE), "each turn hangs on its wish: {of_container:?}");

    let invoke = spans.iter().find(|span| span.name == "Lambda/Invoke").unwrap();
    let of_call = |key: &str| invoke.attribute(key).unwrap_or_default();
    assert_eq!([of_call("rpc.system"), of_call("rpc.service"), of_call("rpc.method")], ["aws-api", "Lambda", "Invoke"]);
    assert!(!of_call("aws.request_id").is_empty() && invoke.attribute("error.type").is_none());
    let started = spans.iter().find(|span| span.name == "POST /containers/{id}/start").unwrap();
    assert_eq!(started.attribute("http.response.status_code").unwrap(), "204");
    for export in collector.exports() {
        let text = String::from_utf8_lossy(&export.body).into_owned();
        assert!(!text.contains(SECRET) && !text.contains("exit 4"), "{text}");
    }
}

/// What a call failed with is told by its code, and the next one is a call of its own.
#[tokio::test]
async fn a_call_that_fails_tells_its_code() {
    let (home, collector) = (Home::new(), Collector::start());
    let aws = Aws::start(&home);
    let variables = [(ENDPOINT, collector.endpoint.as_str()), JSON, SOON];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &[], &variables);
    daemon.until_ready().await;
    crate::docker::create_that_fails(&daemon.docker()).await;
    let failed = until("the failure is told", async || {
        collector
            .spans()
            .into_iter()
            .find(|span| span.attribute("error.type").is_some() && span.name.contains("Create"))
    })
    .await;
    assert_eq!(failed.attribute("error.type").unwrap(), "InvalidParameterValueException");
    daemon.stop();
}

/// After a restart nobody knows the request any more: what is left of the run is a trace of its own.
#[tokio::test]
async fn after_a_restart_a_reconcile_begins_its_own_trace() {
    let (home, before, after, address) = (Home::new(), Collector::start(), Collector::start(), free_address());
    let aws = Aws::start(&home);
    let listen = format!("tcp://{address}");
    let gate = home.shared("gate");
    let variables = [(ENDPOINT, before.endpoint.as_str()), JSON, SOON];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &["--listen", &listen], &variables);
    daemon.until_ready().await;
    let id = run_traced(&address, &format!("while ! [ -e {} ]; do sleep 0.05; done; exit 6", gate.display()));
    until("it is invoked", async || (aws.calls().get("Invoke").copied() > Some(0)).then_some(())).await;
    daemon.kill();

    let variables = [(ENDPOINT, after.endpoint.as_str()), JSON, SOON];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &[], &variables);
    daemon.until_ready().await;
    std::fs::write(&gate, "").unwrap();
    assert_eq!(wait(&daemon.docker(), "traced").await, 6);
    let turn = until("a turn is told", async || {
        after.spans().into_iter().find(|span| span.attribute("container.id").is_some_and(|of| of == id))
    })
    .await;
    assert_eq!((turn.name.as_str(), turn.parent.as_str()), ("reconcile", ""));
    assert_ne!(turn.trace, TRACE);
    daemon.stop();
}

/// With the protocol that is the default; the spans that still wait are sent at the end.
#[tokio::test]
async fn what_waits_is_sent_when_the_daemon_stops() {
    let (home, collector) = (Home::new(), Collector::start());
    let aws = Aws::start(&home);
    let variables = [
        (ENDPOINT, collector.endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_SERVICE_NAME", "my-lambda-runner"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=opensesame"),
    ];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &[], &variables);
    daemon.until_ready().await;
    create(&daemon.docker(), "untold", "exit 0", &[]).await;
    until("it is made", async || (!aws.functions().is_empty()).then_some(())).await;
    assert!(collector.exports().is_empty(), "nothing is due yet");
    daemon.stop();

    let exports = collector.exports();
    let text: String = exports.iter().map(|export| String::from_utf8_lossy(&export.body)).collect();
    for told in ["Lambda", "CreateFunction", "POST /containers/create", "my-lambda-runner"] {
        assert!(text.contains(told), "no {told}: {exports:?}");
    }
    for line in ["post /v1/traces http/1.1", "content-type: application/x-protobuf", "x-key: opensesame"] {
        assert!(exports[0].head.lines().any(|told| told == line), "no {line}: {}", exports[0].head);
    }
}

/// A collector that takes connections and never answers, with a queue that is soon full.
#[tokio::test]
async fn a_collector_that_never_answers_holds_up_nobody() {
    let (home, endpoint) = (Home::new(), silent());
    let aws = Aws::start(&home);
    let variables = [
        (ENDPOINT, endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
    ];
    let daemon = Account::start_with(&home, &aws.endpoint, "sandbox", &[], &variables);
    daemon.until_ready().await;
    let docker = daemon.docker();
    for (name, code) in [("one", 1), ("two", 2), ("three", 3)] {
        create(&docker, name, &format!("exit {code}"), &[]).await;
        start(&docker, name).await;
        assert_eq!(wait(&docker, name).await, code);
    }
    daemon.stop_in_time().await;
}

#[test]
fn what_cannot_be_done_is_refused_at_the_start() {
    let home = Home::new();
    let mut command = home.command(&["--sandbox"]);
    command.env(ENDPOINT, "http://127.0.0.1:4317").env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{words}");
    assert!(words.contains("OTEL_EXPORTER_OTLP_PROTOCOL: allowed is http/protobuf or http/json"), "{words}");
}
