//! The whole account at a glance, for tests and for the admin surface.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lambda_api::InvocationType;
use super::{Model, Operation};

/// What there is at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// When it was taken.
    pub now_ms: i64,
    /// In the order of their names.
    pub functions: Vec<FunctionState>,
    /// Ended tries in the order of their ends, then what is queued or running.
    pub invocations: Vec<InvocationState>,
    /// Calls by operation, refused ones too.
    pub calls: BTreeMap<Operation, u64>,
    /// Environments that are running.
    pub environments: usize,
    /// By log group.
    pub log_streams: BTreeMap<String, usize>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionState {
    /// Its name.
    pub name: String,
    /// As GetFunction would give it.
    pub state: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What became of an invocation, or of one try of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvocationStatus {
    /// Not started yet.
    Queued,
    /// Started.
    Running,
    /// Ended without a function error.
    Succeeded,
    /// Ended with a function error.
    Failed,
    /// Never started: too old, or its function is gone.
    Dropped,
}

/// An invocation, or one try of an Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvocationState {
    /// Its id.
    pub request_id: String,
    /// The function's name.
    pub function: String,
    /// How it was invoked.
    pub kind: InvocationType,
    /// What became of it.
    pub status: InvocationStatus,
    /// The number of the try, from 1.
    pub attempt: u32,
    /// When it was taken, in milliseconds since the epoch, as all times here.
    pub accepted_at_ms: i64,
    /// When it was handed to an environment.
    pub start_ms: Option<i64>,
    /// When it ended.
    pub end_ms: Option<i64>,
    /// The exit code that the bootstrap answered.
    pub exit: Option<i32>,
    /// Why it failed.
    pub error_type: Option<String>,
    /// The token in the order to the bootstrap.
    pub token: Option<String>,
}

impl Model {
    /// What there is now. Costs as much as there is, but for log events.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let functions = self.functions.live.values().map(|function| FunctionState {
            name: function.name.clone(),
            state: function.state(self.now, self.settings.timing.inactive_after).0.to_owned(),
            tags: function.tags.clone(),
        });
        let live = self.invocations.live.values().map(|invocation| {
            let running = invocation.started_at.is_some();
            invocation.state(if running { InvocationStatus::Running } else { InvocationStatus::Queued })
        });
        Snapshot {
            now_ms: self.now,
            functions: functions.collect(),
            invocations: self.invocations.ended.iter().cloned().chain(live).collect(),
            calls: self.calls.clone(),
            environments: self.environments.all.len(),
            log_streams: self.logs.groups.iter().map(|(name, group)| (name.clone(), group.streams.len())).collect(),
        }
    }
}
