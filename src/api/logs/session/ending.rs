//! The end of a session: when the output of a run that has ended is complete, and where its last lines come from.
//!
//! # Guarantees
//! - A session ends regularly because of the stored status only after a successful reading that began with that status.
//! - What could not be read, and is not in the tail, breaks the answer off.

use std::time::Duration;

use super::super::super::limits;
use super::super::lines::{Decoder, Line};
use super::feed::News;
use super::{Session, Stop};
use crate::aws::LogEvent;
use crate::clock::Timestamp;
use crate::state::model::life::is_running;
use crate::state::model::{Container, RunPhase};

impl Session {
    /// What is still missing of a run that has ended: until its log is complete, or patience is at its end. Who ran out
    /// of patience gets what there is; what could not be read breaks the answer off.
    pub(super) async fn rest(&mut self) -> Result<(), Stop> {
        let mut patience = None;
        loop {
            self.refresh().await?;
            if is_running(&self.container.spec, &self.container.status) && !self.is_gone {
                return Ok(());
            }
            let left = *patience.get_or_insert_with(|| self.patience());
            if left.is_zero() {
                self.streams.search_at_once();
            }
            // Judged by the status from before this reading: all lines that it accounts for must be in it.
            let was_complete = self.is_complete();
            let failed = match self.read_news().await {
                Err(Stop::Aws(error)) => {
                    tracing::debug!(container = %self.container.id, %error, "the rest of a log could not be read");
                    Some(error)
                }
                Err(other) => return Err(other),
                Ok(News { unsearched: None, .. })
                    if was_complete && !self.streams.latest_is_absent(&self.container) =>
                {
                    return Ok(());
                }
                // Once more, from what was there before the end was seen.
                Ok(News { may_have_gaps: true, unsearched: None, .. }) if self.has_shown_all() => continue,
                Ok(news) => news.unsearched,
            };
            let is_last = left.is_zero();
            if failed.is_none() && self.has_shown_all() {
                return Ok(());
            }
            if self.finish_from_tail(is_last, failed.is_some()).await? && self.earlier_runs_are_complete() {
                return Ok(());
            }
            if is_last {
                return failed.map_or(Ok(()), |error| Err(error.into()));
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

    /// Whether no more lines can come, by what the log has shown or by the status. A reading that begins later has all of them.
    fn is_complete(&self) -> bool {
        self.latest_run_is_complete() && self.earlier_runs_are_complete()
    }

    /// Whether the lines that were read have shown that nothing more can come.
    fn has_shown_all(&self) -> bool {
        let run = self.container.status.run.as_ref();
        let has_shown = run.is_none_or(|run| run.issued.is_none() || self.decoder.saw_end_of(run));
        has_shown && self.earlier_runs_are_complete()
    }

    /// Whether the ends of the runs before the latest one were seen: two runs may be so close that the second one has
    /// ended before the log shows the first.
    pub(super) fn earlier_runs_are_complete(&self) -> bool {
        // A part of the log need not hold their ends.
        let wanted = self.output.wanted();
        let is_part = wanted.since.is_some() || wanted.until.is_some();
        is_part || self.container.status.logs_missing || self.missing_runs().next().is_none()
    }

    /// The invocations before the latest run whose end the log has not shown yet.
    pub(super) fn missing_runs(&self) -> impl Iterator<Item = &String> {
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

    /// Whether the tail alone is the whole answer, before anything was read.
    pub(super) fn tail_is_enough(&self) -> bool {
        let run = self.container.status.run.as_ref();
        let has_ended = run.is_some_and(|run| matches!(run.phase, RunPhase::Exited(_)));
        // Its lines have no times.
        let is_usable = self.output.wanted().since.is_none();
        has_ended && is_usable && self.tail_is_whole() && self.earlier_runs_are_complete()
    }

    /// Gives the rest of the latest run's lines from the tail that came with its answer, once those of earlier runs are
    /// there or, with `is_last`, whatever is there. `false`: that is no help. Where logs are missing, a log that was read
    /// (`has_failed`: it was not) had everything that there is.
    async fn finish_from_tail(&mut self, is_last: bool, has_failed: bool) -> Result<bool, Stop> {
        if !is_last && !self.earlier_runs_are_complete() {
            return Ok(false);
        }
        let logs_missing = self.container.status.logs_missing;
        let Some(run) = &self.container.status.run else { return Ok(false) };
        let usable = logs_missing || self.output.wanted().since.is_none();
        let tail = run.tail.as_ref().filter(|tail| usable && (tail.complete || logs_missing));
        let nothing_more = logs_missing && !has_failed;
        let Some(tail) = tail else { return Ok(nothing_more) };
        let RunPhase::Exited(exit) = &run.phase else { return Ok(false) };
        let lines = tail_lines(&self.container, &tail.text, exit.finished_at);
        let Some(given) = self.given.prefix_of(run.request_id.as_deref(), &lines) else { return Ok(nothing_more) };
        let missing: Vec<Line> = lines.into_iter().skip(given).collect();
        for line in missing {
            self.give(line).await?;
        }
        self.flush().await?;
        Ok(true)
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
