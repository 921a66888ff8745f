//! GetLogEvents and FilterLogEvents.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::api::{ApiError, Response};
use super::interfere::Page;
use super::logs::{EVENT_OVERHEAD_BYTES, Event, Group, Key, Logs, invalid, no_stream};
use super::logs_api::{
    FilterLogEvents, FilterLogEventsResponse, FilteredLogEvent, GetLogEvents, GetLogEventsResponse, OutputLogEvent,
};
use super::pattern::Pattern;

/// Events on one page, at most.
const MAX_PAGE_EVENTS: i64 = 10_000;
/// A page, in bytes.
const MAX_PAGE_BYTES: usize = 1_048_576;
/// Streams that one FilterLogEvents may name; fewer than that are read one by one, more by reading the group.
const MAX_STREAM_NAMES: usize = 100;

const FIRST: Key = (i64::MIN, 0);
const LAST: Key = (i64::MAX, u64::MAX);

/// Where a page begins and in which direction it goes on. The key itself belongs to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Forward(Key),
    Backward(Key),
}

impl Cursor {
    fn token(self) -> String {
        match self {
            Self::Forward((at, order)) => format!("f/{at}/{order}"),
            Self::Backward((at, order)) => format!("b/{at}/{order}"),
        }
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        let parsed = || {
            let (direction, key) = token.split_once('/')?;
            let (at, order) = key.split_once('/')?;
            let key = (at.parse().ok()?, order.parse().ok()?);
            match direction {
                "f" => Some(Self::Forward(key)),
                "b" => Some(Self::Backward(key)),
                _ => None,
            }
        };
        parsed().ok_or_else(|| invalid("The specified nextToken is invalid."))
    }
}

fn after((at, order): Key) -> Key {
    order.checked_add(1).map_or((at.saturating_add(1), 0), |order| (at, order))
}

fn before((at, order): Key) -> Key {
    order.checked_sub(1).map_or((at.saturating_sub(1), u64::MAX), |order| (at, order))
}

/// The keys of a page that may begin at the cursor; `None`: there are none.
fn keys(cursor: Cursor, start: i64, end: i64) -> Option<RangeInclusive<Key>> {
    let (first, last) = match cursor {
        Cursor::Forward(key) => (key.max((start, 0)), (end, u64::MAX)),
        Cursor::Backward(key) => ((start, 0), key.min((end, u64::MAX))),
    };
    (first <= last).then_some(first..=last)
}

fn page_limit(limit: Option<i64>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(MAX_PAGE_EVENTS);
    usize::try_from(limit).ok().filter(|_| (1..=MAX_PAGE_EVENTS).contains(&limit)).ok_or_else(|| {
        invalid(format!("1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value between 1 and {MAX_PAGE_EVENTS}"))
    })
}

/// Iterates over a group's events or over those of some streams, in one direction.
type Source<'a> = Box<dyn Iterator<Item = (Key, &'a Event)> + 'a>;

impl Logs {
    /// `seen`: events that were delivered later are not there yet.
    pub(super) fn get_events(&self, seen: i64, shape: &GetLogEvents, spoilt: Page) -> Result<Response, ApiError> {
        let group = self.group(shape.group())?;
        let stream = group.streams.get(shape.log_stream_name.as_str()).filter(|stream| stream.visible_at <= seen);
        let stream = stream.ok_or_else(no_stream)?;
        let limit = page_limit(shape.limit)?;
        let start = shape.start_time.unwrap_or(i64::MIN);
        let end = shape.end_time.map_or(i64::MAX, |end| end.saturating_sub(1));
        let cursor = match shape.next_token.as_deref() {
            Some(token) => Cursor::parse(token)?,
            None if shape.start_from_head => Cursor::Forward(FIRST),
            None => Cursor::Backward(LAST),
        };
        let range = keys(cursor, start, end).filter(|_| spoilt != Page::Postponed);
        let keys = range.into_iter().flat_map(|range| stream.keys.range(range));
        let visible =
            |key: &Key| group.events.get(key).filter(|event| event.visible_at <= seen).map(|event| (*key, event));
        let page: Vec<_> = match cursor {
            Cursor::Forward(_) => within_a_page(keys.filter_map(visible), limit),
            Cursor::Backward(_) => {
                let mut page = within_a_page(keys.rev().filter_map(visible), limit);
                page.reverse();
                page
            }
        };
        // An empty page leaves both tokens where the cursor is.
        let here = match cursor {
            Cursor::Forward(key) => (key, before(key)),
            Cursor::Backward(LAST) => (FIRST, LAST),
            Cursor::Backward(key) => (after(key), key),
        };
        let forward = page.last().map_or(here.0, |(key, _)| after(*key));
        let backward = page.first().map_or(here.1, |(key, _)| before(*key));
        let events = page.into_iter().map(|((timestamp, _), event)| OutputLogEvent {
            timestamp,
            message: Arc::clone(&event.message),
            ingestion_time: event.visible_at,
        });
        let mut events = events.collect();
        spoilt.spoil(&mut events);
        Ok(Response::LogEvents(GetLogEventsResponse {
            events,
            next_forward_token: Cursor::Forward(forward).token(),
            next_backward_token: Cursor::Backward(backward).token(),
        }))
    }

