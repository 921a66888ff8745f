//! The honest containers: what they are, what they print, and how they end.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use sockerless_bootstrap::protocol::{Order, Reason};
use sockerless_lambda::state::model::{ContainerId, life};
use sockerless_sandbox::model::End;
use sockerless_sandbox::script::Program;

use super::daemon::PREFIX;
use super::programs::Bootstrap;
use super::world::{Broken, World};

/// The first word of an honest container's command.
const HONEST: &str = "honest";
/// The most memory that a program uses, in MB.
const MEMORY_MB: u32 = 30;
/// The exit status of those that fail.
const FAILED: u8 = 7;
/// Lines that a program prints.
const LINES: u32 = 4;

/// A kind of honest container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    native: bool,
    event: bool,
    fails: bool,
    lasts_ms: u32,
}

const fn plan(native: bool, event: bool, fails: bool, lasts_ms: u32) -> Plan {
    Plan { native, event, fails, lasts_ms }
}

/// All kinds.
pub(crate) const PLANS: [Plan; 8] = [
    plan(false, false, false, 4_000),
    plan(false, true, false, 3_000),
    plan(true, false, false, 2_000),
    plan(true, true, false, 6_000),
    plan(false, false, true, 500),
    plan(false, true, true, 8_000),
    plan(true, false, true, 5_000),
    plan(true, true, true, 1_000),
];
/// The one whose end is known from the log alone: what a flood hits first.
pub(crate) const EVENT: usize = 1;
/// The one whose end is known only when the log was read beyond it, late lines included: its REPORT says no status.
pub(crate) const SLOW: usize = 3;

impl Plan {
    fn command(self) -> Vec<String> {
        let code = if self.fails { FAILED } else { 0 };
        vec![HONEST.to_owned(), self.lasts_ms.to_string(), code.to_string()]
    }

    fn body(self) -> Value {
        let mut labels = BTreeMap::new();
        if self.event {
            labels.insert("sockerless.lambda.invocation-type", "Event".to_owned());
        }
        if self.native {
            labels.insert("sockerless.lambda.protocol", "native".to_owned());
            labels.insert("sockerless.lambda.payload", json!(self.command()).to_string());
            return json!({ "Image": "host", "Labels": labels });
        }
        json!({ "Image": "host", "Cmd": self.command(), "Labels": labels })
    }

    pub(crate) fn name(self) -> String {
        let protocol = if self.native { "native" } else { "bootstrap" };
        let invocation = if self.event { "event" } else { "response" };
        format!("{protocol} {invocation} {}", if self.fails { "fails" } else { "succeeds" })
    }
}

/// What an honest command says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    lasts_ms: u32,
    code: u8,
}

/// Reads a command; `None`: it is not an honest container's.
pub(crate) fn parse(words: &[String]) -> Option<Play> {
    match words {
        [word, ms, code] if word == HONEST => Some(Play { lasts_ms: ms.parse().ok()?, code: code.parse().ok()? }),
        _ => None,
    }
}

impl Play {
    /// What the function does. `None` for the order: it is native.
    pub(crate) fn program(self, order: Option<&Order>, request_id: &str) -> Program {
        let line = |no: u32| (i64::from(self.lasts_ms * no / LINES), format!("honest line {no}"));
        let Some(order) = order else {
            let end = match self.code {
                0 => End::Response(b"\"done\"".as_slice().into()),
                code => End::Exited { code: i32::from(code) },
            };
            let lines = (0..LINES).map(line).collect();
            return Program { lines, duration_ms: self.lasts_ms, end, max_memory_mb: MEMORY_MB };
        };
        let mut bootstrap = Bootstrap::begin(&order.token, request_id);
        for no in 0..LINES {
            let (at_ms, text) = line(no);
            bootstrap.print(at_ms, no % 2 == 1, format!("{text}\n").as_bytes());
        }
        bootstrap.end(self.lasts_ms, self.code, Reason::Exited, None)
    }
}

/// What a container has printed, by stream.
pub(crate) type Output = BTreeMap<u8, Vec<u8>>;

/// Output for people.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string().chars().take(1_000).collect::<String>();
    output.iter().map(|(stream, bytes)| format!("{stream}: {} bytes, \"{}\"; ", bytes.len(), text(bytes))).collect()
}

/// How an honest container ended, as its owner sees it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    state: String,
    exit_code: i64,
    /// Without request ids.
    error: String,
    /// By stream.
    pub(crate) output: Output,
    invocations: usize,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, exit_code, error, output, invocations } = self;
        let output = shown(output);
        write!(f, "{state}, exit_code: {exit_code}, error: {error:?}, output: {output}, invocations: {invocations}")
    }
}

