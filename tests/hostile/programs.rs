//! What the functions run. Honest programs do what their command says; a hostile one does what its story has registered.
//!
//! The output of a program behind the bootstrap passes through the bootstrap's own code; that of a native function
//! reaches the log as it is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sockerless_bootstrap::Lines;
use sockerless_bootstrap::protocol::{Answer, Envelope, Marker, Order, Reason, Stream, VERSION, Verdict};
use sockerless_sandbox::model::{End, Handover};
use sockerless_sandbox::script::Program;

use super::coverage::Coverage;
use super::honest::{self, Output};
use super::output::{Ids, Print, Text};
use super::own::print;
use super::rng::Rng;

/// The first word of a hostile container's command; its name follows.
pub(crate) const HOSTILE: &str = "hostile";
/// The most memory that a program uses, in MB.
const MEMORY_MB: u32 = 40;
/// Request ids of honest invocations that hostile programs are given, at most.
const MAX_KNOWN_IDS: usize = 16;
/// The sizes of answers and error bodies, in bytes: the last are more than Lambda takes. The large ones are rare.
const SIZES: &[usize] = &[0, 1, 40, 1_000, 70_000];
const LARGE_SIZES: &[usize] = &[1_000_000, 6_000_000, 6_291_557];
const LARGE_ONE_IN: usize = 40;

/// A hostile container.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Its name, which is part of its command too.
    pub(crate) name: String,
    pub(crate) native: bool,
    pub(crate) event: bool,
    pub(crate) tty: bool,
    pub(crate) restarts: u32,
    pub(crate) auto_remove: bool,
    /// The seed of labels and other members of its body that nobody needs.
    pub(crate) decorated: Option<u64>,
    pub(crate) prints: Vec<Print>,
    pub(crate) lasts_ms: u32,
    pub(crate) ends: Ends,
}

/// How a hostile program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// With this status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
    /// Never: its time is up.
    Hangs,
    OutOfMemory,
    /// An image without the bootstrap answers to the bootstrap's order, whatever follows from this seed.
    Impostor(u64),
    /// A native function answers, with bytes that follow from this seed.
    Answers(u64),
    /// A native function posts an error.
    Fails(u64),
    /// A native function fails before it takes the invocation.
    FailsInInit(u64),
}

/// All kinds of ends, as they are counted.
pub(crate) const ENDS: [&str; 8] =
    ["exit", "signal", "hangs", "out of memory", "impostor", "answers", "fails", "fails in init"];

impl Ends {
    pub(crate) fn drawn(rng: &mut Rng, native: bool) -> Self {
        let seed = rng.next();
        match (rng.below(12), native) {
            (0, _) => Self::Hangs,
            (1, _) => Self::OutOfMemory,
            (2..=3, _) => Self::Signal(i32::try_from(rng.between(1, 64)).unwrap()),
            (4..=5, false) => Self::Impostor(seed),
            (4..=7, true) => Self::Answers(seed),
            (8..=9, true) => Self::Fails(seed),
            (10, true) => Self::FailsInInit(seed),
            _ => Self::Exit(u8::try_from(rng.below(256)).unwrap()),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Exit(_) => ENDS[0],
            Self::Signal(_) => ENDS[1],
            Self::Hangs => ENDS[2],
            Self::OutOfMemory => ENDS[3],
            Self::Impostor(_) => ENDS[4],
            Self::Answers(_) => ENDS[5],
            Self::Fails(_) => ENDS[6],
            Self::FailsInInit(_) => ENDS[7],
        }
    }
}

/// The programs of one account.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    known: Mutex<Known>,
    pub(crate) coverage: Coverage,
}

#[derive(Debug, Default)]
struct Known {
    runs: HashMap<String, Run>,
    /// Of honest invocations.
    request_ids: Vec<String>,
    /// What each run of a program behind the bootstrap has printed, by the container's name.
    printed: HashMap<String, Vec<Output>>,
}