    /// `seen`: events that were delivered later are not there yet. `scan`: how many events one call looks at.
    pub(super) fn filter_events(
        &self,
        seen: i64,
        scan: usize,
        shape: &FilterLogEvents,
        spoilt: Page,
    ) -> Result<Response, ApiError> {
        let group = self.group(shape.group())?;
        let limit = page_limit(shape.limit)?;
        let pattern = Pattern::parse(shape.filter_pattern.as_deref().unwrap_or_default()).map_err(invalid)?;
        let (start, end) = (shape.start_time.unwrap_or(0), shape.end_time.unwrap_or(i64::MAX));
        if start > end {
            return Err(invalid("startTime must not be after endTime."));
        }
        let cursor = match shape.next_token.as_deref() {
            Some(token) => Cursor::parse(token)?,
            None if shape.start_from_head == Some(false) => Cursor::Backward(LAST),
            None => Cursor::Forward(FIRST),
        };
        let source = group.source(seen, scan, shape, cursor, keys(cursor, start, end))?;
        let mut page = Search { events: Vec::new(), bytes: 0, next: None };
        if spoilt == Page::Postponed {
            page.next = Some(cursor);
        } else {
            page.run(source, (limit, scan.max(1)), &pattern, cursor);
            spoilt.spoil(&mut page.events);
        }
        Ok(Response::FilteredEvents(FilterLogEventsResponse {
            events: page.events,
            searched_log_streams: [],
            next_token: page.next.map(Cursor::token),
        }))
    }
}

/// As many as fit on a page, at least one.
fn within_a_page<'a>(events: impl Iterator<Item = (Key, &'a Event)>, limit: usize) -> Vec<(Key, &'a Event)> {
    let mut bytes = 0;
    let fits = |(_, event): &(Key, &Event)| {
        let first = bytes == 0;
        bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
        first || bytes <= MAX_PAGE_BYTES
    };
    events.take(limit).take_while(fits).collect()
}

/// A page of FilterLogEvents in the making.
struct Search {
    events: Vec<FilteredLogEvent>,
    bytes: usize,
    /// Where the next page begins; `None`: everything was looked at.
    next: Option<Cursor>,
}

impl Search {
    fn run(&mut self, source: Source<'_>, limits: (usize, usize), pattern: &Pattern, cursor: Cursor) {
        let (limit, scan) = limits;
        for (scanned, (key, event)) in source.enumerate() {
            if scanned >= scan || self.events.len() >= limit || self.bytes >= MAX_PAGE_BYTES {
                self.next = Some(match cursor {
                    Cursor::Forward(_) => Cursor::Forward(key),
                    Cursor::Backward(_) => Cursor::Backward(key),
                });
                return;
            }
            if pattern.matches(&event.message) {
                self.bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
                self.events.push(FilteredLogEvent {
                    log_stream_name: Arc::clone(&event.stream),
                    timestamp: key.0,
                    message: Arc::clone(&event.message),
                    ingestion_time: event.visible_at,
                    event_id: format!("{:056}", event.id),
                });
            }
        }
    }
}

