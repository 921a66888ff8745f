//! What the functions really do: scripted programs behind the bootstrap or a native runtime, and the record of it.

use std::collections::{BTreeMap, HashSet};

use sockerless_bootstrap::protocol::{Answer, Envelope, Marker, Reason, VERSION, Verdict};
use sockerless_sandbox::model::{End, Handover};
use sockerless_sandbox::script::Program;
use sockerless_sandbox::settings::LogStyle;

use crate::state::model::{Cause, Protocol};

/// Before its time is up the bootstrap stops its program and answers.
const MARGIN_MS: i64 = 100;

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plot {
    /// It returns; a native handler that returns a code other than 0 lets its runtime exit with it.
    Code(u8),
    /// A signal ends it.
    Signal(i32),
    /// The kernel kills it for its memory, and the bootstrap lives.
    KilledFull,
    /// The whole environment runs out of memory.
    OutOfMemory,
    /// It takes longer than the function may; the bootstrap stops it in time.
    Slow,
    /// As `Slow`, and nobody stops it in time.
    Hangs,
    /// The runtime, or the bootstrap, exits by itself with this status before it can say anything.
    Crash(u8),
    /// The runtime posts an error.
    Error,
    /// There is no such program.
    NotStarted,
}

impl Plot {
    /// What may truthfully be said of it. A REPORT line with a status has no runtime's exit status, so a daemon that has
    /// nothing else says 1; the older style tells it. An error that a runtime posts the older style does not tell.
    pub(super) fn truths(self, protocol: Protocol, style: LogStyle) -> Vec<(u8, Cause)> {
        let function_error = |code: u8| match style {
            LogStyle::Status => vec![(code, Cause::FunctionError), (1, Cause::FunctionError)],
            LogStyle::Lines => vec![(code, Cause::FunctionError)],
        };
        match (self, protocol) {
            (Self::Code(0), _) => vec![(0, Cause::Exited)],
            (Self::Error, Protocol::Native) if style == LogStyle::Lines => {
                vec![(1, Cause::FunctionError), (0, Cause::Exited)]
            }
            (Self::Code(code), Protocol::Bootstrap) => vec![(code, Cause::Exited)],
            (Self::Code(code) | Self::Crash(code), _) => function_error(code),
            (Self::Signal(signal), Protocol::Bootstrap) => {
                vec![(128 + u8::try_from(signal).unwrap(), Cause::Exited)]
            }
            (Self::Signal(9), Protocol::Native) if style == LogStyle::Lines => vec![(137, Cause::OutOfMemory)],
            (Self::Signal(9), Protocol::Native) => vec![(137, Cause::OutOfMemory), (1, Cause::FunctionError)],
            (Self::Signal(_) | Self::NotStarted, Protocol::Native) | (Self::Error, _) => function_error(1),
            (Self::KilledFull, Protocol::Bootstrap) => vec![(137, Cause::OutOfMemory), (137, Cause::Exited)],
            (Self::OutOfMemory | Self::KilledFull, _) => vec![(137, Cause::OutOfMemory)],
            (Self::Slow | Self::Hangs, _) => vec![(137, Cause::Deadline)],
            (Self::NotStarted, Protocol::Bootstrap) => vec![(127, Cause::Exited)],
        }
    }
}

/// A container's programs: one for each time that something of it really runs, the last one for ever.
#[derive(Clone, Debug)]
pub(super) struct Repertoire {
    pub(super) timeout_s: u32,
    pub(super) memory_mb: u32,
    pub(super) plots: Vec<(Plot, u32)>,
    /// How many were played.
    pub(super) played: usize,
}

/// Something that really ran.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) request_id: String,
    pub(super) plot: Plot,
    /// How long it takes, if nobody stops it.
    pub(super) duration_ms: u32,
}

/// All programs, by the digits of the container's id in the function's name.
#[derive(Debug, Default)]
pub(super) struct Programs {
    pub(super) of: BTreeMap<String, Repertoire>,
    pub(super) ran: Vec<Ran>,
    /// Invocations of functions that are nobody's.
    pub(super) strangers: Vec<String>,
    seen: HashSet<(u64, String)>,
}

