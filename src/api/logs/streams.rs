//! Which log streams hold a container's output.
//!
//! Anyone who may write to the log group can create a stream whose name looks like one of this container's. So a stream
//! counts only when the reconciler has attributed a line of it to a run of the container, or when this session has read a
//! line in it that only the log of one of its runs can contain: a marker with the current run's token, or a line of
//! Lambda's with the request id of any run. Nothing of any other stream is read, let alone shown.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use sockerless_bootstrap::protocol::Marker;

use super::super::limits;
use super::queries::{Earlier, earlier_queries, known_streams, proof_queries};
use crate::aws::{AwsError, AwsErrorKind, LogEvent, LogQuery, ReadLogs};
use crate::clock::Timestamp;
use crate::state::model::lambda_log::{PlatformLine, function_of_stream};
use crate::state::model::{Container, Protocol, Run};

/// The streams of one container, as one session knows them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Proven by this session, the latest last.
    proven: VecDeque<String>,
    /// The run for which a stream was proven.
    proven_run: Option<u64>,
    search: Option<Search>,
    earlier: Option<Search>,
    /// When those are searched for again that the last search has not found.
    pause: Pause,
    /// Earlier invocations that are not searched for any more: a stream was proven to be theirs, or the log shows none.
    searched: BTreeSet<String>,
    /// Streams that were read from the beginning.
    read: BTreeSet<String>,
    /// Streams that did not exist when they were last asked for.
    absent: BTreeSet<String>,
}

/// A search for lines with some secrets.
#[derive(Debug)]
struct Search {
    run: u64,
    began: Timestamp,
    /// The invocations of which a line is looked for.
    request_ids: Vec<String>,
    queries: VecDeque<LogQuery>,
}

/// Searches that find nothing are made ever more seldom.
#[derive(Debug, Default)]
struct Pause {
    /// The invocations that were not found.
    request_ids: Vec<String>,
    since: Timestamp,
    length: Duration,
}

impl Pause {
    fn has(&self, request_ids: &[String], now: Timestamp) -> bool {
        // A clock that was put back ends the pause.
        self.request_ids == request_ids && now >= self.since && now.since(self.since) < self.length
    }

    /// A search for these that has ended has found none of them.
    fn lengthen(&mut self, request_ids: Vec<String>, now: Timestamp) {
        let is_again = self.request_ids == request_ids;
        let length = if is_again { self.length.saturating_mul(2) } else { limits::REST_INTERVAL };
        *self = Self { request_ids, since: now, length: length.clamp(limits::REST_INTERVAL, limits::MAX_SEARCH_PAUSE) };
    }
}

/// How far some pages have brought a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `found` asked for no more, or the last page was read.
    Over,
    /// The token of a page has expired: the search begins anew.
    Expired,
    Unfinished,
}

impl Search {
    /// Reads some pages until `found` returns `true` for an event. After an error, it goes on with the page that failed.
    async fn step(&mut self, logs: &dyn ReadLogs, mut found: impl FnMut(&LogEvent) -> bool) -> Result<Step, AwsError> {
        for _ in 0..limits::MAX_SEARCH_PAGES {
            let Some(query) = self.queries.front_mut() else { return Ok(Step::Over) };
            let page = match logs.read(query.clone()).await {
                Err(error) if error.kind == AwsErrorKind::InvalidParameter && query.next_token.is_some() => {
                    return Ok(Step::Expired);
                }
                page => page?,
            };
            if page.events.iter().any(&mut found) {
                return Ok(Step::Over);
            }
            query.next_token = page.next_token;
            if query.next_token.is_none() {
                self.queries.pop_front();
            }
        }
        Ok(if self.queries.is_empty() { Step::Over } else { Step::Unfinished })
    }
}

impl Streams {
    /// Looks for the stream of the latest run while it is unknown, by some pages of the log. A search that has not come to
    /// its end goes on with the next call, so that a flood in forged streams delays it and nothing else. It ends with the
    /// first proof: the reconciler finds other streams.
    pub(super) async fn search(
        &mut self,
        logs: &dyn ReadLogs,
        container: &Container,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        let run = container.status.run.as_ref();
        let Some(run) = run.filter(|run| run.log_stream.is_none() && self.proven_run != Some(run.no)) else {
            self.search = None;
            return Ok(());
        };
        let request_ids: Vec<String> = run.request_id.iter().cloned().collect();
        let is_current = |search: &Search| search.run == run.no && search.request_ids == request_ids;
        let search = match self.search.take().filter(is_current) {
            Some(search) => search,
            None => {
                let queries = proof_queries(container, run, now).into();
                Search { run: run.no, began: now, request_ids, queries }
            }
        };
        let mut proof = None;
        let step = self.search.insert(search).step(logs, |event| {
            let is_proof = proves(event, container, run);
            proof = is_proof.then(|| event.stream.clone());
            is_proof
        });
        if step.await? != Step::Unfinished {
            self.search = None;
        }
        if let Some(stream) = proof {
            self.proven_run = Some(run.no);
            self.prove(&stream);
        }
        Ok(())
    }