/// An honest container in a world.
#[derive(Clone, Debug)]
pub(crate) struct Honest {
    pub(crate) plan: usize,
    pub(crate) name: String,
    id: ContainerId,
    started_ms: i64,
    ended_ms: Option<i64>,
    /// Nothing more is looked for in its log.
    log_is_read: bool,
}

impl Honest {
    /// Creates and starts one.
    pub(crate) async fn begin(world: &mut World, plan: usize) -> Result<Self, Broken> {
        world.programs.coverage.count("honest", &PLANS[plan].name());
        let started_ms = world.at_ms();
        let name = format!("honest-{started_ms}-{plan}");
        let path = format!("/containers/create?name={name}");
        let made = world.expect("POST", &path, &PLANS[plan].body().to_string(), 201).await?;
        let id = made["Id"].as_str().and_then(|id| id.parse().ok()).ok_or("a new container without an id")?;
        world.expect("POST", &format!("/containers/{name}/start"), "", 204).await?;
        Ok(Self { plan, name, id, started_ms, ended_ms: None, log_is_read: false })
    }

    /// The name that its function has at first.
    pub(crate) fn function(&self, world: &World) -> String {
        format!("{PREFIX}-{}-{}", world.instance, &self.id.to_string()[..24])
    }

    /// Looks whether it has ended.
    pub(crate) async fn look(&mut self, world: &World) -> Result<(), Broken> {
        if self.is_over() {
            return Ok(());
        }
        let row = world.daemon().reader.container(&self.id).await;
        let row = row.map_err(|error| format!("{} cannot be read: {error}", self.name))?;
        let row = row.ok_or_else(|| format!("{} is gone", self.name))?;
        if matches!(life::life(&row.spec, &row.status), life::Life::Exited(_)) {
            self.ended_ms.get_or_insert(world.at_ms());
            self.log_is_read = row.status.run.is_some_and(|run| run.log_closed);
        }
        Ok(())
    }

    /// The daemon is killed: an answer that was to come does not come any more, and the end is as much as the log says of it.
    pub(crate) fn loses_its_answer(&mut self) {
        let lost = PLANS[self.plan];
        if lost.native && !self.is_over() {
            let is_known_from_its_log = |plan: &&Plan| plan.native && plan.event && plan.fails == lost.fails;
            self.plan = PLANS.iter().position(|plan| is_known_from_its_log(&plan)).expect("a native Event");
        }
    }

    /// Whether it has ended and its log is complete: until then a reader of the log waits, in real time.
    pub(crate) fn is_over(&self) -> bool {
        self.ended_ms.is_some() && self.log_is_read
    }

    /// How long it has taken, or taken so far, in virtual milliseconds.
    pub(crate) fn took_ms(&self, world: &World) -> i64 {
        self.ended_ms.unwrap_or(world.at_ms()) - self.started_ms
    }

    /// How it ended, by the API and by AWS.
    pub(crate) async fn outcome(&self, world: &mut World) -> Result<Outcome, Broken> {
        let seen = world.expect("GET", &format!("/containers/{}/json", self.name), "", 200).await?;
        let state = &seen["State"];
        let path = format!("/containers/{}/logs?stdout=1&stderr=1", self.name);
        let logs = world.ask("GET", &path, "").await?;
        if logs.status() != Some(200) {
            return Err(format!("the logs of {} are answered {:?} {}", self.name, logs.status(), logs.text()));
        }
        let function = self.function(world);
        let invocations = world.sandbox.state().invocations;
        Ok(Outcome {
            state: state["Status"].as_str().unwrap_or_default().to_owned(),
            exit_code: state["ExitCode"].as_i64().unwrap_or(-1),
            error: without_ids(state["Error"].as_str().unwrap_or_default()),
            output: by_stream(&logs.body())?,
            invocations: invocations.iter().filter(|run| run.function.starts_with(&function)).count(),
        })
    }
}

/// A sentence without the request ids in it.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    text.split(' ').map(|word| if is_id(word) { "ID" } else { word }).collect::<Vec<_>>().join(" ")
}

/// Docker's frames, put together by stream.
pub(crate) fn by_stream(mut frames: &[u8]) -> Result<Output, Broken> {
    let mut output = Output::new();
    while let [stream, _, _, _, a, b, c, d, rest @ ..] = frames {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let text = rest.get(..length).ok_or("a frame of output is cut off")?;
        output.entry(*stream).or_default().extend_from_slice(text);
        frames = &rest[length..];
    }
    if frames.is_empty() { Ok(output) } else { Err("bytes behind the last frame of output".to_owned()) }
}