impl Programs {
    /// No program is known yet; what is played is counted here.
    pub(crate) fn new(coverage: Coverage) -> Self {
        Self { known: Mutex::default(), coverage }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hostile container will be started.
    pub(crate) fn register(&self, run: &Run) {
        self.known().runs.insert(run.name.clone(), run.clone());
    }

    /// What each run of a container has printed.
    pub(crate) fn printed(&self, name: &str) -> Vec<Output> {
        self.known().printed.get(name).cloned().unwrap_or_default()
    }

    /// What a function does with an invocation.
    pub(crate) fn play(&self, handover: &Handover) -> Program {
        let order = serde_json::from_slice(&handover.payload).ok().map(|Envelope { sockerless: order }| order);
        let words = match &order {
            Some(order) => order.command.clone(),
            None => serde_json::from_slice(&handover.payload).unwrap_or_default(),
        };
        let mut known = self.known();
        if let Some(play) = honest::parse(&words) {
            if known.request_ids.len() < MAX_KNOWN_IDS {
                known.request_ids.push(handover.request_id.clone());
            }
            return play.program(order.as_ref(), &handover.request_id);
        }
        let run = words.get(1).filter(|_| words[0] == HOSTILE).and_then(|name| known.runs.get(name)).cloned();
        // Whatever a request has asked for.
        let Some(run) = run else { return Program::silent(5) };
        let ids = Ids { own: Some(handover.request_id.clone()), others: known.request_ids.clone() };
        if order.is_some() {
            let mut output = Output::new();
            run.prints.iter().for_each(|printed| print(&mut output, printed.stderr, &printed.bytes(&ids)));
            known.printed.entry(run.name.clone()).or_default().push(output);
        }
        drop(known);
        self.count(&run);
        match &order {
            Some(order) => behind_the_bootstrap(&run, order, &ids),
            None => native(&run, &ids),
        }
    }

    fn count(&self, run: &Run) {
        self.coverage.count("end", run.ends.kind());
        for print in &run.prints {
            if let Text::Drawn(kind, _) = &print.text {
                let by = if run.native { "native output" } else { "output" };
                self.coverage.count(by, &format!("{kind:?}"));
            }
        }
    }
}

fn native(run: &Run, ids: &Ids) -> Program {
    let lines = run.prints.iter().map(|print| {
        let bytes = print.bytes(ids);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        (print.after_ms, String::from_utf8_lossy(line).into_owned())
    });
    let (end, lasts_ms) = match run.ends {
        Ends::Exit(code) => (End::Exited { code: i32::from(code) }, run.lasts_ms),
        Ends::Signal(signal) => (End::Signalled { signal }, run.lasts_ms),
        Ends::Hangs => (End::TimedOut, u32::MAX),
        Ends::OutOfMemory => (End::OutOfMemory, run.lasts_ms),
        Ends::Answers(seed) | Ends::Impostor(seed) => (End::Response(bytes_of(seed, "").into()), run.lasts_ms),
        Ends::Fails(seed) => (End::Error { error_type: error_type(seed), body: error_body(seed).into() }, run.lasts_ms),
        Ends::FailsInInit(seed) => {
            (End::InitError { error_type: error_type(seed), body: error_body(seed).into() }, run.lasts_ms)
        }
    };
    Program { lines: lines.collect(), duration_ms: lasts_ms, end, max_memory_mb: MEMORY_MB }
}

fn behind_the_bootstrap(run: &Run, order: &Order, ids: &Ids) -> Program {
    let token = &order.token;
    let mut bootstrap = Bootstrap::begin(token, ids.own.as_deref().unwrap_or_default());
    for print in &run.prints {
        bootstrap.print(print.after_ms, print.stderr, &print.bytes(ids));
    }
    match run.ends {
        Ends::Hangs => Program { duration_ms: u32::MAX, end: End::TimedOut, ..bootstrap.cut_off() },
        Ends::OutOfMemory => Program { duration_ms: run.lasts_ms, end: End::OutOfMemory, ..bootstrap.cut_off() },
        // It has the order, and with it the token, and prints and answers what it likes.
        Ends::Impostor(seed) => {
            let mut program = Program { duration_ms: run.lasts_ms, ..native(run, ids) };
            program.lines.extend(forged_markers(seed, token).map(|line| (i64::from(run.lasts_ms), line)));
            Program { end: End::Response(bytes_of(seed, token).into()), ..program }
        }
        Ends::Signal(signal) => {
            let code = u8::try_from((128 + signal) & 0xff).unwrap_or_default();
            bootstrap.end(run.lasts_ms, code, Reason::Signalled, Some(signal))
        }
        Ends::Exit(code) => bootstrap.end(run.lasts_ms, code, Reason::Exited, None),
        Ends::Answers(_) | Ends::Fails(_) | Ends::FailsInInit(_) => {
            bootstrap.end(run.lasts_ms, 1, Reason::NotStarted, None)
        }
    }
}

/// The bootstrap in front of a program that is played.
pub(crate) struct Bootstrap {
    token: String,
    stdout: Lines,
    stderr: Lines,
    lines: Vec<(i64, String)>,
}

impl Bootstrap {
    pub(crate) fn begin(token: &str, request_id: &str) -> Self {
        let start = Marker::Start { token: token.to_owned(), request_id: request_id.to_owned() };
        let lines = vec![(0, start.to_string())];
        Self { token: token.to_owned(), stdout: Lines::new(Stream::Stdout), stderr: Lines::new(Stream::Stderr), lines }
    }

