//! What to ask CloudWatch for. PURE.

use super::super::limits;
use crate::aws::LogQuery;
use crate::clock::Timestamp;
use crate::state::model::{Container, Issued, Protocol, Run};

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

/// The queries for lines with these request ids, of runs before the one that was issued so: they began within a day before
/// it, or there was time enough for the reconciler to see their streams.
pub(super) fn earlier_queries(container: &Container, issued: &Issued, request_ids: &[String]) -> Vec<LogQuery> {
    let span = Span {
        from_ms: issued.at.before(DAY).as_millis().max(0),
        until_ms: issued.at.after(limits::CLOCK_SLACK).as_millis(),
    };
    let prefixes = prefixes(&issued.function_name, issued.at.before(DAY), issued.at);
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
