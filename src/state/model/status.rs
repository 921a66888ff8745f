//! What was observed of a container. Written by the reconciler only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::InvocationKind;
use crate::clock::Timestamp;

/// Everything that is known about one container in AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The generation of the wish that was last planned for.
    pub observed_generation: u64,
    /// How many functions this container has had before: part of the function's name.
    pub incarnation: u32,
    /// The function, as far as we know.
    pub function: Known<Function>,
    /// When the last CreateFunction was sent: until a minute later "not found" proves nothing.
    pub create_sent_at: Option<Timestamp>,
    /// The function was seen since that create was sent.
    #[serde(default)]
    pub function_seen: bool,
    /// When the function was first not found since it was last seen.
    pub missing_since: Option<Timestamp>,
    /// The function must be replaced by one of a new name before the next run.
    pub retire: bool,
    /// The latest run that was wanted and taken up.
    pub run: Option<Run>,
    /// An earlier run than `run` may go on until then, although it counts as ended.
    #[serde(default)]
    pub busy_until: Option<Timestamp>,
    /// When that was noted.
    #[serde(default)]
    pub busy_since: Option<Timestamp>,
    /// The last invocation, while its log is looked for although a later start has ended without a run of its own.
    #[serde(default)]
    pub last_issued: Option<LastIssued>,
    /// How often the current start was run again by the restart policy.
    pub restarts: u32,
    /// How often the current start was run again because nobody could tell how its run ended.
    #[serde(default)]
    pub reruns: u32,
    /// Request ids of earlier runs, latest last: a log line of theirs is never taken for one of the current run.
    pub past_request_ids: Vec<String>,
    /// Log streams in which this container's output was seen, in the order in which they were seen.
    pub log_streams: Vec<String>,
    /// What failed last, and when it is tried again.
    pub retry: Retry,
    /// Functions that Lambda took and could not make active.
    #[serde(default)]
    pub function_failures: FunctionFailures,
    /// Since when the reconciler has removed the container by itself (`--rm`).
    pub auto_removed: Option<Timestamp>,
    /// An answer came, but in five minutes no line of the run appeared in the log.
    pub logs_missing: bool,
}

impl Status {
    /// The function of the last invocation whose lines can be distinguished, and when it was invoked.
    #[must_use]
    pub fn last_invocation(&self) -> Option<(&str, Timestamp)> {
        let of_run = self.run.as_ref().and_then(|run| run.issued.as_ref());
        let of_run = of_run.map(|issued| (issued.function_name.as_str(), issued.at));
        of_run.or_else(|| self.last_issued.as_ref().map(|last| (last.function_name.as_str(), last.at)))
    }
}

/// Observing is three-valued: only `Absent` and `Is` are knowledge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known<T> {
    /// Surely not there.
    #[default]
    Absent,
    /// Nobody knows: something was sent and not answered, or an answer may be stale.
    Maybe,
    /// There, and seen like this.
    Is(T),
}

/// A Lambda function as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Whether it can be invoked.
    pub state: FunctionState,
    /// An update is still being carried out.
    pub updating: bool,
    /// The settings that are not as wanted, by AWS's field names.
    pub drift: Vec<String>,
    /// The asynchronous invocation settings were put (no retries, maximum age) since the function was made.
    pub event_config: bool,
    /// The digest that the image's tag meant when the function was made.
    pub resolved_image: Option<String>,
    /// When it was looked at.
    pub seen_at: Timestamp,
}

/// Lambda's `State`, as far as a decision depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionState {
    /// Being made: nothing can be done with it yet.
    Pending,
    /// Can be invoked.
    Active,
    /// Idle for weeks: the first invocation is refused and wakes it.
    Inactive,
    /// Will never be active, or never as it should be: its last update failed.
    Failed {
        /// Lambda's `StateReasonCode` or `LastUpdateStatusReasonCode`.
        code: String,
        /// Lambda's `StateReason` or `LastUpdateStatusReason`.
        reason: String,
    },
    /// Any other: wait.
    Other(String),
}

