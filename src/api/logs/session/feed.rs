//! The lines of a session: which streams are read, page by page, and what of it is given.

use std::collections::BTreeSet;

use super::super::super::limits;
use super::super::lines::Line;
use super::super::queries::{Span, queries};
use super::super::reading::Reading;
use super::{History, Session, Stop};
use crate::aws::{AwsError, AwsErrorKind, LogEvent};
use crate::state::model::life::is_running;

/// What a reading has brought.
pub(super) struct News {
    pub(super) any: bool,
    pub(super) may_have_gaps: bool,
    /// Why the stream of a run could not be looked for: its lines are missing, and those of the known streams are there.
    pub(super) unsearched: Option<AwsError>,
}

impl Session {
    pub(super) async fn first_batch(&mut self) -> Result<(Reading, Option<Vec<LogEvent>>), AwsError> {
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

    /// Before events are decoded that were just read: a run may have begun while they were, and its START is not the program's.
    async fn unsettle(&mut self) -> Result<(), Stop> {
        if self.decoder.is_settled() { self.refresh().await } else { Ok(()) }
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

    /// Looks for all streams that are unknown; waits while AWS throttles that, and repeats what was throttled. Returns why the
    /// latest run's, and those of earlier ones, could not be looked for.
    async fn search_all(&mut self) -> Result<[Option<AwsError>; 2], Stop> {
        let is_throttled =
            |result: &Result<(), AwsError>| result.as_ref().is_err_and(|error| error.kind == AwsErrorKind::Throttled);
        let mut latest = self.search().await;
        let mut earlier = self.search_earlier().await;
        for _ in 0..limits::MAX_FOLLOW_FAILURES {
            let (latest_again, earlier_again) = (is_throttled(&latest), is_throttled(&earlier));
            if !latest_again && !earlier_again {
                break;
            }
            self.pause(limits::REST_INTERVAL).await?;
            if latest_again {
                latest = self.search().await;
            }
            if earlier_again {
                earlier = self.search_earlier().await;
            }
        }
        let mut failed = [None, None];
        for (place, result) in failed.iter_mut().zip([latest, earlier]) {
            if let Err(error) = result {
                *place = Some(self.must_know_streams(error)?);
            }
        }
        Ok(failed)
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

        let (absent, streams): (Vec<_>, Vec<_>) =
            streams.into_iter().partition(|stream| self.streams.is_absent(stream));
        let (again, mut first): (Vec<_>, Vec<_>) = streams.into_iter().partition(|stream| self.streams.is_read(stream));
        let group = &self.container.spec.config.function.log_group;
        let mut asked = queries(group, &again, Span { from_ms: from_ms.max(resume_ms), until_ms });
        asked.extend(queries(group, &first, Span { from_ms, until_ms }));
        // Alone, so that the others are not refused for its sake.
        asked.extend(queries(group, &absent, Span { from_ms, until_ms }));
        first.extend(absent);
        Reading::new(asked, first.into_iter().collect())
    }

    fn end_pass(&mut self, reading: Reading) {
        let (first, absent) = reading.into_parts();
        self.streams.note_read(first, absent);
        self.seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
    }

    /// What was there when the session began.
    pub(super) async fn read_first(&mut self) -> Result<(), Stop> {
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
            self.flush().await?;
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
    pub(super) async fn read_news(&mut self) -> Result<News, Stop> {
        let [latest, earlier] = self.search_all().await?;
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
            self.flush().await?;
        }
        let may_have_gaps = reading.has_turned();
        self.end_pass(reading);
        // The streams that are known may have had the ends of the earlier runs.
        let unsearched = latest.or(earlier.filter(|_| !self.earlier_runs_are_complete()));
        Ok(News { any, may_have_gaps, unsearched })
    }
}
