//! Runs in flight: each is a task of its own, so that a long run blocks nobody.

use std::time::Duration;

use tokio::task::JoinError;
use tracing::Instrument as _;

use super::execute::News;
use super::plan::Action;
use super::queue::Priority;
use super::record::fact_write;
use super::shared::Shared;
use crate::state::model::{Container, ContainerId, Status};
use crate::state::{InvokePermit, StateError, Written};
use crate::{telemetry, traces};

/// How often the recording of an outcome is tried while the store fails: for an hour. A full disk takes somebody's time,
/// and the answer may be all the evidence there is.
const RECORD_TRIES: u32 = 3_600;
/// Time between two tries.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

impl Shared {
    /// Invokes in the background, and records what came of it.
    pub(super) fn launch(&self, container: Container, permit: InvokePermit) {
        let shared = self.clone();
        self.tally.invoked();
        self.watch_logs.notify_one();
        let span = traces::run_span(&container.id);
        let under_way = self.under_way(&container);
        let run = self.while_alive(async move {
            let news = shared.invoke(&container, permit).await;
            shared.report(&container, &news);
            shared.record_outcome(&container.id, &news).await;
            drop(under_way);
            shared.settle_after_call(&container.id, news.error().is_none()).await;
            shared.kick(container.id, shared.clock.now(), Priority::User).await;
        });
        self.runs.spawn(run.instrument(span));
    }

    async fn record_outcome(&self, id: &ContainerId, news: &News) {
        for attempt in 1..=RECORD_TRIES {
            match self
                .fold_in(id, |container| news.fold(self.clock.now(), &container.spec, container.status.clone()))
                .await
            {
                Ok(_) | Err(StateError::Closed) => return,
                Err(error) => {
                    if attempt == 1 {
                        tracing::error!(container = %id, %error, run = run_no(news), "an outcome cannot be recorded yet");
                    }
                    tokio::time::sleep(RECORD_PAUSE).await;
                }
            }
        }
    }

    /// Folds something into a container's facts, against all other writers, and wakes what waits for a slot. Returns
    /// whether anything was new. What cannot be recorded of one container is logged and counted, and is no failure for
    /// the others.
    pub(super) async fn fold_in(
        &self,
        id: &ContainerId,
        fold: impl Fn(&Container) -> Status,
    ) -> Result<bool, StateError> {
        match self.try_fold_in(id, fold).await {
            Err(error) if error.concerns_one_row() => {
                tracing::error!(container = %id, %error, "something observed of a container cannot be recorded");
                metrics::counter!(telemetry::RECONCILE_ERRORS, "controller" => "container").increment(1);
                Ok(false)
            }
            folded => folded,
        }
    }

    async fn try_fold_in(&self, id: &ContainerId, fold: impl Fn(&Container) -> Status) -> Result<bool, StateError> {
        loop {
            let Some(container) = self.reader.container(id).await? else { return Ok(false) };
            let status = fold(&container);
            if status == container.status {
                return Ok(false);
            }
            // In a task of its own: a commit whose caller is cut off must still be counted, and must still free its slot.
            let recorded = self.commits.spawn(self.clone().record(container, status)).await;
            match recorded.unwrap_or_else(|error| Err(cut_off(error)))? {
                Written::Stale => {}
                Written::Gone => return Ok(false),
                Written::At(_) => return Ok(true),
            }
        }
    }

    /// Commits the new status of a container and all that follows from the commit.
    async fn record(self, container: Container, status: Status) -> Result<Written, StateError> {
        let now = self.clock.now();
        let written = self.facts.write(fact_write(&container, &status, Some(now), now)).await?;
        if let Written::At(revision) = written {
            self.observe_change(&container.id, &container.status, &status);
            self.settle_slot(&container, &status, revision).await;
        }
        Ok(written)
    }
}

/// Goes on with a panic of the task. A task that is cancelled belongs to a runtime that ends.
fn cut_off(error: JoinError) -> StateError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => StateError::Closed,
    }
}

fn run_no(news: &News) -> u64 {
    match news.action() {
        Action::Invoke { run_no } => *run_no,
        _ => 0,
    }
}
