//! One pass over the log: pages in, sorted events out, each event once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::super::limits;
use crate::aws::{AwsError, LogEvent, LogQuery, ReadLogs};

/// The ids of events that were taken already, the latest of them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: HashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl Seen {
    /// `true` when the event is new.
    fn insert(&mut self, id: &str) -> bool {
        let id: Arc<str> = id.into();
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > limits::MAX_SEEN_EVENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// One pass.
#[derive(Debug)]
pub(super) struct Reading {
    queries: VecDeque<LogQuery>,
    pages_left: usize,
}

impl Reading {
    pub(super) fn new(queries: Vec<LogQuery>) -> Self {
        Self { queries: queries.into(), pages_left: limits::MAX_LOG_PAGES }
    }

    /// The next new events, sorted by time; `None`: that was all. Only as many are held as the limit says, so the
    /// order of a very long log is CloudWatch's own from one batch to the next.
    pub(super) async fn next(
        &mut self,
        logs: &dyn ReadLogs,
        seen: &mut Seen,
    ) -> Result<Option<Vec<LogEvent>>, AwsError> {
        let mut events: Vec<LogEvent> = Vec::new();
        let mut bytes = 0;
        while events.len() < limits::MAX_SORTED_EVENTS && bytes < limits::MAX_SORTED_BYTES && self.pages_left > 0 {
            let Some(query) = self.queries.pop_front() else { break };
            self.pages_left -= 1;
            let page = logs.read(query.clone()).await?;
            for event in page.events.into_iter().filter(|event| seen.insert(&event.id)) {
                bytes += event.message.len();
                events.push(event);
            }
            if page.next_token.is_some() {
                self.queries.push_front(LogQuery { next_token: page.next_token, ..query });
            }
        }
        // Stable: events of one millisecond stay in the order in which they came.
        events.sort_by_key(|event| (event.timestamp_ms, event.ingestion_ms));
        let is_over = events.is_empty() && (self.queries.is_empty() || self.pages_left == 0);
        Ok(if is_over { None } else { Some(events) })
    }
}
