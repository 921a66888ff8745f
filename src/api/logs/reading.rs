//! One pass over the log: pages in, sorted events out, each event once.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::super::limits;
use crate::aws::{AwsError, LogEvent, LogQuery, ReadLogs};

/// The events that were taken already, the latest of them: by their time, as a hash of their ids. Some 30 bytes each.
///
/// What is forgotten is never read again: better a line that is minutes late behind a flood of others is missed than
/// that the flood is given twice.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    events: BTreeSet<(i64, u64)>,
    /// Everything before was forgotten, Unix milliseconds.
    floor_ms: Option<i64>,
}

impl Seen {
    /// `true` when the event is new.
    fn insert(&mut self, event: &LogEvent) -> bool {
        if self.floor_ms.is_some_and(|floor| event.timestamp_ms < floor) {
            return false;
        }
        let hash = self.hasher.hash_one(&event.id);
        if !self.events.insert((event.timestamp_ms, hash)) {
            return false;
        }
        if self.events.len() > limits::MAX_SEEN_EVENTS
            && let (Some((oldest, _)), Some((newest, _))) = (self.events.first(), self.events.last())
            && oldest < newest
        {
            self.forget_before(oldest.saturating_add(1));
        }
        true
    }

    /// From when on to read again for events that came late: not further back than `overlap` before the newest one,
    /// nor than about `most` events. `None`: nothing was seen.
    pub(super) fn resume_ms(&self, overlap: Duration, most: usize) -> Option<i64> {
        let (newest, _) = self.events.last()?;
        let overlap = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
        let earliest = newest.saturating_sub(overlap).max(self.floor_ms.unwrap_or(i64::MIN));
        let surplus = self.events.range((earliest, 0)..).rev().nth(most);
        // All of one millisecond are read again, or none.
        Some(surplus.map_or(earliest, |(time, _)| time.saturating_add(1).min(*newest)))
    }

    /// A pass is over: forgets what no later pass asks for again.
    pub(super) fn settle(&mut self, overlap: Duration, most: usize) {
        if let Some(resume) = self.resume_ms(overlap, most) {
            self.forget_before(resume);
        }
    }

    fn forget_before(&mut self, floor_ms: i64) {
        self.events = self.events.split_off(&(floor_ms, 0));
        self.floor_ms = self.floor_ms.max(Some(floor_ms));
    }
}

/// One pass.
#[derive(Debug)]
pub(super) struct Reading {
    queries: VecDeque<LogQuery>,
    pages_left: usize,
    turned: bool,
}

impl Reading {
    pub(super) fn new(queries: Vec<LogQuery>) -> Self {
        Self { queries: queries.into(), pages_left: limits::MAX_LOG_PAGES, turned: false }
    }

    /// Whether there was more than a page: then what came meanwhile may lie before the page that was read last.
    pub(super) fn has_turned(&self) -> bool {
        self.turned
    }

