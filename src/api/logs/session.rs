//! Somebody listens to a container: from the first page to the end of its run's log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::call::Room;
use super::super::error::ApiError;
use super::super::limits;
use super::super::reply::{Gone, Writer};
use super::given::Given;
use super::lines::{Decoder, Line};
use super::output::{Output, Wanted};
use super::queries::{Span, queries};
use super::reading::{Reading, Seen};
use super::streams::Streams;
use crate::aws::{AwsError, AwsErrorKind, LogEvent};
use crate::clock::Timestamp;
use crate::state::model::life::is_running;
use crate::state::model::{Container, ContainerId, Run, RunPhase};
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

/// What a reading has brought.
struct News {
    any: bool,
    may_have_gaps: bool,
    /// Why the latest run's stream could not be looked for: its lines are missing, and those of the known streams are there.
    unsearched: Option<AwsError>,
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

    /// The container.
    pub(in crate::api) fn container_id(&self) -> ContainerId {
        self.container.id
    }

    /// Reads the first lines, so that a refusal of AWS can still be told with a status. When AWS cannot be asked but
    /// the whole log came with the run's answer, that is enough.
    pub(in crate::api) async fn begin(&mut self) -> Result<(), ApiError> {
        self.learn();
        match self.first_batch().await {
            Ok((reading, events)) => self.first = events.map(|events| (reading, events)),
            Err(error) if self.tail_is_whole() => {
                tracing::warn!(container = %self.container.id, %error, "the log cannot be read; its tail is served");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn first_batch(&mut self) -> Result<(Reading, Option<Vec<LogEvent>>), AwsError> {
        if let Err(error) = self.search().await {
            self.must_know_streams(error)?;
        }
        let mut reading = self.reading();
        let events = reading.next(&*self.room.api.logs, &mut self.seen).await?;
        if events.is_none() {
            self.end_pass(reading);
            reading = Reading::new(Vec::new(), BTreeSet::new());
        }
        Ok((reading, events))
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
        match given {
            Ok(()) => self.output.finish().await,
            // Broken off: whoever is still there sees that something is missing.
            Err(Stop::Nobody) => {}
            Err(Stop::Aws(error)) => {
                tracing::warn!(container = %self.container.id, %error, aws_request_id = ?error.request_id, "a reader of the log was cut off");
            }
            Err(Stop::State(error)) => {
                tracing::error!(container = %self.container.id, %error, "a reader of the log was cut off");
            }
        }
    }

    /// `more`: how many starts must still be wished before the end can come. When the daemon is being stopped, a run that
    /// has ended is still told to its end: its container may be gone for the next daemon.
    async fn follow_to_the_end(&mut self, more: u64) -> Result<(), Stop> {
        self.read_first().await?;
        self.output.release().await?;
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

    /// What is still missing of a run that has ended: until its log is complete, or patience is at its end. Who ran out
    /// of patience gets what there is.
    async fn rest(&mut self) -> Result<(), Stop> {
        let mut patience = None;
        loop {
            self.refresh().await?;
            if is_running(&self.container.spec, &self.container.status) && !self.is_gone {
                return Ok(());
            }
            let left = *patience.get_or_insert_with(|| self.patience());
            // Judged by facts from before this reading: what they promise must be in it.
            let was_complete = self.is_complete();
            let mut unsearched = None;
            match self.read_news().await {
                Err(Stop::Aws(error)) if self.tail_is_whole() || left > Duration::ZERO => {
                    tracing::debug!(container = %self.container.id, %error, "the rest of a log could not be read");
                }
                Err(other) => return Err(other),
                Ok(News { unsearched: None, .. }) if was_complete => return Ok(()),
                // Once more, from what was there before the end was seen.
                Ok(News { may_have_gaps: true, unsearched: None, .. }) if self.is_complete() => continue,
                Ok(news) => unsearched = news.unsearched,
            }
            let is_last = left.is_zero();
            if (unsearched.is_none() && self.is_complete()) || self.finish_from_tail(is_last).await? {
                return Ok(());
            }
            if is_last {
                return unsearched.map_or(Ok(()), |error| Err(error.into()));
            }
            let pause = limits::REST_INTERVAL.min(left);
            self.pause(pause).await?;
            patience = Some(left.saturating_sub(pause));
        }
    }

    /// How long the rest of the log is waited for: until some seconds after the end of the run.
    fn patience(&self) -> Duration {
        if !self.wait_for_the_rest {
            return Duration::ZERO;
        }
        match self.container.status.run.as_ref().map(|run| &run.phase) {
            Some(RunPhase::Exited(exit)) => {
                let until = exit.finished_at.after(limits::REST_OF_LOG);
                until.since(self.room.api.clock.now()).min(limits::REST_OF_LOG)
            }
            _ => limits::REST_OF_LOG,
        }
    }

    /// Whether nothing more can come.
    fn is_complete(&self) -> bool {
        self.latest_run_is_complete() && self.earlier_runs_are_complete()
    }

    /// Whether the ends of the runs before the latest one were seen: two runs may be so close that the second one has
    /// ended before the log shows the first.
    fn earlier_runs_are_complete(&self) -> bool {
        // A part of the log need not hold their ends.
        let wanted = self.output.wanted();
        let is_part = wanted.since.is_some() || wanted.until.is_some();
        is_part || self.container.status.logs_missing || self.missing_runs().next().is_none()
    }

    /// The invocations before the latest run whose end the log has not shown yet.
    fn missing_runs(&self) -> impl Iterator<Item = &String> {
        let ids = self.container.status.past_request_ids.iter();
        ids.filter(|id| !self.muted.contains(*id) && !self.decoder.has_reported(id))
    }

    /// Whether nothing more of the latest run can come.
    fn latest_run_is_complete(&self) -> bool {
        let status = &self.container.status;
        let Some(run) = &status.run else { return true };
        let was_cut = run.tail.as_ref().is_some_and(|tail| !tail.complete);
        run.issued.is_none()
            || run.log_closed
            || self.decoder.saw_end_of(run)
            // The report of an answer can be there before the log's lines are.
            || (run.report.is_some() && !was_cut && !self.tail_is_whole())
    }

    fn tail_is_whole(&self) -> bool {
        let run = self.container.status.run.as_ref();
        run.and_then(|run| run.tail.as_ref()).is_some_and(|tail| tail.complete)
    }

    /// Gives the rest of the latest run's lines from the tail that came with its answer, once those of earlier runs are
    /// there or, with `is_last`, whatever is there. `false`: that is no help.
    async fn finish_from_tail(&mut self, is_last: bool) -> Result<bool, Stop> {
        if !is_last && !self.earlier_runs_are_complete() {
            return Ok(false);
        }
        let logs_missing = self.container.status.logs_missing;
        let Some(run) = &self.container.status.run else { return Ok(false) };
        let usable = logs_missing || self.output.wanted().since.is_none();
        let tail = run.tail.as_ref().filter(|tail| usable && (tail.complete || logs_missing));
        let Some(tail) = tail else { return Ok(logs_missing) };
        let RunPhase::Exited(exit) = &run.phase else { return Ok(false) };
        let lines = tail_lines(&self.container, &tail.text, exit.finished_at);
        let Some(given) = self.given.prefix_of(run.request_id.as_deref(), &lines) else { return Ok(logs_missing) };
        let missing: Vec<Line> = lines.into_iter().skip(given).collect();
        for line in missing {
            self.give(line).await?;
        }
        self.output.flush().await?;
        Ok(true)
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

    /// Before events are decoded that were just read: a run may have begun while they were, and its START is not the program's.
    async fn unsettle(&mut self) -> Result<(), Stop> {
        if self.decoder.is_settled() { self.refresh().await } else { Ok(()) }
    }

    fn learn(&mut self) {
        let running = is_running(&self.container.spec, &self.container.status);
        self.decoder.learn(&self.container.status, !running && !self.is_gone);
        self.given.begin_run(self.container.status.run.as_ref().map_or(0, |run| run.no), &self.decoder);
    }

    /// Looks for the stream of a run whose stream is unknown.
    async fn search(&mut self) -> Result<(), AwsError> {
        let now = self.room.api.clock.now();
        self.streams.search(&*self.room.api.logs, &self.container, now).await
    }

    /// What is read without a search that has failed, which goes on with the next reading: the streams that are known.
    fn must_know_streams(&mut self, error: AwsError) -> Result<AwsError, AwsError> {
        if self.streams.of(&self.container).is_empty() {
            return Err(error);
        }
        tracing::debug!(container = %self.container.id, %error, "a log stream could not be looked for");
        Ok(error)
    }

    /// Looks for all streams that are unknown; waits while AWS throttles that. Returns why the latest run's could not be
    /// looked for.
    async fn search_all(&mut self) -> Result<Option<AwsError>, Stop> {
        let mut failures = 0;
        loop {
            let latest = self.search().await;
            let earlier = self.search_earlier().await;
            let is_throttled = |result: &Result<(), AwsError>| {
                result.as_ref().is_err_and(|error| error.kind == AwsErrorKind::Throttled)
            };
            if failures < limits::MAX_FOLLOW_FAILURES && (is_throttled(&latest) || is_throttled(&earlier)) {
                failures += 1;
                self.pause(limits::REST_INTERVAL).await?;
                continue;
            }
            if let Err(error) = earlier {
                self.must_know_streams(error)?;
            }
            return match latest {
                Ok(()) => Ok(None),
                Err(error) => Ok(Some(self.must_know_streams(error)?)),
            };
        }
    }

    /// A pass over the container's streams: those that were read before from where it is worth it, the others from their
    /// beginning.
    fn reading(&mut self) -> Reading {
        let now = self.room.api.clock.now();
        let streams = self.streams.of(&self.container);
        self.decoder.keep_streams(&streams);
        self.seen.begin(now.as_millis());
        let created = self.container.created_at.before(limits::CLOCK_SLACK);
        let wanted = self.output.wanted();
        let from_ms = wanted.since.map_or(created, |since| since.max(created)).as_millis();
        let latest = now.after(limits::CLOCK_SLACK);
        let until_ms = wanted.until.map_or(latest, |until| until.min(latest)).as_millis();
        let resume_ms = self.seen.resume_ms(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS).unwrap_or(i64::MIN);

        let (again, first): (Vec<_>, Vec<_>) = streams.into_iter().partition(|stream| self.streams.is_read(stream));
        let group = &self.container.spec.config.function.log_group;
        let mut asked = queries(group, &again, Span { from_ms: from_ms.max(resume_ms), until_ms });
        asked.extend(queries(group, &first, Span { from_ms, until_ms }));
        Reading::new(asked, first.into_iter().collect())
    }

    fn end_pass(&mut self, reading: Reading) {
        self.streams.note_read(reading.into_first());
        self.seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
    }

    /// What was there when the session began.
    async fn read_first(&mut self) -> Result<(), Stop> {
        let Some((mut reading, mut events)) = self.first.take() else { return Ok(()) };
        let skips = self.history == History::Skipped;
        let running = is_running(&self.container.spec, &self.container.status);
        loop {
            // Lines of a run that began after the session was opened are not history.
            let is_history = |line: &Line, muted: &BTreeSet<String>| {
                skips && (running || line.request_id.as_ref().is_none_or(|id| muted.contains(id)))
            };
            self.unsettle().await?;
            for event in events {
                match self.decoder.line(&event) {
                    Some(line) if is_history(&line, &self.muted) => self.given.push(&line, &self.decoder),
                    Some(line) => self.give(line).await?,
                    None => {}
                }
            }
            self.output.flush().await?;
            match self.next_batch(&mut reading).await? {
                Some(more) => events = more,
                None => break,
            }
        }
        self.end_pass(reading);
        Ok(())
    }

    /// The next events of a pass. A failure that will pass does not end it: it goes on where it was. Nothing more is read for a
    /// client that has gone, however much of the log is left.
    async fn next_batch(&mut self, reading: &mut Reading) -> Result<Option<Vec<LogEvent>>, Stop> {
        let mut failures = 0;
        loop {
            // What is cancelled here is never needed again: the session ends.
            let read = tokio::select! {
                read = reading.next(&*self.room.api.logs, &mut self.seen) => read,
                () = self.output.gone() => return Err(Stop::Nobody),
            };
            match read {
                Ok(events) => return Ok(events),
                Err(error) if error.kind == AwsErrorKind::Throttled && failures < limits::MAX_FOLLOW_FAILURES => {
                    tracing::debug!(container = %self.container.id, %error, failures, "a reading of the log waits");
                    failures += 1;
                    self.pause(limits::REST_INTERVAL).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks for the streams of earlier runs whose end should be in the log and was not read. Once the streams that are
    /// known were read: their ends are in those, or nowhere.
    async fn search_earlier(&mut self) -> Result<(), AwsError> {
        let missing: Vec<String> =
            if self.earlier_runs_are_complete() { Vec::new() } else { self.missing_runs().cloned().collect() };
        let now = self.room.api.clock.now();
        self.streams.search_earlier(&*self.room.api.logs, &self.container, &missing, now).await
    }

    /// What came since.
    async fn read_news(&mut self) -> Result<News, Stop> {
        let unsearched = self.search_all().await?;
        let mut reading = self.reading();
        let mut any = false;
        while let Some(events) = self.next_batch(&mut reading).await? {
            self.unsettle().await?;
            let run = self.container.status.run.as_ref().map_or(0, |run| run.no);
            for event in events {
                // The program ran before the session, and its stream was found only now.
                let is_history = reading.is_first_of(&event.stream)
                    && self.running.is_some_and(|running| running.is_history(run, event.timestamp_ms));
                match self.decoder.line(&event) {
                    Some(line) if is_history => self.given.push(&line, &self.decoder),
                    Some(line) => {
                        any = true;
                        self.give(line).await?;
                    }
                    None => {}
                }
            }
            self.output.flush().await?;
        }
        let may_have_gaps = reading.has_turned();
        self.end_pass(reading);
        Ok(News { any, may_have_gaps, unsearched })
    }

    async fn give(&mut self, line: Line) -> Result<(), Stop> {
        if line.request_id.as_ref().is_some_and(|id| self.muted.contains(id)) {
            return Ok(());
        }
        self.given.push(&line, &self.decoder);
        Ok(self.output.push(line).await?)
    }
}

/// The program's lines in the tail of a run's log. They have no times of their own.
fn tail_lines(container: &Container, text: &str, at: Timestamp) -> Vec<Line> {
    let mut decoder = Decoder::new(container.spec.config.function.protocol);
    decoder.learn(&container.status, false);
    let event = |message: &str| LogEvent {
        id: String::new(),
        stream: String::new(),
        timestamp_ms: at.as_millis(),
        ingestion_ms: 0,
        message: message.to_owned(),
    };
    text.trim_end_matches('\n').split('\n').filter_map(|message| decoder.line(&event(message))).collect()
}
