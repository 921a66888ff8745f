//! Every route of the table, in every spelling, with bodies, queries and names that nobody would send. The list of routes
//! is the daemon's own: a new one is under attack as soon as it is there.
//!
//! `SOCKERLESS_FUZZ` says how many requests each route gets; then they are others each time.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};
use sockerless_lambda::api::{Endpoint, endpoints};
use tokio::runtime::Runtime;

use crate::support::{Api, PATIENCE, plain, until_tasks};

/// Requests for each route and spelling when nobody says how many.
const CASES: u32 = 24;
const PREFIXES: &[&str] = &["", "/v1.24", "/v1.41", "/v1.51"];
/// For routes that take any.
const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "BREW"];
/// Parts of paths; `ID` is a container's id.
const NAMES: &[&str] = &[
    "one",
    "two",
    "three",
    "%2Fone",
    "ID",
    "ID0",
    "%00",
    "%ff%fe",
    "a%2Fb:1",
    "..",
    "%2E%2E%2F",
    "%F0%9F%90%B3",
    "{id}",
    "x",
    "sha256:00",
    "alpine",
    "alpine:latest",
    "library%2Falpine",
    "json",
    "prune",
    "%",
    "%zz",
    "-",
    "none",
];
const KEYS: &[&str] = &[
    "name",
    "all",
    "limit",
    "size",
    "since",
    "until",
    "before",
    "filters",
    "tail",
    "stdout",
    "stderr",
    "follow",
    "timestamps",
    "details",
    "signal",
    "t",
    "condition",
    "force",
    "v",
    "link",
    "fromImage",
    "fromSrc",
    "tag",
    "repo",
    "logs",
    "stream",
    "stdin",
    "h",
    "w",
    "platform",
    "one-shot",
    "detachKeys",
    "digests",
    "shared-size",
    "noprune",
    "dangling",
    "type",
];
const VALUES: &[&str] = &[
    "",
    "1",
    "0",
    "-1",
    "true",
    "x",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999",
    "1e9",
    "NaN",
    "1.9999999999",
    ".5",
    "-.",
    "null",
    "one",
    "two",
    "KILL",
    "SIGRTMIN%2B99",
    "0x9",
    "removed",
    "next-exit",
    "not-running",
    "linux%2Farm64",
    "linux%2F%2F",
    "10h",
    "99999999999h",
    "1e400s",
    "alpine",
    "alpine:3",
    "A:B:C",
    "@sha256:",
    "2026-11-23",
    "2026-11-23T00:00:00Z",
    "9999-99-99",
    "%00",
    "%ff",
    "a%20b",
    "%C3%A9",
    "all",
    "100000",
    "100001",
];
/// Names of filters, of all lists together.
const FILTERS: &[&str] = &[
    "label",
    "label!",
    "name",
    "id",
    "status",
    "exited",
    "ancestor",
    "before",
    "since",
    "until",
    "event",
    "type",
    "container",
    "image",
    "reference",
    "dangling",
    "health",
    "network",
    "volume",
    "driver",
    "scope",
    "nonsense",
];
/// Fields of bodies, with something that fits.
fn fields() -> Vec<(&'static str, Value)> {
    vec![
        ("Image", json!("alpine")),
        ("Cmd", json!(["true"])),
        ("Entrypoint", json!(["/bin/sh"])),
        ("Env", json!(["A=1", "B"])),
        ("Labels", json!({ "a": "b" })),
        ("WorkingDir", json!("/tmp")),
        ("User", json!("1000")),
        ("Tty", json!(true)),
        ("ExposedPorts", json!({ "80/tcp": {} })),
        ("Volumes", json!({ "/x": {} })),
        ("StopTimeout", json!(1)),
        ("Healthcheck", json!({ "Test": ["NONE"] })),
        ("HostConfig", json!({ "Memory": 1_048_576, "AutoRemove": true, "RestartPolicy": { "Name": "on-failure" } })),
        (
            "HostConfig",
            json!({ "Binds": ["a:b"], "Mounts": [{ "Type": "tmpfs", "Target": "/x" }], "NetworkMode": "none" }),
        ),
        ("HostConfig", json!({ "PortBindings": { "80/tcp": [{ "HostPort": "x" }] }, "LogConfig": { "Type": "none" } })),
        ("NetworkingConfig", json!({ "EndpointsConfig": { "bridge": {} } })),
        ("Labels", json!({ "sockerless.lambda.memory": "99999999999" })),
        ("Labels", json!({ "sockerless.lambda.payload": "[1" })),
        ("Platform", json!("linux/amd64")),
        ("Reference", json!("docker.io/library/alpine:latest")),
        ("Auth", json!({ "username": "x" })),
        ("username", json!("x")),
        ("Detach", json!(true)),
    ]
}

