//! What the containers' programs do: told by their command, behind the bootstrap, in virtual time.
//!
//! A command is `play MILLISECONDS:END…`, one part for each start; the last one is for all further starts. A native
//! function has the same as its payload.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use sockerless_bootstrap::protocol::{Answer, Envelope, Marker, Reason, VERSION, Verdict};
use sockerless_sandbox::model::{End, Handover};
use sockerless_sandbox::script::Program;

/// The first word of every command.
const PLAY: &str = "play";
/// The most memory that a program of ours uses, in MB.
const MEMORY_MB: u32 = 40;
/// What a native runtime says of its failure.
const BROKEN: &str = "Function.Broken";

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plot {
    /// It returns this.
    Exit(u8),
    /// The bootstrap ends it shortly before its time is up.
    Slow,
    /// Its time is up, and nothing of it can say so.
    Hangs,
    /// The environment runs out of memory.
    OutOfMemory,
    /// A native runtime posts an error.
    Broken,
}

impl Plot {
    fn word(self) -> String {
        match self {
            Self::Exit(code) => code.to_string(),
            Self::Slow => "slow".to_owned(),
            Self::Hangs => "hangs".to_owned(),
            Self::OutOfMemory => "memory".to_owned(),
            Self::Broken => "broken".to_owned(),
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "slow" => Self::Slow,
            "hangs" => Self::Hangs,
            "memory" => Self::OutOfMemory,
            "broken" => Self::Broken,
            code => Self::Exit(code.parse().expect("an exit code")),
        }
    }
}

/// The command of a container whose runs go like this: how long, and how they end.
pub(crate) fn command(runs: &[(u32, Plot)]) -> Vec<String> {
    let parts = runs.iter().map(|(ms, plot)| format!("{ms}:{}", plot.word()));
    std::iter::once(PLAY.to_owned()).chain(parts).collect()
}

/// The payload of a native container whose runs go like this.
pub(crate) fn order(runs: &[(u32, Plot)]) -> String {
    serde_json::to_string(&command(runs)).unwrap()
}

/// The stage on which all programs of one account play.
#[derive(Debug, Default)]
pub(crate) struct Programs(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    /// How many starts of each function's container were wished; by the digits in the function's name.
    starts: HashMap<String, usize>,
    /// For which start each token ran first.
    tokens: HashMap<String, usize>,
    /// What each environment has run.
    seen: HashSet<(u64, String)>,
}

impl Programs {
    /// A user wants a container to run for the nth time; `id`: the container's.
    pub(crate) fn wished(&self, id: &str, nth: u64) {
        let mut account = self.0.lock().unwrap();
        account.starts.insert(id[..24].to_owned(), usize::try_from(nth).unwrap());
    }

    /// What a function does with an invocation.
    pub(crate) fn play(&self, handover: &Handover) -> Program {
        let mut account = self.0.lock().unwrap();
        let digits = handover.function.split('-').nth(2).unwrap_or_default();
        let starts = account.starts.get(digits).copied().unwrap_or(1);
        if let Ok(command) = serde_json::from_slice::<Vec<String>>(&handover.payload) {
            let (ms, plot) = part(&command, starts);
            return native(ms, plot);
        }
        let Ok(Envelope { sockerless: order }) = serde_json::from_slice(&handover.payload) else {
            return Program::silent(1);
        };
        let token = order.token;
        if !account.seen.insert((handover.environment, token.clone())) {
            let line = Marker::Duplicate { token: token.clone(), request_id: handover.request_id.clone() }.to_string();
            let end = answer(&token, 0, Reason::Duplicate);
            return Program { lines: vec![(0, line)], end, ..Program::silent(5) };
        }
        let start = *account.tokens.entry(token.clone()).or_insert(starts);
        let (ms, plot) = part(&order.command, start);
        bootstrap(ms, plot, &token, &handover.request_id)
    }
}

/// What a command says of the nth start.
fn part(command: &[String], nth: usize) -> (u32, Plot) {
    let parts = command.get(1..).unwrap_or_default();
    let (ms, plot) = parts.get(nth - 1).or(parts.last()).and_then(|part| part.split_once(':')).expect("a plot");
    (ms.parse().expect("milliseconds"), Plot::parse(plot))
}

/// The program behind a runtime of its own.
fn native(duration_ms: u32, plot: Plot) -> Program {
    let end = match plot {
        Plot::Exit(0) => End::Response(b"\"done\"".as_slice().into()),
        Plot::Exit(code) => End::Exited { code: i32::from(code) },
        Plot::Broken => {
            End::Error { error_type: BROKEN.to_owned(), body: format!("{{\"errorType\":\"{BROKEN}\"}}").into() }
        }
        Plot::OutOfMemory => End::OutOfMemory,
        Plot::Slow | Plot::Hangs => End::TimedOut,
    };
    let duration_ms = if matches!(plot, Plot::Slow | Plot::Hangs) { u32::MAX } else { duration_ms };
    Program { lines: vec![(1, "hello".to_owned())], duration_ms, end, max_memory_mb: MEMORY_MB }
}

fn answer(token: &str, exit_code: u8, reason: Reason) -> End {
    let verdict = Verdict { version: VERSION, token: token.to_owned(), exit_code, reason, signal: None, message: None };
    End::Response(serde_json::to_vec(&Answer { sockerless: verdict }).unwrap().into())
}

/// The program with the bootstrap in front.
fn bootstrap(duration_ms: u32, plot: Plot, token: &str, request_id: &str) -> Program {
    let start = Marker::Start { token: token.to_owned(), request_id: request_id.to_owned() };
    let mut lines = vec![(0, start.to_string()), (1, "hello".to_owned())];
    let told = match plot {
        Plot::Exit(code) => Some((code, Reason::Exited)),
        Plot::Slow => Some((137, Reason::Deadline)),
        Plot::Hangs | Plot::OutOfMemory | Plot::Broken => None,
    };
    let end = match (told, plot) {
        (Some((exit_code, reason)), _) => {
            let exit = Marker::Exit { token: token.to_owned(), exit_code, reason, signal: None };
            lines.push((i64::from(duration_ms), exit.to_string()));
            answer(token, exit_code, reason)
        }
        (None, Plot::OutOfMemory) => End::OutOfMemory,
        (None, _) => End::TimedOut,
    };
    let duration_ms = if plot == Plot::Hangs { u32::MAX } else { duration_ms };
    Program { lines, duration_ms, end, max_memory_mb: MEMORY_MB }
}