impl Group {
    /// The events that are there: a page never ends behind one that is still to come in its stream.
    fn source<'a>(
        &'a self,
        seen: i64,
        scan: usize,
        shape: &FilterLogEvents,
        cursor: Cursor,
        keys: Option<RangeInclusive<Key>>,
    ) -> Result<Source<'a>, ApiError> {
        let names = self.stream_names(seen, shape)?;
        let Some(keys) = keys else { return Ok(Box::new(std::iter::empty())) };
        let forward = matches!(cursor, Cursor::Forward(_));
        let is_there = move |event: &Event| event.visible_at <= seen;
        let all = |keys| {
            let there = self.events.range(keys).filter(move |(_, event)| is_there(event));
            there.map(|(key, event)| (*key, event))
        };
        match names {
            None if forward => Ok(Box::new(all(keys))),
            None => Ok(Box::new(all(keys).rev())),
            Some(names) if names.len() > MAX_STREAM_NAMES => {
                let names: HashSet<Arc<str>> = names.into_iter().collect();
                let range = all(keys).filter(move |(_, event)| names.contains(&event.stream));
                if forward { Ok(Box::new(range)) } else { Ok(Box::new(range.rev())) }
            }
            Some(names) => {
                // One more than a call looks at shows that there is more.
                let mut found: Vec<Key> = Vec::new();
                for stream in names.iter().filter_map(|name| self.streams.get(name)) {
                    let range = stream.keys.range(keys.clone()).copied();
                    let range = range.filter(|key| self.events.get(key).is_some_and(is_there));
                    if forward {
                        found.extend(range.take(scan.saturating_add(1)));
                    } else {
                        found.extend(range.rev().take(scan.saturating_add(1)));
                    }
                }
                found.sort_unstable();
                if !forward {
                    found.reverse();
                }
                Ok(Box::new(found.into_iter().filter_map(|key| self.events.get(&key).map(|event| (key, event)))))
            }
        }
    }

    /// The streams to look at; `None`: all.
    fn stream_names(&self, seen: i64, shape: &FilterLogEvents) -> Result<Option<Vec<Arc<str>>>, ApiError> {
        match (&shape.log_stream_names, &shape.log_stream_name_prefix) {
            (Some(_), Some(_)) => Err(invalid("logStreamNamePrefix and logStreamNames cannot be used together.")),
            (Some(names), None) if names.is_empty() || names.len() > MAX_STREAM_NAMES => {
                Err(invalid("1 validation error detected: 'logStreamNames' must have 1 to 100 members"))
            }
            (Some(names), None) => {
                let known = |name: &String| {
                    let known =
                        self.streams.get_key_value(name.as_str()).filter(|(_, stream)| stream.visible_at <= seen);
                    known.map(|(name, _)| Arc::clone(name)).ok_or_else(no_stream)
                };
                names.iter().map(known).collect::<Result<_, _>>().map(Some)
            }
            (None, Some(prefix)) => {
                let from = (std::ops::Bound::Included(prefix.as_str()), std::ops::Bound::Unbounded);
                let matching =
                    self.streams.range::<str, _>(from).take_while(|(name, _)| name.starts_with(prefix.as_str()));
                Ok(Some(matching.map(|(name, _)| Arc::clone(name)).collect()))
            }
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_it_ended_however_much_is_delivered_meanwhile() {
        let mut logs = Logs::default();
        let stream: Arc<str> = "s".into();
        for line in 0..10_i64 {
            logs.deliver("g", &stream, (100, 100, 200 + line), &format!("{line}\n"), None);
        }
        let page = |seen: i64, next_token: Option<String>| {
            let shape = FilterLogEvents {
                log_group_name: Some("g".to_owned()),
                log_stream_names: Some(vec!["s".to_owned()]),
                next_token,
                ..FilterLogEvents::default()
            };
            let Ok(Response::FilteredEvents(page)) = logs.filter_events(seen, 3, &shape, Page::Whole) else { panic!() };
            let lines: String = page.events.iter().map(|event| event.message.trim()).collect();
            (lines, page.next_token)
        };
        let (lines, token) = page(203, None);
        assert_eq!((lines.as_str(), token.is_some()), ("012", true));
        assert_eq!(page(208, token).0, "345", "three more, although all but one are there now");
        assert_eq!(page(201, None), ("01".to_owned(), None), "what is still to come is no reason to turn the page");
    }
}
