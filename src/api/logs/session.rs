//! Somebody listens to a container: from the first page to the end of its run's log.

mod ending;
mod feed;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::feed::News;
use super::super::call::Room;
use super::super::error::ApiError;
use super::super::limits;
use super::super::reply::{Gone, Writer};
use super::given::Given;
use super::lines::{Decoder, Line};
use super::listening::Listening;
use super::output::{Output, Wanted};
use super::reading::{Reading, Seen};
use super::streams::Streams;
use crate::aws::{AwsError, LogEvent};
use crate::state::model::life::is_running;
use crate::state::model::{Container, Run, RunPhase};
use crate::state::{StateError, Watch};

/// What is done with the lines that are there before a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum History {
    /// Shown.
    Shown,
    /// Left out: only what comes from now on.
    Skipped,
}

/// Why a session ends before its end.
#[derive(Debug)]
enum Stop {
    /// The client has gone, or the daemon is being stopped.
    Nobody,
    /// AWS failed too often.
    Aws(AwsError),
    /// The store failed.
    State(StateError),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Nobody
    }
}

impl From<AwsError> for Stop {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// A run under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    run: u64,
    /// When its program was last seen to start, by the log's clock: ours may be minutes ahead of it, and would take what the
    /// program writes next for history.
    seen_ms: i64,
}

impl Running {
    /// `None`: no program was seen to run yet, so that nothing it writes is history.
    fn of(run: &Run) -> Option<Self> {
        let RunPhase::Running { since } = run.phase else { return None };
        let times = run.starts_seen.iter().filter_map(|place| place.rsplit_once('@')?.1.parse().ok());
        Some(Self { run: run.no, seen_ms: times.fold(since.as_millis(), i64::max) })
    }

    fn is_history(self, run: u64, at_ms: i64) -> bool {
        self.run == run && at_ms < self.seen_ms
    }
}

/// One listener.
pub(in crate::api) struct Session {
    room: Arc<Room>,
    /// As it was last seen.
    container: Container,
    /// Its row is gone, or is about to go.
    is_gone: bool,
    watch: Watch,
    decoder: Decoder,
    streams: Streams,
    seen: Seen,
    output: Output,
    listening: Listening,
    /// The pass that [`Session::begin`] has begun.
    first: Option<(Reading, Vec<LogEvent>)>,

    history: History,
    /// Invocations whose lines are not shown.
    muted: BTreeSet<String>,
    /// The run whose program was seen to run when the session was opened: its lines of before are history.
    running: Option<Running>,
    /// The starts that were wished before.
    starts_before: u64,
    given: Given,
    /// Whether the rest of the log of a run that just ended is waited for.
    pub(in crate::api) wait_for_the_rest: bool,
}

impl Session {
    /// A session that has not read anything yet.
    pub(in crate::api) fn new(
        room: &Arc<Room>,
        container: Container,
        wanted: Wanted,
        writer: Writer,
        history: History,
    ) -> Self {
        let run = container.status.run.as_ref();
        let ended = |run: &Run| matches!(run.phase, RunPhase::Exited(_));
        let earlier = run.filter(|run| ended(run)).and_then(|run| run.request_id.clone());
        let muted = match history {
            History::Shown => BTreeSet::new(),
            History::Skipped => container.status.past_request_ids.iter().cloned().chain(earlier).collect(),
        };
        let running = run.filter(|_| history == History::Skipped).and_then(Running::of);
        Self {
            watch: room.api.reader.watch(container.id),
            decoder: Decoder::new(container.spec.config.function.protocol),
            streams: Streams::default(),
            seen: Seen::default(),
            output: Output::new(wanted, writer),
            listening: Listening::new(&room.streams, &room.stop, container.id),
            first: None,

            history,
            muted,
            running,
            starts_before: container.spec.starts,
            given: Given::default(),
            wait_for_the_rest: true,
            is_gone: false,
            room: room.clone(),
            container,
        }
    }

    /// From now on `wait` and `events` wait for this session before they report an end.
    pub(in crate::api) fn listen(&mut self) {
        self.listening.begin();
    }

