//! What to ask CloudWatch for. PURE.

use super::super::limits;
use crate::aws::LogQuery;
use crate::clock::Timestamp;
use crate::state::model::{Container, Protocol, Run, Status};

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// A span of time in a log, Unix milliseconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_ms: i64,
    pub(super) until_ms: i64,
}

/// The queries for all lines of some streams. CloudWatch refuses a span that ends before it begins: it is empty.
pub(super) fn queries(group: &str, streams: &[String], span: Span) -> Vec<LogQuery> {
    if span.until_ms < span.from_ms {
        return Vec::new();
    }
    let query = |streams: &[String]| LogQuery { streams: streams.to_vec(), ..spanning(group, span) };
    streams.chunks(limits::MAX_STREAMS_PER_QUERY).map(query).collect()
}

/// The streams in which the reconciler has seen this container's output.
pub(super) fn known_streams(container: &Container) -> Vec<String> {
    let status = &container.status;
    let mut streams = status.log_streams.clone();
    let latest = status.run.as_ref().and_then(|run| run.log_stream.as_ref());
    streams.extend(latest.filter(|stream| !status.log_streams.contains(stream)).cloned());
    streams
}

/// The queries for the lines that prove a stream to be the run's while it is unknown: those with the run's secrets, in the
/// streams of its function. Empty while the run has no secret.
pub(super) fn proof_queries(container: &Container, run: &Run, now: Timestamp) -> Vec<LogQuery> {
    let (Some(issued), Some(pattern)) = (&run.issued, secret_pattern(container, run)) else { return Vec::new() };
    let span = Span {
        from_ms: issued.at.before(limits::CLOCK_SLACK).as_millis().max(0),
        until_ms: now.max(issued.at).after(limits::CLOCK_SLACK).as_millis(),
    };
    let prefixes = prefixes(&issued.function_name, issued.at, now.max(issued.at));
    searching(&container.spec.config.function.log_group, span, prefixes, &pattern)
}

/// Where lines of earlier invocations are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier<'a> {
    pub(super) function_name: &'a str,
    /// They began within a day before the last invocation, or there was time enough for the reconciler to see their streams.
    from: Timestamp,
    /// They had ended by then.
    until: Timestamp,
    /// All of their lines have come by then.
    pub(super) complete_at: Timestamp,
}

impl<'a> Earlier<'a> {
    /// Before the latest run; up to now if that was never issued: the last invocation is an earlier one then.
    pub(super) fn of(status: &'a Status, now: Timestamp) -> Option<Self> {
        let (function_name, at) = status.last_invocation()?;
        let is_issued = status.run.as_ref().is_some_and(|run| run.issued.is_some());
        let last = status.last_issued.as_ref().filter(|_| !is_issued);
        let complete_at = last.map_or(at.after(limits::CLOCK_SLACK), |last| last.looked_for_until);
        let until = if last.is_some() { now.max(at) } else { at };
        Some(Self { function_name, from: at.before(DAY), until, complete_at })
    }
}

/// The queries for lines with these request ids of earlier invocations.
pub(super) fn earlier_queries(container: &Container, earlier: Earlier<'_>, request_ids: &[String]) -> Vec<LogQuery> {
    let span = Span {
        from_ms: earlier.from.as_millis().max(0),
        until_ms: earlier.until.after(limits::CLOCK_SLACK).as_millis(),
    };
    let prefixes = prefixes(earlier.function_name, earlier.from, earlier.until);
    searching(&container.spec.config.function.log_group, span, prefixes, &any_of(request_ids.iter()))
}

fn searching(group: &str, span: Span, prefixes: Vec<String>, pattern: &str) -> Vec<LogQuery> {
    let query =
        |prefix| LogQuery { stream_prefix: Some(prefix), pattern: Some(pattern.to_owned()), ..spanning(group, span) };
    prefixes.into_iter().map(query).collect()
}

/// The pattern for lines with one of these words.
fn any_of<'a>(words: impl Iterator<Item = &'a String>) -> String {
    words.map(|word| format!("?\"{word}\"")).collect::<Vec<_>>().join(" ")
}

/// What only the run's own log can contain: the token of its order, and its request id. A native function does not get
/// the token.
fn secret_pattern(container: &Container, run: &Run) -> Option<String> {
    let has_token = container.spec.config.function.protocol == Protocol::Bootstrap;
    let token = run.issued.as_ref().map(|issued| &issued.token).filter(|_| has_token);
    let pattern = any_of(token.into_iter().chain(&run.request_id));
    (!pattern.is_empty()).then_some(pattern)
}

