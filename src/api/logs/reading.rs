//! One pass over the log: pages in, sorted events out, each event once.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::super::limits;
use crate::aws::{AwsError, AwsErrorKind, LogEvent, LogQuery, ReadLogs};

/// Events by their time, as a hash of their ids. Some 30 bytes each.
#[derive(Debug, Default)]
struct Window {
    events: BTreeSet<(i64, u64)>,
    /// Everything before was forgotten, Unix milliseconds.
    floor_ms: Option<i64>,
    /// Those of them that were in the future when the pass began, or since.
    future: usize,
}

impl Window {
    fn begin(&mut self, now_ms: i64) {
        self.future = self.events.range((now_ms.saturating_add(1), 0)..).count();
    }

    fn is_forgotten(&self, at_ms: i64) -> bool {
        self.floor_ms.is_some_and(|floor| at_ms < floor)
    }

    /// `true` when the event is new. What was forgotten never is: better a line that is minutes late behind a flood of
    /// others is missed than that the flood is given twice.
    ///
    /// Events after `now_ms` have room of their own and never push others out: one that finds none is not taken, and is new
    /// again in a later pass.
    fn insert(&mut self, at_ms: i64, hash: u64, now_ms: i64) -> bool {
        if self.is_forgotten(at_ms) || self.events.contains(&(at_ms, hash)) {
            return false;
        }
        if at_ms > now_ms {
            let is_taken = self.future < limits::MAX_FUTURE_EVENTS && self.events.insert((at_ms, hash));
            self.future += usize::from(is_taken);
            return is_taken;
        }
        self.events.insert((at_ms, hash));
        if self.events.len() > limits::MAX_SEEN_EVENTS
            && let Some((oldest, _)) = self.events.first().copied()
            && oldest < self.newest_until(now_ms)
        {
            self.forget_before(oldest.saturating_add(1));
        }
        true
    }

    /// The time of the latest event that is not after `now_ms`.
    fn newest_until(&self, now_ms: i64) -> i64 {
        self.events.range(..=(now_ms, u64::MAX)).next_back().map_or(i64::MIN, |(at, _)| *at)
    }

    fn forget_before(&mut self, floor_ms: i64) {
        self.events = self.events.split_off(&(floor_ms, 0));
        self.floor_ms = self.floor_ms.max(Some(floor_ms));
    }
}

/// The events that were taken already, the latest of them.
///
/// # Guarantees
/// - No event moves the floor, before which nothing is read again, behind the time of the pass in which it was read: a line
///   that is dated in the future cannot hide the lines that are written until then.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    window: Window,
    /// Of streams that are read from their beginning in this pass: their events before the window's floor.
    late: Window,
    /// When the pass began, Unix milliseconds.
    now_ms: i64,
}

impl Seen {
    /// A pass begins.
    pub(super) fn begin(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        self.window.begin(now_ms);
        self.late.begin(now_ms);
    }

    /// `true` when the event is new. `is_first`: its stream is read for the first time, so that nothing of it was forgotten.
    fn insert(&mut self, event: &LogEvent, is_first: bool) -> bool {
        let (at_ms, hash) = (event.timestamp_ms, self.hasher.hash_one(&event.id));
        let window = if is_first && self.window.is_forgotten(at_ms) { &mut self.late } else { &mut self.window };
        window.insert(at_ms, hash, self.now_ms)
    }

    /// From when on to read again for events that came late: not further back than `overlap` before the newest one that is
    /// not in the future, nor than about `most` events. `None`: nothing was seen.
    pub(super) fn resume_ms(&self, overlap: Duration, most: usize) -> Option<i64> {
        let Window { events, floor_ms, .. } = &self.window;
        let newest = events.last().map(|(at, _)| *at)?.min(self.now_ms);
        let overlap = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
        let earliest = newest.saturating_sub(overlap).max(floor_ms.unwrap_or(i64::MIN));
        if earliest > newest {
            return Some(earliest);
        }
        let surplus = events.range((earliest, 0)..=(newest, u64::MAX)).rev().nth(most);
        // All of one millisecond are read again, or none.
        Some(surplus.map_or(earliest, |(time, _)| time.saturating_add(1).min(newest)))
    }

    /// A pass is over: forgets what no later pass asks for again.
    pub(super) fn settle(&mut self, overlap: Duration, most: usize) {
        self.late = Window::default();
        if let Some(resume) = self.resume_ms(overlap, most) {
            self.window.forget_before(resume);
        }
    }
}

/// One pass.
#[derive(Debug)]
pub(super) struct Reading {
    queries: VecDeque<LogQuery>,
    /// The streams that are read from their beginning.
    first: BTreeSet<String>,
    pages_left: usize,
    turned: bool,
    /// The streams that do not exist.
    absent: BTreeSet<String>,
}

impl Reading {
    /// `first`: the streams among those of the queries that are read for the first time, from their beginning.
    pub(super) fn new(queries: Vec<LogQuery>, first: BTreeSet<String>) -> Self {
        Self {
            queries: queries.into(),
            first,
            pages_left: limits::MAX_LOG_PAGES,
            turned: false,
            absent: BTreeSet::new(),
        }
    }

    /// Whether the stream is read for the first time.
    pub(super) fn is_first_of(&self, stream: &str) -> bool {
        self.first.contains(stream)
    }

    /// Once the pass is over: the streams that were read for the first time, and those that do not exist.
    pub(super) fn into_parts(self) -> (BTreeSet<String>, BTreeSet<String>) {
        let Self { mut first, absent, .. } = self;
        first.retain(|stream| !absent.contains(stream));
        (first, absent)
    }