/// One request.
#[derive(Clone, Debug)]
struct Attack {
    method: String,
    path: String,
    headers: &'static str,
    body: Vec<u8>,
}

fn escaped(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn noise(most: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        vec(any::<u8>(), 0..most).prop_map(|bytes| escaped(&bytes)),
        ".{0,40}".prop_map(|text| escaped(text.as_bytes())),
    ]
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(NAMES).prop_map(str::to_owned),
        2 => noise(40),
        1 => (1_usize..5_000).prop_map(|length| "a".repeat(length)),
    ]
}

/// Any JSON; sometimes deep, sometimes with long texts.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        (0_usize..20_000).prop_map(|length| Value::from("x".repeat(length))),
        select(vec!["", "0", "-1", "alpine", "/x", "a=b", "=", "on-failure", "bind", "\u{0}"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((".{0,10}", inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn filters() -> impl Strategy<Value = String> {
    let values = prop_oneof![
        vec(".{0,20}", 0..4).prop_map(|words| json!(words)),
        select(vec!["(", "a{1000}{1000}", "^one$", "one", "0", "-5", "10h", "running", "k=v", "alpine:*"])
            .prop_map(|word| json!([word])),
        select(vec!["one", "two"]).prop_map(|word| json!({ word: true })),
        anything(),
    ];
    let named = vec((select(FILTERS), values), 0..4);
    named.prop_map(|pairs| {
        let map: serde_json::Map<String, Value> =
            pairs.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        format!("filters={}", escaped(Value::Object(map).to_string().as_bytes()))
    })
}

fn query() -> impl Strategy<Value = String> {
    let pair = prop_oneof![
        6 => (select(KEYS), select(VALUES)).prop_map(|(key, value)| format!("{key}={value}")),
        2 => (select(KEYS), noise(200)).prop_map(|(key, value)| format!("{key}={value}")),
        2 => filters(),
        1 => noise(40),
    ];
    vec(pair, 0..5).prop_map(|pairs| pairs.join("&"))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let field = (select(fields()), prop_oneof![5 => Just(None), 2 => anything().prop_map(Some)]);
    let object = vec(field, 0..8).prop_map(|pairs| {
        let field = |((name, fits), other): ((&str, Value), Option<Value>)| (name.to_owned(), other.unwrap_or(fits));
        Value::Object(pairs.into_iter().map(field).collect()).to_string().into_bytes()
    });
    prop_oneof![
        2 => Just(Vec::new()),
        5 => object,
        2 => anything().prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..300),
        1 => select(vec!["{", "[]", "\u{feff}{}", "{\"Image\":\"a\"}x"]).prop_map(|text| text.as_bytes().to_vec()),
        1 => (100_usize..3_000).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ]
}

fn attack(endpoint: Endpoint) -> impl Strategy<Value = Attack> {
    let headers = select(vec![
        "",
        "Content-Type: application/json\r\n",
        "Connection: Upgrade\r\nUpgrade: tcp\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
        "X-Registry-Auth: !!\r\nX-Request-Id: \u{e9}\r\n",
        "Expect: 100-continue\r\n",
    ]);
    let method = match endpoint.method {
        Some(method) => Just(method).boxed(),
        None => select(METHODS).boxed(),
    };
    let prefix = if endpoint.internal { Just("/internal/v1").boxed() } else { select(PREFIXES).boxed() };
    (method, prefix, vec(part(), 3), query(), headers, body()).prop_map(
        move |(method, prefix, parts, query, headers, body)| Attack {
            method: method.to_owned(),
            path: format!("{prefix}{}?{query}", filled_in(endpoint.template, &parts)),
            headers,
            body,
        },
    )
}

/// A template with its `{names}` filled in.
fn filled_in(template: &str, parts: &[String]) -> String {
    let mut parts = parts.iter();
    let segment = |segment: &str| match segment {
        "{*rest}" => parts.by_ref().take(2).cloned().collect::<Vec<_>>().join("/"),
        named if named.starts_with('{') => parts.next().cloned().unwrap_or_default(),
        word => word.to_owned(),
    };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Panics in the daemon's code: those of a handler become an answer, those of a stream are seen by nobody else.
fn panics() -> &'static AtomicUsize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.location().is_some_and(|place| place.file().starts_with("src/")) {
                COUNT.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
    &COUNT
}

async fn check(api: &Api, endpoint: Endpoint, attack: &Attack, id: &str) -> Result<(), String> {
    let path = attack.path.replace("ID", id);
    let mut connection = api.send_bytes(&attack.method, &path, attack.headers, &attack.body).await;
    let answer = if attack.method == "HEAD" { connection.only_head().await } else { connection.answer().await };
    let status = answer.status;
    let is_documented = status == 501 || (status == 503 && expects_503(endpoint.template));
    if status >= 500 && !is_documented {
        return Err(format!("{status}: {}", answer.text()));
    }
    let is_error = status >= 400 && attack.method != "HEAD";
    if is_error && answer.header("content-type") == Some("application/json") {
        let message = answer.json()["message"].as_str().map(str::to_owned);
        return message.filter(|text| !text.is_empty()).map(drop).ok_or_else(|| answer.text());
    }
    // What is no HTTP is answered by the connection itself, without a word.
    if is_error && !(answer.body.is_empty() && [400, 414, 431].contains(&status)) {
        return Err(format!("an error without a message: {}", answer.head));
    }
    Ok(())
}

/// Containers of three kinds are there, whatever was removed; gives the id of the one that runs.
async fn populated(api: &Api) -> String {
    let is_missing = async |name: &str| api.get(&format!("/containers/{name}/json")).await.status == 404;
    if is_missing("one").await {
        api.ended("one", &plain(), 0).await;
    }
    if is_missing("two").await {
        api.running("two", &plain()).await;
    }
    if is_missing("three").await {
        api.create("three", &plain()).await;
    }
    api.get("/containers/two/json").await.json()["Id"].as_str().unwrap().to_owned()
}

/// Nobody is a swarm's manager here, and in these tests no reconciler runs.
fn expects_503(template: &str) -> bool {
    let first = template.split('/').nth(1).unwrap_or_default();
    ["readyz", "swarm", "nodes", "services", "tasks", "secrets", "configs"].contains(&first)
}

fn cases() -> (u32, TestRng) {
    let Some(cases) = std::env::var("SOCKERLESS_FUZZ").ok().and_then(|cases| cases.parse().ok()) else {
        return (CASES, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    (cases, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

#[test]
fn no_route_fails_whatever_is_sent() {
    let panics = panics();
    let before = panics.load(Ordering::SeqCst);
    let runtime = Runtime::new().unwrap();
    let api = runtime.block_on(async {
        let api = Api::new().await;
        populated(&api).await;
        api
    });
    let tasks = runtime.metrics().num_alive_tasks();
    let (cases, rng) = cases();
    let mut runner = TestRunner::new_with_rng(Config { cases, failure_persistence: None, ..Config::default() }, rng);
    for endpoint in endpoints() {
        let id = runtime.block_on(populated(&api));
        let result = runner.run(&attack(endpoint), |attack| {
            let checked = runtime.block_on(check(&api, endpoint, &attack, &id));
            checked.map_err(TestCaseError::fail)
        });
        assert!(result.is_ok(), "{endpoint:?}: {}", result.unwrap_err());
        assert_eq!(panics.load(Ordering::SeqCst), before, "{endpoint:?}: the daemon panicked");
    }
    runtime.block_on(async {
        until_tasks(tasks, PATIENCE).await;
        assert_eq!(api.get("/_ping").await.text(), "OK");
    });
}

#[test]
fn every_line_of_the_table_is_attacked() {
    let all: Vec<Endpoint> = endpoints().collect();
    assert!(all.len() > 150, "{} lines", all.len());
    for (method, template, internal) in [
        (Some("POST"), "/containers", true),
        (Some("POST"), "/containers/create", false),
        (Some("GET"), "/events", true),
        (Some("GET"), "/events", false),
        (None, "/nodes/{*rest}", false),
    ] {
        assert!(all.contains(&Endpoint { method, template, internal }), "{template}");
    }
    let parts = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(filled_in("/plugins/{name}/{verb}", &parts), "/plugins/a/b");
    assert_eq!(filled_in("/nodes/{*rest}", &parts), "/nodes/a/b");
}
