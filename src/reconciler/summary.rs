//! What a pass did, or would do, in numbers and sentences. PURE.

use serde::Serialize;

use super::plan::Action;
use super::tally::Done;
use crate::state::model::Container;

/// What became of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is left to do.
    Converged,
    /// Something is left to do, or a dry run has found something to do.
    WorkLeft,
    /// It did not go through.
    Error,
}

/// What a pass did; of a dry run: what it would do next.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Functions that were made.
    pub created: u64,
    /// Functions that were put back as wanted.
    pub updated: u64,
    /// Runs that were invoked.
    pub invoked: u64,
    /// Runs of which the end was learned.
    pub settled: u64,
    /// Functions that were deleted, orphans too.
    pub deleted: u64,
    /// Functions that were left to their users.
    pub released: u64,
    /// Actions that were tried once more after a failure, also one before this pass.
    pub retried: u64,
    /// What is left to do; of a dry run: what it has found to do.
    pub left: usize,
    /// Runs that have no end yet. They go on by themselves.
    pub running: usize,
    /// Functions without a container that were not seen often or long enough yet.
    pub orphans_waiting: usize,
    /// Functions without a container that are kept: not surely ours.
    pub orphans_kept: usize,
    /// Calls of AWS that were made.
    pub aws_calls: u64,
    /// How long it took.
    pub seconds: f64,
    /// What is to be done, one action each: of a dry run only.
    pub plan: Vec<Step>,
    /// What was not done, and why.
    pub left_work: Vec<LeftOver>,
    /// Why it did not go through.
    pub errors: Vec<String>,
}

impl Summary {
    /// What became of the pass.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.errors.is_empty(), self.left) {
            (false, _) => Outcome::Error,
            (true, 0) => Outcome::Converged,
            (true, _) => Outcome::WorkLeft,
        }
    }

    pub(super) fn count(&mut self, done: Done) {
        self.created = done.created;
        self.updated = done.updated;
        self.invoked = done.invoked;
        self.settled = done.settled;
        self.deleted = done.deleted;
        self.released = done.released;
        self.retried = done.retried;
    }

    /// Counts what a step would do.
    pub(super) fn count_step(&mut self, step: &Step) {
        match step.action {
            "CreateFunction" => self.created += 1,
            "UpdateFunction" => self.updated += 1,
            "Invoke" => self.invoked += 1,
            SETTLE => self.settled += 1,
            "DeleteFunction" => self.deleted += 1,
            "UntagResource" => self.released += 1,
            _ => {}
        }
        self.retried += u64::from(step.again);
    }

    pub(super) fn leave(&mut self, container: Option<&Container>, because: impl Into<String>) {
        self.left += 1;
        self.left_work.push(LeftOver {
            container: container.map(|container| container.id.to_string()),
            name: container.map(|container| container.name.clone()),
            because: because.into(),
        });
    }
}

/// The action of a step that learns how a run ended.
pub(super) const SETTLE: &str = "Settle";

/// One action that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name.
    pub action: &'static str,
    /// What it is done to: a function's name, a log group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why.
    pub because: String,
    /// The action has failed before.
    pub again: bool,
}

impl Step {
    /// A step that concerns no container.
    pub(super) fn new(action: &'static str, on: &str, because: impl Into<String>) -> Self {
        Self { action, on: Some(on.to_owned()), container: None, name: None, because: because.into(), again: false }
    }

    /// A step for a container.
    pub(super) fn of(container: &Container, action: &'static str, because: impl Into<String>) -> Self {
        let failure = container.status.retry.failure.as_ref();
        Self {
            action,
            on: None,
            container: Some(container.id.to_string()),
            name: Some(container.name.clone()),
            because: because.into(),
            again: container.status.retry.attempts > 0 && failure.is_some_and(|failure| failure.action == action),
        }
    }

    /// An action for a container; a wait is a step, too.
    pub(super) fn planned(container: &Container, action: &Action, because: &str) -> Self {
        let name = match action {
            Action::Wait { .. } | Action::AwaitSlot => "Wait",
            action => action.name(),
        };
        Self { on: function_of(container, action), ..Self::of(container, name, because) }
    }
}

fn function_of(container: &Container, action: &Action) -> Option<String> {
    match action {
        Action::GetFunction { name }
        | Action::CreateFunction { name }
        | Action::PutEventInvokeConfig { name }
        | Action::UpdateFunction { name, .. }
        | Action::DeleteFunction { name }
        | Action::ReleaseFunction { name, .. } => Some(name.clone()),
        Action::Invoke { .. } => {
            container.status.run.as_ref()?.issued.as_ref().map(|issued| issued.function_name.clone())
        }
        Action::Wait { .. } | Action::AwaitSlot | Action::Forget => None,
    }
}

/// Something that a pass has left undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    /// The container's id; `None`: it concerns no container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it is left.
    pub because: String,
}