/// One wanted execution of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Counts this container's runs from 1.
    pub no: u64,
    /// The start that wanted it.
    pub start: u64,
    /// Frozen when the intent to invoke was committed; `None`: the run was given up before.
    pub issued: Option<Issued>,
    /// Lambda's id of the invocation, as soon as it is known.
    pub request_id: Option<String>,
    /// The log stream that its lines were seen in.
    pub log_stream: Option<String>,
    /// How far it has come.
    pub phase: RunPhase,
    /// Where the program was seen to start, as `stream@milliseconds`: more than one means that it really ran again.
    #[serde(default)]
    pub starts_seen: Vec<String>,
    /// How often Lambda was seen to really run it once more.
    pub second_runs: u32,
    /// The end of the log that came with the answer.
    pub tail: Option<LogTail>,
    /// What the function answered, at most 64 KiB.
    pub result: Option<String>,
    /// The first REPORT line of the run that was read. `Some`: the invocation is over, and nothing of it is written any
    /// more; lines of it may still be on their way.
    pub report: Option<Report>,
    /// Nothing more of this run is looked for in the log.
    #[serde(default)]
    pub log_closed: bool,
}

impl Run {
    /// A run of which nothing was seen yet.
    #[must_use]
    pub fn new(no: u64, start: u64, issued: Option<Issued>, phase: RunPhase) -> Self {
        Self {
            no,
            start,
            issued,
            request_id: None,
            log_stream: None,
            phase,
            starts_seen: Vec::new(),
            second_runs: 0,
            tail: None,
            result: None,
            report: None,
            log_closed: false,
        }
    }
}

/// What was frozen when the intent to invoke was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Names the run towards the bootstrap.
    pub token: String,
    /// How it was invoked.
    pub kind: InvocationKind,
    /// The function that was invoked.
    pub function_name: String,
    /// When.
    pub at: Timestamp,
    /// The run has surely ended by then.
    pub deadline: Timestamp,
}

/// What is looked for of an invocation that is not the current run's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastIssued {
    /// The function that was invoked.
    pub function_name: String,
    /// When.
    pub at: Timestamp,
    /// When the log was read to here, nothing more is to be expected.
    pub looked_for_until: Timestamp,
}

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// The invocation was surely refused: nothing ran, and it is issued again.
    Refused,
    /// The intent is committed: it may be running, whatever else is known.
    Issued,
    /// Lambda has the event in its queue.
    Accepted {
        /// When Lambda said so.
        at: Timestamp,
    },
    /// The program was seen to start.
    Running {
        /// When it started, by AWS's clock.
        since: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// 0 to 255.
    pub code: u8,
    /// Why.
    pub cause: Cause,
    /// A sentence for people; empty when the program simply returned.
    pub message: String,
    /// When the program started; `None`: it never did, or nobody saw it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The program, or the handler, returned.
    Exited,
    /// The function failed: its error tells how.
    FunctionError,
    /// The time was up.
    Deadline,
    /// The memory was not enough.
    OutOfMemory,
    /// `stop` or `kill` came before the run was issued.
    Cancelled,
    /// It could not be run, for good.
    NeverRan,
    /// Nobody can tell.
    Unknown,
}

/// The last lines of a run's log, as they came with the answer (`LogType: Tail`), at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    /// The text, platform lines and all.
    pub text: String,
    /// It holds the run's START and REPORT: it is the whole log.
    pub complete: bool,
}

/// A REPORT line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it was first read, by our clock.
    pub seen_at: Timestamp,
    /// When it was written, by AWS's clock.
    #[serde(default)]
    pub at: Timestamp,
    /// The log stream it stands in.
    #[serde(default)]
    pub stream: String,
    /// What it says of the end.
    #[serde(default)]
    pub status: ReportStatus,
    /// Microseconds the handler took, at most [`super::lambda_log::MAX_DURATION_US`] as the other durations.
    pub duration_us: u64,
    /// Microseconds that are paid for.
    pub billed_us: u64,
    /// Microseconds of a cold start.
    pub init_us: Option<u64>,
    /// MB the function has, at most [`super::lambda_log::MAX_MEMORY_MB`].
    pub memory_mb: u32,
    /// MB it used at most, within the same bound.
    pub max_memory_mb: u32,
}

