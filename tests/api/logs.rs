//! The log as the API reads it, with the events that a test has put there.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sockerless_lambda::aws::{AwsError, AwsErrorKind, LogEvent, LogPage, LogQuery, ReadLogs, ReadLogsFuture};

use crate::support::{PATIENCE, STREAM};

/// CloudWatch Logs as the API sees it: the events that a test has put there.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    events: Mutex<Vec<LogEvent>>,
    /// Behind the first page of an answer there is always another one, with nothing on it.
    pub(crate) endless: AtomicBool,
    /// Pages of such answers.
    pub(crate) pages: AtomicUsize,
    /// The number of next stream searches that are throttled.
    pub(crate) throttled_searches: AtomicUsize,
    /// Nothing is answered.
    pub(crate) silent: AtomicBool,
    /// Every search for streams fails.
    pub(crate) no_search: AtomicBool,
    /// Every reading of streams by their names fails.
    pub(crate) no_reading: AtomicBool,
    /// Streams that do not exist: a question that names one of them is refused.
    pub(crate) deleted: Mutex<BTreeSet<String>>,
    /// Readings that have failed because of `no_reading`.
    pub(crate) failed_readings: AtomicUsize,
}

fn failure(kind: AwsErrorKind) -> AwsError {
    AwsError {
        service: "logs",
        operation: "filter log events",
        kind,
        code: None,
        message: "the log cannot be read".to_owned(),
        request_id: None,
        retry_after: None,
    }
}

impl Logs {
    pub(crate) fn put(&self, timestamp_ms: i64, message: &str) {
        self.put_in(STREAM, timestamp_ms, message);
    }

    /// In a stream of this name.
    pub(crate) fn put_in(&self, stream: &str, timestamp_ms: i64, message: &str) {
        let mut events = self.events.lock().unwrap();
        let (id, stream, message) = (events.len().to_string(), stream.to_owned(), message.to_owned());
        events.push(LogEvent { id, stream, timestamp_ms, ingestion_ms: timestamp_ms, message });
    }

    /// Returns when this number of further readings have failed.
    pub(crate) async fn until_failed(&self, more: usize) {
        let before = self.failed_readings.load(Ordering::Relaxed);
        let waiting = async {
            while self.failed_readings.load(Ordering::Relaxed) < before + more {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "the log is not read again");
    }
}

impl ReadLogs for Logs {
    fn read(&self, query: LogQuery) -> ReadLogsFuture<'_> {
        let is_asked = |event: &&LogEvent| {
            (query.streams.is_empty() || query.streams.contains(&event.stream))
                && query.stream_prefix.as_ref().is_none_or(|prefix| event.stream.starts_with(prefix))
                && query.start_ms.is_none_or(|start| event.timestamp_ms >= start)
                && query.end_ms.is_none_or(|end| event.timestamp_ms <= end)
        };
        if self.silent.load(Ordering::Relaxed) {
            self.pages.fetch_add(1, Ordering::Relaxed);
            return Box::pin(std::future::pending());
        }
        if query.stream_prefix.is_some() {
            let fewer = |left: usize| left.checked_sub(1);
            let kind = match self.throttled_searches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer) {
                Ok(_) => Some(AwsErrorKind::Throttled),
                Err(_) => self.no_search.load(Ordering::Relaxed).then_some(AwsErrorKind::ServiceError),
            };
            if let Some(kind) = kind {
                return Box::pin(async move { Err(failure(kind)) });
            }
        }
        if query.streams.iter().any(|stream| self.deleted.lock().unwrap().contains(stream)) {
            return Box::pin(async { Err(failure(AwsErrorKind::NotFound)) });
        }
        if !query.streams.is_empty() && self.no_reading.load(Ordering::Relaxed) {
            self.failed_readings.fetch_add(1, Ordering::Relaxed);
            return Box::pin(async { Err(failure(AwsErrorKind::ServiceError)) });
        }
        let events = self.events.lock().unwrap().iter().filter(is_asked).cloned().collect();
        if !self.endless.load(Ordering::Relaxed) {
            return Box::pin(async move { Ok(LogPage { events, next_token: None }) });
        }
        self.pages.fetch_add(1, Ordering::Relaxed);
        let events = if query.next_token.is_none() { events } else { Vec::new() };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(LogPage { events, next_token: Some("more".to_owned()) })
        })
    }
}