    /// Reads the first lines, so that a refusal of AWS can still be answered with a status. When AWS cannot be asked but all that
    /// the client wants came with the run's answer, the session goes on without, and ends with that tail.
    pub(in crate::api) async fn begin(&mut self) -> Result<(), ApiError> {
        self.learn();
        match self.first_batch().await {
            Ok((reading, events)) => self.first = events.map(|events| (reading, events)),
            Err(error) if self.tail_is_enough() => {
                tracing::warn!(container = %self.container.id, %error, "the log cannot be read; its tail is served");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gives what there is, and the rest of a run that just ended.
    pub(in crate::api) async fn complete(mut self) {
        let given = async {
            self.read_first().await?;
            self.rest().await
        }
        .await;
        self.end(given).await;
    }

    /// Stays until the run has ended and its log is complete.
    pub(in crate::api) async fn follow(mut self) {
        let given = self.follow_to_the_end(0).await;
        self.end(given).await;
    }

    /// As `follow`; a container that is not running is waited for until its next run has ended.
    pub(in crate::api) async fn attach(mut self) {
        let running = is_running(&self.container.spec, &self.container.status);
        let more = u64::from(!running);
        let given = self.follow_to_the_end(more).await;
        self.end(given).await;
    }

    async fn end(self, given: Result<(), Stop>) {
        let Self { output, mut listening, container, .. } = self;
        match given {
            // Who does not take the end misses it.
            Ok(()) => drop(listening.send(output.finish()).await),
            // Broken off: whoever is still there sees that something is missing.
            Err(Stop::Nobody) => {}
            Err(Stop::Aws(error)) => {
                tracing::warn!(container = %container.id, %error, aws_request_id = ?error.request_id, "a reader of the log was cut off");
            }
            Err(Stop::State(error)) => {
                tracing::error!(container = %container.id, %error, "a reader of the log was cut off");
            }
        }
    }

    /// `more`: how many starts must still be wished before the end can come. When the daemon is being stopped, a run that
    /// has ended is still told to its end: its container may be gone for the next daemon.
    async fn follow_to_the_end(&mut self, more: u64) -> Result<(), Stop> {
        self.read_first().await?;
        self.listening.send(self.output.release()).await?;
        let mut interval = limits::FOLLOW_INTERVAL;
        let mut failures = 0;
        self.refresh().await?;
        while !self.has_ended(more) {
            if self.room.stop.is_cancelled() {
                return Err(Stop::Nobody);
            }
            // A container that is not running writes nothing: then only a change is waited for.
            let running = is_running(&self.container.spec, &self.container.status);
            let changed = self.pause(if running { interval } else { Duration::MAX }).await?;
            self.refresh().await?;
            if self.has_ended(more) {
                break;
            }

            match self.read_news().await {
                Ok(News { any, .. }) => {
                    failures = 0;
                    let longer = (interval * 3 / 2).min(limits::FOLLOW_INTERVAL_MAX);
                    interval = if any || changed { limits::FOLLOW_INTERVAL } else { longer };
                }
                Err(Stop::Aws(error)) if failures < limits::MAX_FOLLOW_FAILURES => {
                    tracing::debug!(container = %self.container.id, %error, failures, "a reading of the log failed");
                    (interval, failures) = (limits::FOLLOW_INTERVAL_MAX, failures + 1);
                }
                Err(other) => return Err(other),
            }
        }
        if self.has_started(more) { self.rest().await } else { Ok(()) }
    }

    fn has_started(&self, more: u64) -> bool {
        self.container.spec.starts >= self.starts_before.saturating_add(more)
    }

    fn has_ended(&self, more: u64) -> bool {
        self.is_gone || (self.has_started(more) && !is_running(&self.container.spec, &self.container.status))
    }

    /// Waits for a change of the container (`true`), but not longer than this (`false`), nor for the daemon's end.
    async fn pause(&mut self, longest: Duration) -> Result<bool, Stop> {
        let is_stopping = self.room.stop.is_cancelled();
        tokio::select! {
            changed = self.watch.changed() => changed.map(|()| true).map_err(Stop::from),
            () = self.output.gone() => Err(Stop::Nobody),
            () = tokio::time::sleep(longest) => Ok(false),
            () = self.room.stop.cancelled(), if !is_stopping => Ok(false),
        }
    }

    /// Reads the container again; what is gone stays as it was last seen.
    async fn refresh(&mut self) -> Result<(), Stop> {
        let turn = self.room.turn().await;
        let found = self.room.api.reader.container(&self.container.id).await?;
        drop(turn);
        match found {
            Some(container) => {
                self.is_gone = container.is_removed();
                self.container = container;
            }
            None => self.is_gone = true,
        }
        self.learn();
        Ok(())
    }

    fn learn(&mut self) {
        let running = is_running(&self.container.spec, &self.container.status);
        self.decoder.learn(&self.container.status, !running && !self.is_gone);
        self.given.begin_run(self.container.status.run.as_ref().map_or(0, |run| run.no), &self.decoder);
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.listening.send(self.output.flush()).await?)
    }

    async fn give(&mut self, line: Line) -> Result<(), Stop> {
        if line.request_id.as_ref().is_some_and(|id| self.muted.contains(id)) {
            return Ok(());
        }
        self.given.push(&line, &self.decoder);
        Ok(self.listening.send(self.output.push(line)).await?)
    }
}