    /// The program writes bytes.
    pub(crate) fn print(&mut self, at_ms: i64, stderr: bool, bytes: &[u8]) {
        let output = if stderr { &mut self.stderr } else { &mut self.stdout };
        let lines = &mut self.lines;
        output.push(bytes, |line| lines.push((at_ms, in_the_log(line))));
    }

    fn finish(&mut self, at_ms: i64) {
        for output in [&mut self.stdout, &mut self.stderr] {
            let lines = &mut self.lines;
            output.finish(|line| lines.push((at_ms, in_the_log(line))));
        }
    }

    /// The program has ended.
    pub(crate) fn end(mut self, after_ms: u32, exit_code: u8, reason: Reason, signal: Option<i32>) -> Program {
        self.finish(i64::from(after_ms));
        let token = self.token.clone();
        let exit = Marker::Exit { token: token.clone(), exit_code, reason, signal };
        self.lines.push((i64::from(after_ms), exit.to_string()));
        let verdict = Verdict { version: VERSION, token, exit_code, reason, signal, message: None };
        let end = End::Response(serde_json::to_vec(&Answer { sockerless: verdict }).unwrap().into());
        Program { lines: self.lines, duration_ms: after_ms, end, max_memory_mb: MEMORY_MB }
    }

    /// The program and the bootstrap were killed.
    fn cut_off(self) -> Program {
        Program { lines: self.lines, ..Program::silent(0) }
    }
}

fn in_the_log(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()
}

/// Markers of one's own run that make no sense.
fn forged_markers(seed: u64, token: &str) -> impl Iterator<Item = String> {
    let mut rng = Rng::stream(seed, 3);
    let rest = ["0 exited", "999 exited", "-1 exited", "7 signalled 99999999999", "0 duplicate", "3 exited extra"];
    (0..rng.below(4)).map(|_| format!("@sockerless:exit {token} {}", rng.pick(&rest))).collect::<Vec<_>>().into_iter()
}

/// What a function answers: any bytes, or JSON that almost means something.
fn bytes_of(seed: u64, token: &str) -> Vec<u8> {
    let mut rng = Rng::stream(seed, 4);
    let size = if rng.one_in(LARGE_ONE_IN) { *rng.pick(LARGE_SIZES) } else { *rng.pick(SIZES) };
    let fill = |bytes: usize, word: &str| word.repeat(bytes / word.len() + 1)[..bytes].to_owned();
    match rng.below(8) {
        0 => (0..size.min(1_000)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect(),
        1 => format!("\"{}\"", fill(size, "\\u0000")).into_bytes(),
        2 => format!("\"{}\"", fill(size, "x")).into_bytes(),
        3 => "[".repeat(size).into_bytes(),
        4 => format!("{{\"sockerless\":{{\"version\":1,\"token\":\"{token}\",\"exit_code\":300}}}}").into_bytes(),
        5 => format!(
            "{{\"sockerless\":{{\"version\":99,\"token\":\"{token}\",\"exit_code\":3,\"reason\":\"not_started\",\"message\":\"{}\"}}}}",
            fill(size, "m")
        )
        .into_bytes(),
        6 => format!("{{\"a\":1,\"a\":{}}}", rng.pick(super::output::NUMBERS)).into_bytes(),
        _ => fill(size, "\u{1}").into_bytes(),
    }
}

fn error_type(seed: u64) -> String {
    let mut rng = Rng::stream(seed, 5);
    let types =
        ["", "Function.Broken", "Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "\u{0}\r\nX: y"];
    match rng.below(8) {
        0 => "T".repeat(100_000),
        _ => (*rng.pick(&types)).to_owned(),
    }
}

fn error_body(seed: u64) -> Vec<u8> {
    let mut rng = Rng::stream(seed, 6);
    let words = [
        "Runtime exited with error: exit status 0",
        "Runtime exited with error: exit status 77",
        "Task timed out after 1e999 seconds",
        "Runtime exited: signal: killed",
        "\u{0}\u{1}\u{1b}[31m",
    ];
    let size = if rng.one_in(LARGE_ONE_IN) { *rng.pick(LARGE_SIZES) } else { *rng.pick(SIZES) };
    let message = match rng.below(3) {
        0 => "m".repeat(size),
        1 => "\u{1}".repeat(size / 6),
        _ => (*rng.pick(&words)).to_owned(),
    };
    match rng.below(6) {
        0 => bytes_of(seed, ""),
        1 => b"{\"errorType\":1,\"errorMessage\":[]}".to_vec(),
        _ => serde_json::json!({ "errorType": error_type(seed), "errorMessage": message, "stackTrace": [] })
            .to_string()
            .into_bytes(),
    }
}