    /// One of the streams of a question was not found, so that none was read: asks for each half of them.
    fn split(&mut self, query: &LogQuery) {
        self.pages_left -= 1;
        match query.halve() {
            Some([first, second]) => {
                self.queries.push_front(second);
                self.queries.push_front(first);
            }
            None => self.absent.extend(query.streams.iter().cloned()),
        }
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
                Err(error) if error.kind == AwsErrorKind::NotFound && !query.streams.is_empty() => {
                    self.split(&query);
                    continue;
                }
                Err(error) => {
                    self.queries.push_front(query);
                    if events.is_empty() {
                        return Err(error);
                    }
                    break;
                }
            };
            self.pages_left -= 1;
            for event in page.events.into_iter().filter(|event| seen.insert(event, self.first.contains(&event.stream)))
            {
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
    use crate::aws::{LogPage, ReadLogsFuture};

    fn event(id: usize, at_ms: i64) -> LogEvent {
        LogEvent {
            id: id.to_string(),
            stream: "s".to_owned(),
            timestamp_ms: at_ms,
            ingestion_ms: at_ms,
            message: String::new(),
        }
    }

    fn seen_at(now_ms: i64) -> Seen {
        let mut seen = Seen::default();
        seen.begin(now_ms);
        seen
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
        let (mut reading, mut seen) = (Reading::new(vec![LogQuery::default()], BTreeSet::new()), seen_at(i64::MAX));
        assert_eq!(ids(reading.next(&logs, &mut seen).await.unwrap()), ["1", "2", "3"]);
        assert!(reading.next(&logs, &mut seen).await.is_err());
        assert_eq!(ids(reading.next(&logs, &mut seen).await.unwrap()), ["4"], "the page that failed is not skipped");
        assert!(reading.next(&logs, &mut seen).await.unwrap().is_none());
    }

    #[test]
    fn an_event_is_new_once_however_many_there_are() {
        let mut seen = seen_at(i64::MAX);
        let many = limits::MAX_SEEN_EVENTS + 10;
        let at = |id: usize| i64::try_from(id / 10).unwrap();
        assert!((0..many).all(|id| seen.insert(&event(id, at(id)), false)));
        let resume = seen.resume_ms(Duration::from_secs(3_600), usize::MAX).unwrap();
        assert_eq!(resume, 1, "what was forgotten is not asked for");
        assert!((0..many).all(|id| !seen.insert(&event(id, at(id)), false)), "nor taken");
        assert!(seen.insert(&event(many, at(many)), false));
    }

    #[test]
    fn a_reading_goes_back_by_time_but_not_through_a_flood() {
        let mut seen = seen_at(i64::MAX);
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 10), None);
        for id in 0..100 {
            seen.insert(&event(id, i64::try_from(id).unwrap() * 100), false);
        }
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 1_000), Some(8_900));
        assert_eq!(seen.resume_ms(Duration::from_secs(1), 3), Some(9_601));
    }

    #[test]
    fn a_reader_of_many_lines_remembers_only_those_that_it_reads_again() {
        let mut seen = seen_at(i64::MAX);
        let at = |id: usize| i64::try_from(id * 10).unwrap();
        for id in 0..60_000 {
            seen.insert(&event(id, at(id)), false);
        }
        seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
        assert_eq!(seen.window.events.len(), 6_001, "a minute of lines");
        let resume = seen.resume_ms(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS).unwrap();
        assert!((0..60_000).all(|id| !seen.insert(&event(id, at(id)), false)), "and gives none of the others again");
        assert!((0..60_000).filter(|id| at(*id) >= resume).count() <= seen.window.events.len());
        for id in 60_000..200_000 {
            seen.insert(&event(id, at(60_000)), false);
        }
        seen.insert(&event(200_000, at(60_001)), false);
        seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
        assert_eq!(seen.window.events.len(), 1, "a flood in one millisecond is not read again");
    }

    /// Lines that are dated in the future, one or very many, do not hide what is written until then, and are given once.
    #[test]
    fn lines_of_the_future_do_not_move_the_floor_past_now() {
        const NOW: i64 = 1_000_000;
        for many in [1, limits::MAX_FUTURE_EVENTS + 10] {
            let mut seen = seen_at(NOW);
            let future = |id: usize| event(id, NOW + 100_000 + i64::try_from(id % 7).unwrap());
            let taken = (0..many).filter(|id| seen.insert(&future(*id), false)).count();
            assert_eq!(taken, many.min(limits::MAX_FUTURE_EVENTS));
            assert_eq!(seen.resume_ms(limits::FOLLOW_OVERLAP, 3), Some(NOW - 60_000));
            seen.settle(limits::FOLLOW_OVERLAP, 3);
            assert!((0..taken).all(|id| !seen.insert(&future(id), false)), "none is given twice");
            assert!(seen.insert(&event(many, NOW), false), "an honest line is not hidden");

            seen.begin(NOW + 200_000);
            let late = (0..many).filter(|id| seen.insert(&future(*id), false)).count();
            assert_eq!(taken + late, many, "when their time has come, the others are given too");
        }
    }

    #[test]
    fn stream_that_is_read_for_the_first_time_has_no_floor() {
        let mut seen = seen_at(i64::MAX);
        seen.insert(&event(0, 1_000_000), false);
        seen.settle(limits::FOLLOW_OVERLAP, limits::MAX_REREAD_EVENTS);
        assert!(!seen.insert(&event(1, 5), false));
        assert!(seen.insert(&event(1, 5), true));
        assert!(!seen.insert(&event(1, 5), true), "also when its reading is made again after a failure");
    }
}