    /// The next new events, sorted by time; `None`: that was all. Only as many are held as the limit says, so the
    /// order of a very long log is CloudWatch's own from one batch to the next.
    ///
    /// What was read before a failure is given first; then the failure, if the page fails again.
    pub(super) async fn next(
        &mut self,
        logs: &dyn ReadLogs,
        seen: &mut Seen,
    ) -> Result<Option<Vec<LogEvent>>, AwsError> {
        let mut events: Vec<LogEvent> = Vec::new();
        let mut bytes = 0;
        while events.len() < limits::MAX_SORTED_EVENTS && bytes < limits::MAX_SORTED_BYTES && self.pages_left > 0 {
            let Some(query) = self.queries.pop_front() else { break };
            let page = match logs.read(query.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    self.queries.push_front(query);
                    if events.is_empty() {
                        return Err(error);
                    }
                    break;
                }
            };
            self.pages_left -= 1;
            for event in page.events.into_iter().filter(|event| seen.insert(event)) {
                bytes += event.message.len();
                events.push(event);
            }
            if page.next_token.is_some() {
                self.turned = true;
                self.queries.push_front(LogQuery { next_token: page.next_token, ..query });
            }
        }
        // Stable: events of one millisecond stay in the order in which they came.
        events.sort_by_key(|event| (event.timestamp_ms, event.ingestion_ms));
        let is_over = events.is_empty() && (self.queries.is_empty() || self.pages_left == 0);
        Ok(if is_over { None } else { Some(events) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::aws::{AwsErrorKind, LogPage, ReadLogsFuture};

    fn event(id: usize, at_ms: i64) -> LogEvent {
        LogEvent {
            id: id.to_string(),
            stream: "s".to_owned(),
            timestamp_ms: at_ms,
            ingestion_ms: at_ms,
            message: String::new(),
        }
    }

    /// Answers one after the other.
    struct Answers(Mutex<VecDeque<Result<LogPage, AwsError>>>);

    impl ReadLogs for Answers {
        fn read(&self, _: LogQuery) -> ReadLogsFuture<'_> {
            let answer = self.0.lock().unwrap().pop_front().unwrap();
            Box::pin(async move { answer })
        }
    }

    fn page(events: &[(usize, i64)], more: bool) -> Result<LogPage, AwsError> {
        let events = events.iter().map(|(id, at)| event(*id, *at)).collect();
        Ok(LogPage { events, next_token: more.then(|| "more".to_owned()) })
    }

    fn throttled() -> Result<LogPage, AwsError> {
        Err(AwsError {
            service: "logs",
            operation: "filter log events",
            kind: AwsErrorKind::Throttled,
            code: None,
            message: "too fast".to_owned(),
            request_id: None,
            retry_after: None,
        })
    }

    fn ids(events: Option<Vec<LogEvent>>) -> Vec<String> {
        events.into_iter().flatten().map(|event| event.id).collect()
    }

    #[tokio::test]
    async fn what_was_read_before_a_failure_is_not_lost() {
        let answers =
            [page(&[(1, 1), (2, 2)], true), page(&[(3, 3)], true), throttled(), throttled(), page(&[(4, 4)], false)];
        let logs = Answers(Mutex::new(answers.into()));
        let (mut reading, mut seen) = (Reading::new(vec![LogQuery::default()]), Seen::default());
        assert_eq!(ids(reading.next(&logs, &mut seen).await.unwrap()), ["1", "2", "3"]);
        assert!(reading.next(&logs, &mut seen).await.is_err());
        assert_eq!(ids(reading.next(&logs, &mut seen).await.unwrap()), ["4"], "the page that failed is not skipped");
        assert!(reading.next(&logs, &mut seen).await.unwrap().is_none());
    }

    #[test]
    fn an_event_is_new_once_however_many_there_are() {
        let mut seen = Seen::default();
        let many = limits::MAX_SEEN_EVENTS + 10;
        let at = |id: usize| i64::try_from(id / 10).unwrap();
        assert!((0..many).all(|id| seen.insert(&event(id, at(id)))));
        let resume = seen.resume_ms(Duration::from_secs(3_600), usize::MAX).unwrap();
        assert_eq!(resume, 1, "what was forgotten is not asked for");
        assert!((0..many).all(|id| !seen.insert(&event(id, at(id)))), "nor taken");
        assert!(seen.insert(&event(many, at(many))));
    }

    #[test]
    fn a_reading_goes_back_by_time_but_not_through_a_flood() {
        let mut seen = Seen::default();
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 10), None);
        for id in 0..100 {
            seen.insert(&event(id, i64::try_from(id).unwrap() * 100));
        }
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 1_000), Some(8_900));
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 3), Some(9_601));
    }

    #[test]
    fn a_reader_of_many_lines_remembers_only_those_that_it_reads_again() {
        let mut seen = Seen::default();
        let at = |id: usize| i64::try_from(id * 10).unwrap();
        for id in 0..60_000 {
            seen.insert(&event(id, at(id)));
        }
        seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
        assert_eq!(seen.events.len(), 6_001, "a minute of lines");
        let resume = seen.resume_ms(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS).unwrap();
        assert!((0..60_000).all(|id| !seen.insert(&event(id, at(id)))), "and gives none of the others again");
        assert!((0..60_000).filter(|id| at(*id) >= resume).count() <= seen.events.len());
        for id in 60_000..200_000 {
            seen.insert(&event(id, at(60_000)));
        }
        seen.insert(&event(200_000, at(60_001)));
        seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
        assert_eq!(seen.events.len(), 1, "a flood in one millisecond is not read again");
    }
}
