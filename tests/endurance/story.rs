//! What becomes of one container: drawn from the seed, the same in every telling.

use std::path::Path;

use serde_json::{Value, json};

use crate::native;
use crate::rng::Rng;

/// What its user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// Created, started, waited for, removed.
    Once,
    /// The same, with a second start before the removal.
    Twice,
    /// Created and removed.
    NeverStarted,
    /// Removed by force when the program is known to run.
    RemovedWhileRunning,
    /// Removed by force right after the start.
    RemovedAtOnce,
    /// Stopped right after the start: perhaps before the invocation, perhaps after.
    StoppedAtOnce,
    /// Removes itself after its end.
    AutoRemoved,
}

/// What its program does, after it has noted that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Takes so many milliseconds, and exits so.
    Exits { after_ms: u64, code: i64 },
    /// Is ended by a signal of its own.
    Crashes,
    /// Takes longer than its function may.
    TooLong,
}

/// A container to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) story: Story,
    pub(crate) program: Program,
    /// The user waits until the function can be invoked before starting: then the start leads to the invocation at once.
    pub(crate) ready_first: bool,
    native: bool,
    event: bool,
}

const STORIES: &[(u64, Story)] = &[
    (40, Story::Once),
    (15, Story::Twice),
    (7, Story::NeverStarted),
    (10, Story::RemovedWhileRunning),
    (8, Story::RemovedAtOnce),
    (10, Story::StoppedAtOnce),
    (10, Story::AutoRemoved),
];
const NATIVE_CODES: &[i64] = &[0, 0, 1, 3, 7];
const CODES: &[i64] = &[0, 0, 1, 3, 42, 126, 254];

impl Plan {
    pub(crate) fn draw(seed: u64, number: u64) -> Self {
        let mut rng = Rng::of(seed, number);
        let story = rng.weighted(STORIES);
        let native = rng.percent(30);
        let event = rng.percent(50);
        let code = rng.pick(if native { NATIVE_CODES } else { CODES });
        let after_ms = match story {
            Story::RemovedWhileRunning => 2_000,
            _ => rng.pick(&[0, 0, 50, 200, 700, 1_500]),
        };
        let program = match (story, rng.below(100)) {
            (Story::RemovedWhileRunning | Story::StoppedAtOnce, _) | (_, 16..) => Program::Exits { after_ms, code },
            (_, 0..8) if !native => Program::Crashes,
            _ => Program::TooLong,
        };
        Self { name: format!("c{number}"), story, program, ready_first: rng.percent(50), native, event }
    }

    /// What the program's end must be told as.
    pub(crate) fn code(&self) -> i64 {
        match self.program {
            Program::Exits { code, .. } => code,
            Program::Crashes => 139,
            Program::TooLong => 137,
        }
    }

    /// Whether its end is told as 1 for want of anything better: a REPORT with a status tells that a native function has
    /// failed, and not with which code. Only the answer does, and events have none, and answers get lost.
    pub(crate) fn may_be_told_as(&self, code: i64) -> bool {
        let fails = matches!(self.program, Program::Exits { code: 1.., .. });
        self.native && fails && code == 1
    }

    /// The protocol and the kind of invocation, for reports.
    pub(crate) fn way(&self) -> &'static str {
        match (self.native, self.event) {
            (false, false) => "bootstrap, RequestResponse",
            (false, true) => "bootstrap, Event",
            (true, false) => "native, RequestResponse",
            (true, true) => "native, Event",
        }
    }

    /// The body of its creation. Each run adds a line to the file.
    pub(crate) fn body(&self, ran: &Path) -> Value {
        let end = match self.program {
            Program::Exits { after_ms, code } => {
                format!("sleep {}.{:03}; exit {code}", after_ms / 1_000, after_ms % 1_000)
            }
            Program::Crashes => "kill -SEGV $$".to_owned(),
            Program::TooLong => "sleep 60".to_owned(),
        };
        let script = format!("echo ran >> {}; echo out; {end}", ran.display());
        let timeout = if self.program == Program::TooLong { "2" } else { "20" };
        let mut body = json!({
            "Image": "host",
            "Cmd": ["sh", "-c", script],
            "Labels": {
                "sockerless.lambda.timeout": timeout,
                "sockerless.lambda.memory": "128",
                "sockerless.lambda.invocation-type": if self.event { "Event" } else { "RequestResponse" },
                "sockerless.lambda.protocol": if self.native { "native" } else { "bootstrap" },
            },
            "HostConfig": { "AutoRemove": self.story == Story::AutoRemoved },
        });
        if self.native {
            body["Entrypoint"] = json!([std::env::current_exe().unwrap()]);
            body["Cmd"] = json!([native::COMMAND, script]);
        }
        body
    }
}