/// The `Status` of a REPORT line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportStatus {
    /// There is none. That is how a success looks, and in the older style of the log a failure too: its line comes
    /// beside the REPORT.
    #[default]
    Untold,
    /// The handler returned.
    Success,
    /// The time was up.
    Timeout,
    /// The function failed.
    Error {
        /// `Error Type`, such as `Runtime.ExitError`; empty if there is none.
        error_type: String,
    },
}

/// What failed last, and when it is tried again. Survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Failures of the same kind and action in a row.
    pub attempts: u32,
    /// When that row began.
    pub since: Option<Timestamp>,
    /// Nothing is tried before.
    pub not_before: Option<Timestamp>,
    /// The last failure of the row.
    pub failure: Option<Failure>,
    /// Failures of any kind since the last success: the pause grows with them.
    #[serde(default)]
    pub failures: u32,
    /// The condition that is waited for only for a bounded time. Throttling and lost answers in between do not end the
    /// wait: they say nothing about it.
    #[serde(default)]
    pub bounded: Option<BoundedWait>,
}

/// Functions of a container that failed one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFailures {
    /// How many, since one was active or something new was wanted.
    pub count: u32,
    /// When the create of the one that was counted last was sent: a function is counted once.
    pub counted_for: Option<Timestamp>,
}

/// A condition of AWS that passes, or has to be mended by somebody, within a bounded time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundedWait {
    /// The failure that stands for it.
    pub kind: FailureKind,
    /// When it was met first.
    pub since: Timestamp,
}

/// A failed action on AWS, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The action's name, such as `CreateFunction`.
    pub action: String,
    /// AWS's words, with context.
    pub message: String,
    /// AWS's request id.
    pub request_id: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Trying again cannot help while the wish stays as it was in this generation.
    pub terminal_for: Option<u64>,
}

/// How long a start is refused after Lambda has said for the last time that the image does not exist; a later start looks
/// for the image again. Long enough for the client that has just created the container, short enough for somebody who
/// pushes the image and starts again.
pub const IMAGE_ABSENCE_HOLDS: Duration = Duration::from_secs(60);

impl Failure {
    /// Whether a start is refused: only a new container can help, or the image was missing a moment ago.
    #[must_use]
    pub fn refuses_start(&self, now: Timestamp) -> bool {
        let is_recent = self.at <= now && now.since(self.at) < IMAGE_ABSENCE_HOLDS;
        self.terminal_for.is_some()
            && match self.kind {
                FailureKind::InvalidParameter | FailureKind::TooLarge => true,
                FailureKind::ImageNotFound => is_recent,
                _ => false,
            }
    }
}

/// The kinds of failure that lead to different answers or decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The rights are missing.
    AccessDenied,
    /// The thing is not there.
    NotFound,
    /// Something else is going on with the thing.
    Conflict,
    /// Too many requests.
    Throttled,
    /// AWS refuses a parameter: only another container can help.
    InvalidParameter,
    /// The request is too large: only another container can help.
    TooLarge,
    /// The role cannot be assumed (yet).
    RoleNotReady,
    /// Something else that the function depends on cannot be used (yet).
    DependencyNotReady,
    /// The image is not in its repository.
    ImageNotFound,
    /// AWS refuses it for a reason outside the container: a later start may help.
    Refused,
    /// Lambda took the function and could not make it active: a later start makes it again.
    FunctionFailed,
    /// AWS cannot be reached, or does not know who we are.
    Unreachable,
    /// AWS failed.
    ServiceError,
    /// The answer did not come, or could not be understood: it may have happened.
    NoAnswer,
}
