//! Which log streams hold a container's output.
//!
//! Anyone who may write to the log group can create a stream whose name looks like one of this container's. So a stream
//! counts only when the reconciler has attributed a line of it to a run of the container, or when this session has read a
//! line in it that only the current run's own log can contain: a marker with its token, or a line of Lambda's with its
//! request id. Nothing of any other stream is read, let alone shown.

use std::collections::{BTreeSet, VecDeque};

use sockerless_bootstrap::protocol::Marker;

use super::super::limits;
use super::queries::{known_streams, proof_queries};
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
    /// Streams that were read from the beginning.
    read: BTreeSet<String>,
}

/// The search for the stream of one run. It ends with the first proof: the reconciler finds other streams.
#[derive(Debug)]
struct Search {
    run: u64,
    request_id: Option<String>,
    queries: VecDeque<LogQuery>,
}

impl Streams {
    /// Looks for the stream of the latest run while it is unknown, by some pages of the log. A search that has not come to
    /// its end goes on with the next call, so that a flood in forged streams delays it and nothing else.
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
        let is_current = |search: &Search| search.run == run.no && search.request_id == run.request_id;
        let mut search = self.search.take().filter(is_current).unwrap_or_else(|| Search {
            run: run.no,
            request_id: run.request_id.clone(),
            queries: proof_queries(container, run, now).into(),
        });
        for _ in 0..limits::MAX_SEARCH_PAGES {
            let Some(query) = search.queries.front_mut() else { return Ok(()) };
            let page = match logs.read(query.clone()).await {
                // The page's token has expired: the next search begins anew.
                Err(error) if error.kind == AwsErrorKind::InvalidParameter && query.next_token.is_some() => {
                    return Ok(());
                }
                Err(error) => {
                    self.search = Some(search);
                    return Err(error);
                }
                Ok(page) => page,
            };
            if let Some(event) = page.events.iter().find(|event| proves(event, container, run)) {
                self.prove(run.no, &event.stream);
                return Ok(());
            }
            query.next_token = page.next_token;
            if query.next_token.is_none() {
                search.queries.pop_front();
            }
        }
        self.search = Some(search);
        Ok(())
    }

    fn prove(&mut self, run: u64, stream: &str) {
        self.proven_run = Some(run);
        if !self.proven.iter().any(|proven| proven == stream) {
            self.proven.push_back(stream.to_owned());
        }
        if self.proven.len() > limits::MAX_PROVEN_STREAMS {
            self.proven.pop_front();
        }
    }

    /// All streams of the container; what was noted of others is forgotten.
    pub(super) fn of(&mut self, container: &Container) -> Vec<String> {
        let mut streams = known_streams(container);
        let others = self.proven.iter().filter(|proven| !streams.contains(proven)).cloned();
        let others: Vec<String> = others.collect();
        streams.extend(others);
        self.read.retain(|stream| streams.contains(stream));
        streams
    }

    /// Whether the stream was read from its beginning.
    pub(super) fn is_read(&self, stream: &str) -> bool {
        self.read.contains(stream)
    }

    /// These streams were read from their beginning.
    pub(super) fn note_read(&mut self, streams: BTreeSet<String>) {
        self.read.extend(streams);
    }
}

/// Whether the event is in a stream of the run's function and can only be the run's.
fn proves(event: &LogEvent, container: &Container, run: &Run) -> bool {
    let Some(issued) = &run.issued else { return false };
    if function_of_stream(&event.stream) != Some(issued.function_name.as_str()) {
        return false;
    }
    if let Some((id, _)) = PlatformLine::parse(&event.message) {
        return run.request_id.as_deref() == Some(id);
    }
    container.spec.config.function.protocol == Protocol::Bootstrap
        && Marker::parse(&event.message).is_some_and(|marker| *token(&marker) == issued.token)
}

fn token(marker: &Marker) -> &String {
    match marker {
        Marker::Start { token, .. } | Marker::Exit { token, .. } | Marker::Duplicate { token, .. } => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{container, issued_run};

    const ID: &str = "6bc28136-0e5d-4365-b021-0ce6b2e64ab0";
    const OTHER: &str = "00000000-0000-0000-0000-000000000000";

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
