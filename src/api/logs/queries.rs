//! What to ask CloudWatch for. PURE.

use super::super::limits;
use crate::aws::LogQuery;
use crate::clock::Timestamp;
use crate::state::model::{Container, Run};

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// The questions whose answers together are the output of a container's runs, from `from_ms` on. CloudWatch takes no span
/// that ends before it begins: nothing is in it.
pub(super) fn queries(container: &Container, from_ms: i64, until_ms: Option<i64>, now: Timestamp) -> Vec<LogQuery> {
    if until_ms.is_some_and(|until| until < from_ms) {
        return Vec::new();
    }
    let status = &container.status;
    let mut streams = status.log_streams.clone();
    let run = status.run.as_ref();
    if let Some(stream) = run.and_then(|run| run.log_stream.as_ref()).filter(|stream| !streams.contains(stream)) {
        streams.push(stream.clone());
    }
    let base = LogQuery {
        group: container.spec.config.function.log_group.clone(),
        start_ms: Some(from_ms),
        end_ms: until_ms,
        ..LogQuery::default()
    };
    let of_streams = streams.chunks(limits::MAX_STREAMS_PER_QUERY);
    let of_streams = of_streams.map(|streams| LogQuery { streams: streams.to_vec(), ..base.clone() });
    let prefixes = run.filter(|run| run.log_stream.is_none()).map(|run| prefixes(run, now)).unwrap_or_default();
    let of_prefixes = prefixes.into_iter().map(|prefix| LogQuery { stream_prefix: Some(prefix), ..base.clone() });
    of_streams.chain(of_prefixes).collect()
}

/// How the streams begin that a run may write to while its stream is unknown: `YYYY/MM/DD/<function>[`.
fn prefixes(run: &Run, now: Timestamp) -> Vec<String> {
    let Some(issued) = &run.issued else { return Vec::new() };
    let first = issued.at.before(limits::STREAM_DAY_MARGIN);
    let day = |time: Timestamp| time.to_string().get(..10).map(|day| day.replace('-', "/"));
    let (mut days, mut time) = (Vec::new(), first);
    while days.len() < limits::MAX_STREAM_DAYS {
        days.extend(day(time).filter(|day| !days.contains(day)));
        if day(time) >= day(now.max(issued.at)) {
            break;
        }
        time = time.after(DAY);
    }
    days.into_iter().map(|day| format!("{day}/{}[", issued.function_name)).collect()
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
        let queries = queries(&container, 5, Some(9), Timestamp::default());
        let sizes: Vec<usize> = queries.iter().map(|query| query.streams.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert!(queries.iter().all(|query| query.start_ms == Some(5) && query.end_ms == Some(9)));
        assert_eq!(super::queries(&container, 5, Some(4), Timestamp::default()), []);
    }

    #[test]
    fn an_unknown_stream_is_looked_for_by_days() {
        let mut container = container("x");
        let mut run = issued_run(1);
        run.issued.as_mut().unwrap().at = at("2026-11-23T00:30:00Z");
        run.issued.as_mut().unwrap().function_name = "fn-1".to_owned();
        container.status.run = Some(run);
        let prefixes = |container: &Container, now: &str| -> Vec<String> {
            queries(container, 0, None, at(now)).into_iter().filter_map(|query| query.stream_prefix).collect()
        };
        assert_eq!(prefixes(&container, "2026-11-23T00:31:00Z"), ["2026/11/22/fn-1[", "2026/11/23/fn-1["]);
        assert_eq!(
            prefixes(&container, "2026-12-24T00:31:00Z"),
            ["2026/11/22/fn-1[", "2026/11/23/fn-1[", "2026/11/24/fn-1["]
        );
        container.status.run.as_mut().unwrap().log_stream = Some("s".to_owned());
        assert!(prefixes(&container, "2026-11-23T00:31:00Z").is_empty());
        assert_eq!(queries(&container, 0, None, at("2026-11-23T00:31:00Z")).len(), 1);
    }

    #[test]
    fn what_never_ran_has_no_log() {
        assert!(queries(&container("x"), 0, None, Timestamp::default()).is_empty());
    }
}