fn spanning(group: &str, span: Span) -> LogQuery {
    LogQuery {
        group: group.to_owned(),
        start_ms: Some(span.from_ms),
        end_ms: Some(span.until_ms),
        ..LogQuery::default()
    }
}

/// How the streams begin that runs of a function between these times may write to: `YYYY/MM/DD/<function>[`.
fn prefixes(function_name: &str, from: Timestamp, until: Timestamp) -> Vec<String> {
    let first = from.before(limits::STREAM_DAY_MARGIN);
    let day = |time: Timestamp| time.to_string().get(..10).map(|day| day.replace('-', "/"));
    let (mut days, mut time) = (Vec::new(), first);
    while days.len() < limits::MAX_STREAM_DAYS {
        days.extend(day(time).filter(|day| !days.contains(day)));
        if day(time) >= day(until) {
            break;
        }
        time = time.after(DAY);
    }
    days.into_iter().map(|day| format!("{day}/{function_name}[")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{container, issued_run};
    use crate::state::model::LastIssued;

    #[test]
    fn last_invocation_is_looked_for_by_request_id_though_the_latest_run_was_never_issued() {
        let (mut container, now) = (container("x"), at("2026-11-23T12:00:04Z"));
        let invoked = at("2026-11-23T12:00:00Z");
        container.status.run = Some(Run { issued: None, ..issued_run(2) });
        assert!(Earlier::of(&container.status, now).is_none());
        let (function_name, looked_for_until) = ("fn-1".to_owned(), at("2026-11-23T12:05:00Z"));
        container.status.last_issued = Some(LastIssued { function_name, at: invoked, looked_for_until });
        let earlier = Earlier::of(&container.status, now).unwrap();
        assert_eq!(earlier.complete_at, looked_for_until);
        let queries = earlier_queries(&container, earlier, &["id-1".to_owned()]);
        let query = queries.last().unwrap();
        assert_eq!(query.stream_prefix.as_deref(), Some("2026/11/23/fn-1["));
        assert_eq!(query.pattern.as_deref(), Some("?\"id-1\""));
        assert!(query.end_ms > Some(now.as_millis()), "its lines may come until now");
    }

    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_millis(time.as_millisecond())
    }

    #[test]
    fn known_streams_are_asked_for_a_hundred_at_a_time() {
        let mut container = container("x");
        container.status.log_streams = (0..250).map(|n| format!("s{n}")).collect();
        let streams = known_streams(&container);
        let found = queries("g", &streams, Span { from_ms: 5, until_ms: 9 });
        let sizes: Vec<usize> = found.iter().map(|query| query.streams.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert!(found.iter().all(|query| query.start_ms == Some(5) && query.end_ms == Some(9)));
        assert_eq!(queries("g", &streams, Span { from_ms: 5, until_ms: 4 }), []);
        assert_eq!(queries("g", &[], Span { from_ms: 5, until_ms: 9 }), []);
    }

    #[test]
    fn an_unknown_stream_is_looked_for_by_days_and_by_the_runs_secrets() {
        let mut container = container("x");
        let mut run = issued_run(1);
        run.issued.as_mut().unwrap().at = at("2026-11-23T00:30:00Z");
        run.issued.as_mut().unwrap().function_name = "fn-1".to_owned();
        let prefixes = |run: &Run, now: &str| -> Vec<String> {
            let found = proof_queries(&container, run, at(now));
            found.into_iter().filter_map(|query| query.stream_prefix).collect()
        };
        assert_eq!(prefixes(&run, "2026-11-23T00:31:00Z"), ["2026/11/22/fn-1[", "2026/11/23/fn-1["]);
        assert_eq!(
            prefixes(&run, "2026-12-24T00:31:00Z"),
            ["2026/11/22/fn-1[", "2026/11/23/fn-1[", "2026/11/24/fn-1["]
        );
        let pattern = |container: &Container, run: &Run| {
            proof_queries(container, run, at("2026-11-23T00:31:00Z"))
                .first()
                .map(|query| query.pattern.clone().unwrap())
        };
        assert_eq!(pattern(&container, &run).as_deref(), Some("?\"token-1\""));
        run.request_id = Some("r".to_owned());
        assert_eq!(pattern(&container, &run).as_deref(), Some("?\"token-1\" ?\"r\""));
        container.spec.config.function.protocol = Protocol::Native;
        assert_eq!(pattern(&container, &run).as_deref(), Some("?\"r\""));
        run.request_id = None;
        assert_eq!(pattern(&container, &run), None, "a native run has no secret before its request id is known");
    }
}