    /// Looks for the streams of earlier invocations, of which `missing` have shown no end yet: a run that is followed by
    /// another one at once has ended before the log shows where it wrote. As many pages, and as many invocations, the latest
    /// first, as one search may read.
    ///
    /// A search that has found nothing is made again after a pause, which grows to [`limits::MAX_SEARCH_PAUSE`].
    ///
    /// An invocation is searched for until a stream is found, or until a search that began after all lines must have come
    /// finds none.
    pub(super) async fn search_earlier(
        &mut self,
        logs: &dyn ReadLogs,
        container: &Container,
        missing: &[String],
        now: Timestamp,
    ) -> Result<(), AwsError> {
        self.searched.retain(|id| missing.contains(id));
        let unsearched = missing.iter().rev().filter(|id| !self.searched.contains(*id));
        let request_ids: Vec<String> = unsearched.take(limits::MAX_SEARCHED_IDS).cloned().collect();
        let run = container.status.run.as_ref();
        let Some((run, earlier)) = run.zip(Earlier::of(&container.status, now)) else { return Ok(()) };
        if request_ids.is_empty() {
            self.earlier = None;
            return Ok(());
        }
        if self.earlier.is_none() && self.pause.has(&request_ids, now) {
            return Ok(());
        }
        let is_current = |search: &Search| search.run == run.no && search.request_ids == request_ids;
        let search = match self.earlier.take().filter(is_current) {
            Some(search) => search,
            None => {
                let queries = earlier_queries(container, earlier, &request_ids).into();
                Search { run: run.no, began: now, request_ids, queries }
            }
        };
        let began = search.began;
        let mut proofs: Vec<(String, String)> = Vec::new();
        let search = self.earlier.insert(search);
        let mut open: BTreeSet<String> = search.request_ids.iter().cloned().collect();
        let step = search.step(logs, |event| {
            if let Some(id) = invocation_of(event, earlier.function_name).filter(|id| open.remove(*id)) {
                proofs.push((id.to_owned(), event.stream.clone()));
            }
            open.is_empty()
        });
        let step = step.await;
        if matches!(step, Ok(Step::Over)) && proofs.is_empty() {
            self.pause.lengthen(search.request_ids.clone(), now);
        }
        for (id, stream) in proofs {
            self.prove(&stream);
            self.searched.insert(id);
        }
        if matches!(step, Ok(Step::Over)) && began >= earlier.complete_at {
            self.searched.extend(open);
        }
        if matches!(step, Ok(Step::Over | Step::Expired)) {
            self.earlier = None;
        }
        step.map(|_| ())
    }

    /// The next search is the last one: it is made whatever the ones before have found.
    pub(super) fn search_at_once(&mut self) {
        self.pause = Pause::default();
    }

    fn prove(&mut self, stream: &str) {
        if !self.proven.iter().any(|proven| proven == stream) {
            self.proven.push_back(stream.to_owned());
        }
        if self.proven.len() > limits::MAX_PROVEN_STREAMS {
            self.proven.pop_front();
        }
    }

    /// All streams of the container except those that do not exist; what was noted of others is forgotten. The latest run's is
    /// asked for again all the same: an end of the answer without it is put off.
    pub(super) fn of(&mut self, container: &Container) -> Vec<String> {
        let mut streams = known_streams(container);
        let others = self.proven.iter().filter(|proven| !streams.contains(proven)).cloned();
        let others: Vec<String> = others.collect();
        streams.extend(others);
        self.absent.retain(|stream| streams.contains(stream));
        streams.retain(|stream| !self.absent.contains(stream) || is_latest(container, stream));
        self.read.retain(|stream| streams.contains(stream));
        streams
    }

    /// Whether the stream was read from its beginning.
    pub(super) fn is_read(&self, stream: &str) -> bool {
        self.read.contains(stream)
    }

    /// These streams were read from their beginning, and those do not exist.
    pub(super) fn note_read(&mut self, streams: BTreeSet<String>, absent: BTreeSet<String>) {
        self.absent.retain(|stream| !streams.contains(stream));
        self.read.extend(streams);
        self.absent.extend(absent);
    }

    /// Whether the stream did not exist when it was last asked for.
    pub(super) fn is_absent(&self, stream: &str) -> bool {
        self.absent.contains(stream)
    }

    /// Whether the stream of the latest run did not.
    pub(super) fn latest_is_absent(&self, container: &Container) -> bool {
        self.absent.iter().any(|stream| is_latest(container, stream))
    }
}

