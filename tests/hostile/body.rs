//! Bodies of requests: those that create a hostile container, and JSON that nobody would write.

use serde_json::{Map, Value, json};

use super::output::NUMBERS;
use super::programs::{HOSTILE, Run};
use super::rng::Rng;

/// The longest text in a body, in bytes; rarely drawn.
const LONG_TEXT_BYTES: usize = 70_000;
/// Members of Docker's bodies that take something.
pub(crate) const MEMBERS: &[&str] = &[
    "Image",
    "Cmd",
    "Entrypoint",
    "Env",
    "Labels",
    "WorkingDir",
    "User",
    "Tty",
    "OpenStdin",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "StopTimeout",
    "Healthcheck",
    "HostConfig",
    "NetworkingConfig",
    "MacAddress",
    "Shell",
    "OnBuild",
    "ArgsEscaped",
    "X",
];
const HOST_MEMBERS: &[&str] = &[
    "Memory",
    "NanoCpus",
    "CpuShares",
    "AutoRemove",
    "RestartPolicy",
    "Binds",
    "Mounts",
    "Tmpfs",
    "NetworkMode",
    "PortBindings",
    "LogConfig",
    "Ulimits",
    "ShmSize",
    "Sysctls",
    "Privileged",
    "X",
];
const LABELS: &[&str] = &[
    "sockerless.lambda.memory",
    "sockerless.lambda.timeout",
    "sockerless.lambda.invocation-type",
    "sockerless.lambda.architecture",
    "sockerless.lambda.role-arn",
    "sockerless.lambda.ephemeral-storage",
    "sockerless.lambda.subnet-ids",
    "sockerless.lambda.security-group-ids",
    "sockerless.lambda.payload",
    "sockerless.lambda.deletion-policy",
    "sockerless.lambda.unknown-outcome",
    "sockerless.lambda.log-group",
    "sockerless.lambda.x",
    "sockerless.instance",
    "sockerless.container",
    "com.docker.compose.project",
    "",
    "a b",
    "\u{0}",
    "__proto__",
];
const TEXTS: &[&str] = &[
    "",
    "x",
    "host",
    "host:latest",
    "busybox@sha256:00",
    "/bin/sh",
    "../../etc/passwd",
    "\u{0}",
    "\u{1b}[2J",
    "a\nb",
    "\u{202e}abc",
    "\u{1f433}",
    "{{.}}",
    "'; DROP TABLE container; --",
    "on-failure",
    "always",
    "Event",
    "native",
    "128",
    "-1",
    "1e999",
    "9223372036854775808",
    "arn:aws:iam::000000000000:role/functions",
    "arn:aws:iam::999999999999:role/other",
    "rerun",
    "retain",
    "A=B",
    "=",
    "AWS_ACCESS_KEY_ID=x",
    "$(id)",
];

/// The body that creates a hostile container.
pub(crate) fn of_run(run: &Run) -> Value {
    let command = json!([HOSTILE, run.name]);
    let mut labels = Map::new();
    let mut body = json!({ "Image": "host", "Tty": run.tty });
    if let Some(seed) = run.decorated {
        decorate(seed, &mut labels, &mut body);
    }
    if run.event {
        labels.insert("sockerless.lambda.invocation-type".to_owned(), json!("Event"));
    }
    if run.native {
        labels.insert("sockerless.lambda.protocol".to_owned(), json!("native"));
        labels.insert("sockerless.lambda.payload".to_owned(), json!(command.to_string()));
    } else {
        body["Cmd"] = command;
    }
    labels.insert("sockerless.lambda.timeout".to_owned(), json!("10"));
    let restart = if run.restarts > 0 { "on-failure" } else { "no" };
    body["Labels"] = Value::Object(labels);
    body["HostConfig"] = json!({
        "AutoRemove": run.auto_remove && run.restarts == 0,
        "RestartPolicy": { "Name": restart, "MaximumRetryCount": run.restarts },
    });
    body
}

/// Labels and members that are taken and that nobody needs.
fn decorate(seed: u64, labels: &mut Map<String, Value>, body: &mut Value) {
    let mut rng = Rng::stream(seed, 7);
    for _ in 0..rng.below(6) {
        let key = format!("x.{}", string(&mut rng));
        labels.insert(key, json!(string(&mut rng)));
    }
    if rng.one_in(4) {
        body["Env"] = json!([format!("HOSTILE={}", string(&mut rng).replace('\u{0}', ""))]);
    }
    if rng.one_in(4) {
        body["Healthcheck"] = json!({ "Test": ["CMD", string(&mut rng)] });
    }
}

fn string(rng: &mut Rng) -> String {
    match rng.below(20) {
        0 => "l".repeat(10_000),
        1 => rng.hex32(),
        _ => (*rng.pick(TEXTS)).to_owned(),
    }
}

/// JSON with one more array or object inside the other, so many times.
pub(crate) fn nested(rng: &mut Rng, depth: usize) -> String {
    let (open, close) = *rng.pick(&[("[", "]"), ("{\"a\":", "}")]);
    format!("{}{}{}", open.repeat(depth), if open == "[" { "" } else { "1" }, close.repeat(depth))
}

/// Any JSON, as text: with numbers that no type holds, members that are there twice, and rarely long texts.
pub(crate) fn value(rng: &mut Rng, depth: usize) -> String {
    match rng.below(if depth == 0 { 5 } else { 8 }) {
        0 => "null".to_owned(),
        1 => rng.pick(&["true", "false"]).to_string(),
        2 => number(rng),
        3 if rng.one_in(20) => json!("t".repeat(LONG_TEXT_BYTES)).to_string(),
        3 | 4 => json!(rng.pick(TEXTS)).to_string(),
        5 => {
            let items: Vec<String> = (0..rng.below(4)).map(|_| value(rng, depth - 1)).collect();
            format!("[{}]", items.join(","))
        }
        _ => object(rng, MEMBERS, depth - 1),
    }
}

/// An object with some of these members, some of them twice.
pub(crate) fn object(rng: &mut Rng, names: &[&str], depth: usize) -> String {
    let mut members = Vec::new();
    for _ in 0..rng.below(6) {
        let name = *rng.pick(names);
        let member = match name {
            "HostConfig" if depth > 0 => object(rng, HOST_MEMBERS, depth - 1),
            "Labels" if rng.one_in(2) => labels(rng),
            _ => value(rng, depth),
        };
        members.push(format!("{}:{member}", json!(name)));
    }
    format!("{{{}}}", members.join(","))
}

/// Labels, our own among them, with values that do not fit.
pub(crate) fn labels(rng: &mut Rng) -> String {
    let pairs: Vec<String> = (0..1 + rng.below(5))
        .map(|_| {
            let value = if rng.one_in(3) { *rng.pick(NUMBERS) } else { *rng.pick(TEXTS) };
            format!("{}:{}", json!(rng.pick(LABELS)), json!(value))
        })
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// A number as text: JSON or almost.
pub(crate) fn number(rng: &mut Rng) -> String {
    let number = *rng.pick(NUMBERS);
    if number.trim().is_empty() { "0".to_owned() } else { number.to_owned() }
}