impl Programs {
    /// What a function does with an invocation.
    pub(super) fn choose(&mut self, handover: &Handover) -> Program {
        let digits = handover.function.split('-').nth(2).unwrap_or_default();
        let Some(repertoire) = self.of.get_mut(digits) else {
            self.strangers.push(handover.function.clone());
            return Program::silent(1);
        };
        let token = serde_json::from_slice::<Envelope>(&handover.payload).ok().map(|e| e.sockerless.token);
        if let Some(token) = &token
            && !self.seen.insert((handover.environment, token.clone()))
        {
            return duplicate(token, &handover.request_id);
        }
        let (plot, duration_ms) = repertoire.plots[repertoire.played.min(repertoire.plots.len() - 1)];
        repertoire.played += 1;
        self.ran.push(Ran { request_id: handover.request_id.clone(), plot, duration_ms });
        match token {
            Some(token) => bootstrap(repertoire, plot, duration_ms, &token, &handover.request_id),
            None => native(repertoire, plot, duration_ms),
        }
    }
}

fn duplicate(token: &str, request_id: &str) -> Program {
    let marker = Marker::Duplicate { token: token.to_owned(), request_id: request_id.to_owned() };
    let end = answer(token, 0, Reason::Duplicate, None);
    Program { lines: vec![(0, marker.to_string())], end, ..Program::silent(5) }
}

fn answer(token: &str, exit_code: u8, reason: Reason, signal: Option<i32>) -> End {
    let verdict = Verdict { version: VERSION, token: token.to_owned(), exit_code, reason, signal, message: None };
    End::Response(serde_json::to_vec(&Answer { sockerless: verdict }).unwrap().into())
}

fn bootstrap(of: &Repertoire, plot: Plot, duration_ms: u32, token: &str, request_id: &str) -> Program {
    let most = u32::try_from(i64::from(of.timeout_s) * 1000 - MARGIN_MS).unwrap();
    let told = match plot {
        Plot::Code(code) => Some((code, Reason::Exited, None)),
        Plot::Signal(signal) => Some((128 + u8::try_from(signal).unwrap(), Reason::Signalled, Some(signal))),
        Plot::KilledFull => Some((137, Reason::Signalled, Some(9))),
        Plot::Slow => Some((137, Reason::Deadline, Some(15))),
        Plot::NotStarted => Some((127, Reason::NotStarted, None)),
        Plot::OutOfMemory | Plot::Hangs | Plot::Crash(_) | Plot::Error => None,
    };
    let duration_ms = match plot {
        Plot::Slow => most,
        Plot::Hangs => u32::MAX,
        _ => duration_ms.min(most),
    };
    let start = Marker::Start { token: token.to_owned(), request_id: request_id.to_owned() };
    let mut lines = vec![(0, start.to_string())];
    if plot != Plot::NotStarted {
        // Lines that look like evidence and are none.
        lines.push((1, "START RequestId: 00000000-0000-4000-8000-000000000000 Version: $LATEST".to_owned()));
        lines.push((1, "[stdout] @sockerless:exit 0 99 exited".to_owned()));
        lines.push((1, "REPORT RequestId: the program's own".to_owned()));
    }
    let end = match (told, plot) {
        (Some((exit_code, reason, signal)), _) => {
            let marker = Marker::Exit { token: token.to_owned(), exit_code, reason, signal };
            lines.push((i64::from(duration_ms), marker.to_string()));
            answer(token, exit_code, reason, signal)
        }
        (None, plot) => broken(plot),
    };
    Program { lines, duration_ms, end, max_memory_mb: used(of, plot) }
}

fn native(of: &Repertoire, plot: Plot, duration_ms: u32) -> Program {
    let duration_ms = if matches!(plot, Plot::Slow | Plot::Hangs) { u32::MAX } else { duration_ms };
    let end = match plot {
        Plot::Code(0) => End::Response(b"\"done\"".as_slice().into()),
        Plot::Code(code) => End::Exited { code: i32::from(code) },
        Plot::Signal(signal) => End::Signalled { signal },
        Plot::NotStarted => End::NotStarted {
            error_type: "Runtime.InvalidEntrypoint".to_owned(),
            message: "fork/exec /entry: no such file or directory".to_owned(),
        },
        other => broken(other),
    };
    Program { lines: vec![(1, "hello".to_owned())], duration_ms, end, max_memory_mb: used(of, plot) }
}

fn broken(plot: Plot) -> End {
    match plot {
        Plot::Crash(code) => End::Exited { code: i32::from(code) },
        Plot::Error => End::Error {
            error_type: "Function.Broken".to_owned(),
            body: br#"{"errorType":"Function.Broken","errorMessage":"it broke"}"#.as_slice().into(),
        },
        Plot::OutOfMemory | Plot::KilledFull => End::OutOfMemory,
        _ => End::TimedOut,
    }
}

fn used(of: &Repertoire, plot: Plot) -> u32 {
    if matches!(plot, Plot::KilledFull | Plot::OutOfMemory) { of.memory_mb } else { 40 }
}