fn is_latest(container: &Container, stream: &str) -> bool {
    container.status.run.as_ref().and_then(|run| run.log_stream.as_deref()) == Some(stream)
}

/// Whether the event is in a stream of the run's function and can only be the run's.
fn proves(event: &LogEvent, container: &Container, run: &Run) -> bool {
    let Some(issued) = &run.issued else { return false };
    if let Some(id) = invocation_of(event, &issued.function_name) {
        return run.request_id.as_deref() == Some(id);
    }
    container.spec.config.function.protocol == Protocol::Bootstrap
        && function_of_stream(&event.stream) == Some(issued.function_name.as_str())
        && Marker::parse(&event.message).is_some_and(|marker| *token(&marker) == issued.token)
}

/// The invocation that Lambda's own line is about, in a stream of this function.
fn invocation_of<'a>(event: &'a LogEvent, function_name: &str) -> Option<&'a str> {
    let is_of_function = function_of_stream(&event.stream) == Some(function_name);
    PlatformLine::parse(&event.message).map(|(id, _)| id).filter(|_| is_of_function)
}

fn token(marker: &Marker) -> &String {
    match marker {
        Marker::Start { token, .. } | Marker::Exit { token, .. } | Marker::Duplicate { token, .. } => token,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::api::tests::{container, issued_run};
    use crate::aws::{LogPage, ReadLogsFuture};

    const ID: &str = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0";
    const OTHER: &str = "00000000-0000-0000-0000-000000000000";

    /// A log without lines, which counts the questions.
    #[derive(Default)]
    struct Empty(AtomicUsize);

    impl ReadLogs for Empty {
        fn read(&self, _: LogQuery) -> ReadLogsFuture<'_> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(LogPage::default()) })
        }
    }

    #[tokio::test]
    async fn invocation_without_a_line_is_searched_for_ever_more_seldom() {
        let (mut streams, logs) = (Streams::default(), Empty::default());
        let mut container = container("x");
        container.status.run = Some(issued_run(2));
        let missing = [ID.to_owned()];
        let begin = Timestamp::from_secs(1_011);
        let mut searches = Vec::new();
        for second in 0..120 {
            let (before, now) = (logs.0.load(Ordering::Relaxed), begin.after(Duration::from_secs(second)));
            streams.search_earlier(&logs, &container, &missing, now).await.unwrap();
            if logs.0.load(Ordering::Relaxed) > before {
                searches.push(second);
            }
        }
        assert_eq!(searches, [0, 1, 2, 4, 8, 16, 32, 62, 92]);
        let before = logs.0.load(Ordering::Relaxed);
        streams
            .search_earlier(&logs, &container, &[OTHER.to_owned()], begin.after(Duration::from_secs(93)))
            .await
            .unwrap();
        streams.search_at_once();
        streams.search_earlier(&logs, &container, &missing, begin.after(Duration::from_secs(94))).await.unwrap();
        assert!(logs.0.load(Ordering::Relaxed) >= before + 2, "others, and what is asked for a last time, do not wait");
    }

    #[test]
    fn stream_is_the_runs_by_its_secrets_in_a_stream_of_its_function() {
        let stream = |function: &str| format!("2026/11/23/{function}[$LATEST]0123456789abcdef0123456789abcdef");
        let judged = |container: &Container, run: &Run, stream: &str, message: &str| {
            let event = LogEvent {
                id: String::new(),
                stream: stream.to_owned(),
                timestamp_ms: 1,
                ingestion_ms: 1,
                message: message.to_owned(),
            };
            proves(&event, container, run)
        };
        let (mut container, mut run) = (container("x"), issued_run(1));
        run.request_id = Some(ID.to_owned());
        let start = |id: &str| format!("START RequestId: {id} Version: $LATEST\n");
        let (marker, own) = (format!("@sockerless:start token-1 {ID}"), stream("fn"));
        assert!(judged(&container, &run, &own, &start(ID)) && judged(&container, &run, &own, &marker));
        for forged in ["token-1", &start(OTHER), &format!("@sockerless:start token-2 {ID}"), &format!("my id is {ID}")]
        {
            assert!(!judged(&container, &run, &own, forged), "{forged}");
        }
        for elsewhere in ["s", &stream("fn-2"), "2026/11/23/fn[1]abc"] {
            assert!(!judged(&container, &run, elsewhere, &marker), "{elsewhere}");
        }
        container.spec.config.function.protocol = Protocol::Native;
        assert!(judged(&container, &run, &own, &start(ID)), "a native run is known by its request id");
        assert!(!judged(&container, &run, &own, &marker), "and by no token, which its function does not get");
        run.request_id = None;
        assert!(!judged(&container, &run, &own, &start(ID)));
    }
}
