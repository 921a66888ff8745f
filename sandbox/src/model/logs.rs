//! Log groups, streams and events: how they are stored, written and listed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::api::{ApiError, Response};
use super::logs_api::{
    CreateLogGroup, DeleteLogGroup, DescribeLogGroups, DescribeLogGroupsResponse, DescribeLogStreams,
    DescribeLogStreamsResponse, LogGroup, LogStream, LogStreamName, PutLogEvents, PutLogEventsResponse,
    PutRetentionPolicy, RejectedLogEventsInfo,
};
use crate::settings::Settings;

/// The largest event, in bytes; longer lines become several.
const MAX_EVENT_BYTES: usize = 256 * 1_024;
/// Events of a group that are kept, at most; the oldest go first.
const MAX_GROUP_EVENTS: usize = 1_000_000;
/// Events of one PutLogEvents.
const MAX_BATCH_EVENTS: usize = 10_000;
/// All of one PutLogEvents, in bytes.
const MAX_BATCH_BYTES: usize = 1_048_576;
/// What CloudWatch Logs adds to an event's size, in bytes.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 26;
/// Groups or streams on one page, at most.
const MAX_PAGE: i64 = 50;
/// The longest name of a stream, in bytes.
const MAX_STREAM_NAME: usize = 512;
/// How far ahead an event may be, in milliseconds.
const MAX_AHEAD_MS: i64 = 2 * 3_600_000;
/// How old an event may be, in milliseconds.
const MAX_AGE_MS: i64 = 14 * DAY_MS;
const DAY_MS: i64 = 86_400_000;
/// The retentions that exist, in days.
const RETENTIONS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// An event's place: its time, and its turn within the millisecond.
pub(super) type Key = (i64, u64);

/// Everything in CloudWatch Logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs {
    pub(super) groups: BTreeMap<String, Group>,
    count: u64,
}

/// A log group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) created_at: i64,
    pub(super) retention_days: Option<i64>,
    pub(super) streams: BTreeMap<Arc<str>, Stream>,
    pub(super) events: BTreeMap<Key, Event>,
}

/// A log stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) visible_at: i64,
    pub(super) keys: BTreeSet<Key>,
    last_delivery: i64,
}

/// A log event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: u64,
    pub(super) stream: Arc<str>,
    /// When it can be read, which is also its ingestion time.
    pub(super) visible_at: i64,
    pub(super) message: Arc<str>,
}

pub(super) fn no_group() -> ApiError {
    ApiError::logs("ResourceNotFoundException", "The specified log group does not exist.")
}

pub(super) fn no_stream() -> ApiError {
    ApiError::logs("ResourceNotFoundException", "The specified log stream does not exist.")
}

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::logs("InvalidParameterException", message)
}

impl Group {
    fn new(created_at: i64) -> Self {
        Self { created_at, ..Self::default() }
    }

    fn add(&mut self, stream: &Arc<str>, at: i64, mut order: u64, event: Event) {
        while self.events.contains_key(&(at, order)) {
            order = order.wrapping_add(1);
        }
        if let Some(known) = self.streams.get_mut(stream) {
            known.last_delivery = known.last_delivery.max(event.visible_at);
            known.keys.insert((at, order));
            self.events.insert((at, order), event);
        }
    }

    /// Removes events that are over their retention, or too many.
    fn expire(&mut self, now: i64) {
        let oldest = self.retention_days.map_or(i64::MIN, |days| now.saturating_sub(days.saturating_mul(DAY_MS)));
        while let Some((key, event)) = self.events.first_key_value() {
            if key.0 >= oldest && self.events.len() <= MAX_GROUP_EVENTS {
                return;
            }
            if let Some(stream) = self.streams.get_mut(&event.stream) {
                stream.keys.remove(key);
            }
            self.events.pop_first();
        }
    }
}

/// Pieces of at most [`MAX_EVENT_BYTES`], cut between characters.
fn pieces(mut line: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let mut end = line.len().min(MAX_EVENT_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = line.split_at(end);
        line = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

impl Logs {
    /// Writes a line of an environment; group and stream are made when they are missing. `times`: the event's, now,
    /// and when it can be read. With `shuffle` its place within its millisecond and its delivery are out of order.
    pub(super) fn deliver(
        &mut self,
        group: &str,
        stream: &Arc<str>,
        times: (i64, i64, i64),
        line: &str,
        shuffle: Option<u64>,
    ) {
        let (at, now, mut visible_at) = times;
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), Group::new(now));
        }
        let Some(group) = self.groups.get_mut(group) else { return };
        let known = group.streams.entry(Arc::clone(stream)).or_insert_with(|| Stream {
            visible_at,
            keys: BTreeSet::new(),
            last_delivery: visible_at,
        });
        if shuffle.is_none() {
            visible_at = visible_at.max(known.last_delivery);
        }
        for piece in pieces(line) {
            self.count += 1;
            let event = Event { id: self.count, stream: Arc::clone(stream), visible_at, message: piece.into() };
            group.add(stream, at, shuffle.unwrap_or(self.count), event);
        }
        group.expire(now);
    }

    pub(super) fn group(&self, name: Option<&str>) -> Result<&Group, ApiError> {
        let name = name.filter(|name| !name.is_empty()).ok_or_else(|| invalid("A log group name is needed."))?;
        self.groups.get(name).ok_or_else(no_group)
    }

    fn group_mut(&mut self, name: &str) -> Result<&mut Group, ApiError> {
        self.groups.get_mut(name).ok_or_else(no_group)
    }

    pub(super) fn create_group(&mut self, now: i64, shape: &CreateLogGroup) -> Result<Response, ApiError> {
        let name = &shape.log_group_name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-/.#".contains(c);
        if name.is_empty() || name.len() > 512 || !name.chars().all(allowed) {
            return Err(invalid(format!(
                "1 validation error detected: Value '{name}' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+"
            )));
        }
        if self.groups.contains_key(name) {
            return Err(ApiError::logs("ResourceAlreadyExistsException", "The specified log group already exists"));
        }
        self.groups.insert(name.clone(), Group::new(now));
        Ok(Response::Empty)
    }

    pub(super) fn delete_group(&mut self, shape: &DeleteLogGroup) -> Result<Response, ApiError> {
        self.groups.remove(&shape.log_group_name).map(|_| Response::Empty).ok_or_else(no_group)
    }

    pub(super) fn put_retention(&mut self, shape: &PutRetentionPolicy) -> Result<Response, ApiError> {
        let days = shape.retention_in_days.filter(|days| RETENTIONS.contains(days)).ok_or_else(|| {
            invalid("1 validation error detected: Value at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set")
        })?;
        self.group_mut(&shape.log_group_name)?.retention_days = Some(days);
        Ok(Response::Empty)
    }

    pub(super) fn create_stream(&mut self, now: i64, shape: &LogStreamName) -> Result<Response, ApiError> {
        let name = &shape.log_stream_name;
        if name.is_empty() || name.len() > MAX_STREAM_NAME || name.contains([':', '*']) {
            return Err(invalid(format!(
                "1 validation error detected: Value '{name}' at 'logStreamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [^:*]*"
            )));
        }
        let group = self.group_mut(&shape.log_group_name)?;
        if group.streams.contains_key(name.as_str()) {
            return Err(ApiError::logs("ResourceAlreadyExistsException", "The specified log stream already exists"));
        }
        let stream = Stream { visible_at: now, keys: BTreeSet::new(), last_delivery: now };
        group.streams.insert(name.as_str().into(), stream);
        Ok(Response::Empty)
    }

    pub(super) fn delete_stream(&mut self, shape: &LogStreamName) -> Result<Response, ApiError> {
        let group = self.group_mut(&shape.log_group_name)?;
        let stream = group.streams.remove(shape.log_stream_name.as_str()).ok_or_else(no_stream)?;
        for key in &stream.keys {
            group.events.remove(key);
        }
        Ok(Response::Empty)
    }

    pub(super) fn put_events(&mut self, now: i64, visible_at: i64, shape: &PutLogEvents) -> Result<Response, ApiError> {
        let events = &shape.log_events;
        let bytes: usize = events.iter().map(|event| event.message.len() + EVENT_OVERHEAD_BYTES).sum();
        if events.is_empty() || events.len() > MAX_BATCH_EVENTS || bytes > MAX_BATCH_BYTES {
            return Err(invalid("Upload too large or empty: at most 10,000 events and 1048576 bytes."));
        }
        if events.iter().any(|event| event.message.is_empty() || event.message.len() > MAX_EVENT_BYTES) {
            return Err(invalid("Log event message is empty or too large."));
        }
        if !events.is_sorted_by_key(|event| event.timestamp) {
            return Err(invalid("Log events in a single PutLogEvents request must be in chronological order."));
        }
        let group = self.groups.get_mut(&shape.log_group_name).ok_or_else(no_group)?;
        let (name, _) = group.streams.get_key_value(shape.log_stream_name.as_str()).ok_or_else(no_stream)?;
        let name = Arc::clone(name);
        let old = events.partition_point(|event| event.timestamp < now.saturating_sub(MAX_AGE_MS));
        let new = events.partition_point(|event| event.timestamp <= now.saturating_add(MAX_AHEAD_MS));
        for event in events.get(old..new).unwrap_or_default() {
            self.count += 1;
            let message = event.message.as_str().into();
            let stored = Event { id: self.count, stream: Arc::clone(&name), visible_at, message };
            group.add(&name, event.timestamp, self.count, stored);
        }
        group.expire(now);
        let rejected = RejectedLogEventsInfo {
            too_new_log_event_start_index: (new < events.len()).then_some(new),
            too_old_log_event_end_index: (old > 0).then_some(old),
        };
        let rejected_log_events_info = (rejected != RejectedLogEventsInfo::default()).then_some(rejected);
        let next_sequence_token = format!("{:056}", self.count);
        Ok(Response::EventsPut(PutLogEventsResponse { next_sequence_token, rejected_log_events_info }))
    }

    pub(super) fn describe_groups(
        &self,
        settings: &Settings,
        seen: i64,
        shape: &DescribeLogGroups,
    ) -> Result<Response, ApiError> {
        let limit = page_limit(shape.limit)?;
        let prefix = shape.log_group_name_prefix.as_deref().unwrap_or_default();
        let pattern = shape.log_group_name_pattern.as_deref().unwrap_or_default();
        if !prefix.is_empty() && !pattern.is_empty() {
            return Err(invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."));
        }
        let from = shape.next_token.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
        let mut found: Vec<_> = self
            .groups
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, group)| name.contains(pattern) && group.created_at <= seen)
            .take(limit + 1)
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next_token = found.last().filter(|_| more).map(|(name, _)| (*name).clone());
        let log_groups = found.into_iter().map(|(name, group)| {
            let arn = format!("arn:aws:logs:{}:{}:log-group:{name}", settings.region, settings.account_id);
            LogGroup {
                log_group_name: name.clone(),
                creation_time: group.created_at,
                retention_in_days: group.retention_days,
                metric_filter_count: 0,
                arn: format!("{arn}:*"),
                log_group_arn: arn,
                stored_bytes: 0,
                log_group_class: "STANDARD",
            }
        });
        Ok(Response::LogGroups(DescribeLogGroupsResponse { log_groups: log_groups.collect(), next_token }))
    }

    pub(super) fn describe_streams(
        &self,
        settings: &Settings,
        seen: i64,
        shape: &DescribeLogStreams,
    ) -> Result<Response, ApiError> {
        let limit = page_limit(shape.limit)?;
        let by_time = check_stream_query(shape)?;
        let group_name = shape.group();
        let group = self.group(group_name)?;
        let (mut found, first) =
            if by_time { group.streams_by_time(seen, shape)? } else { (group.streams_by_name(seen, shape, limit)?, 0) };
        let more = found.len() > limit;
        found.truncate(limit);
        let next_token = found.last().filter(|_| more).map(|(name, _)| match by_time {
            true => (first + limit).to_string(),
            false => format!("{}{name}", token_mark(shape.descending)),
        });
        let arn = format!(
            "arn:aws:logs:{}:{}:log-group:{}:log-stream",
            settings.region,
            settings.account_id,
            group_name.unwrap_or_default()
        );
        let indexed = seen.saturating_sub(settings.timing.stream_index_lag);
        let log_streams = found.into_iter().map(|(name, stream)| stream.described(name, &arn, indexed)).collect();
        Ok(Response::LogStreams(DescribeLogStreamsResponse { log_streams, next_token }))
    }
}

/// What AWS refuses before it looks for the group. Returns whether the streams are ordered by their last events.
fn check_stream_query(shape: &DescribeLogStreams) -> Result<bool, ApiError> {
    if shape.log_group_name.is_some() && shape.log_group_identifier.is_some() {
        return Err(invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters."));
    }
    let constraint = |value: &str, member: &str, constraint: &str| {
        invalid(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must {constraint}"
        ))
    };
    let by_time = match shape.order_by.as_deref() {
        None | Some("LogStreamName") => false,
        Some("LastEventTime") => true,
        Some(other) => {
            return Err(constraint(other, "orderBy", "satisfy enum value set: [LogStreamName, LastEventTime]"));
        }
    };
    if let Some(prefix) = &shape.log_stream_name_prefix {
        if by_time {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        let member = "logStreamNamePrefix";
        if prefix.is_empty() {
            return Err(constraint(prefix, member, "have length greater than or equal to 1"));
        }
        if prefix.len() > MAX_STREAM_NAME {
            return Err(constraint(prefix, member, "have length less than or equal to 512"));
        }
        if prefix.contains([':', '*']) {
            return Err(constraint(prefix, member, "satisfy regular expression pattern: [^:*]*"));
        }
    }
    if shape.next_token.as_deref() == Some("") {
        return Err(constraint("", "nextToken", "have length greater than or equal to 1"));
    }
    Ok(by_time)
}

/// Begins the token of a page in the order of the names: a token means nothing in the other direction.
fn token_mark(descending: bool) -> &'static str {
    if descending { "before/" } else { "after/" }
}

type Found<'a> = Vec<(&'a Arc<str>, &'a Stream)>;

impl Group {
    /// A page and one more, in the order of the names.
    fn streams_by_name(&self, seen: i64, shape: &DescribeLogStreams, limit: usize) -> Result<Found<'_>, ApiError> {
        let prefix = shape.log_stream_name_prefix.as_deref().unwrap_or_default();
        let token = match shape.next_token.as_deref() {
            None => None,
            Some(token) => {
                let name = token.strip_prefix(token_mark(shape.descending)).filter(|name| name.starts_with(prefix));
                Some(name.ok_or_else(|| invalid("The specified nextToken is invalid."))?)
            }
        };
        let begins = |(name, _): &(&Arc<str>, &Stream)| name.starts_with(prefix);
        let visible = |(_, stream): &(&Arc<str>, &Stream)| stream.visible_at <= seen;
        if shape.descending {
            let upto = token.map_or(Bound::Unbounded, Bound::Excluded);
            let range = self.streams.range::<str, _>((Bound::Included(prefix), upto)).rev();
            return Ok(range.skip_while(|entry| !begins(entry)).filter(visible).take(limit + 1).collect());
        }
        let from = token.map_or(Bound::Included(prefix), Bound::Excluded);
        let range = self.streams.range::<str, _>((from, Bound::Unbounded));
        Ok(range.take_while(begins).filter(visible).take(limit + 1).collect())
    }

    /// What is left from the token on, in the order of the last events, and where that begins.
    fn streams_by_time(&self, seen: i64, shape: &DescribeLogStreams) -> Result<(Found<'_>, usize), ApiError> {
        let token = shape.next_token.as_deref().unwrap_or("0");
        let first = token.parse().map_err(|_| invalid("The specified nextToken is invalid."))?;
        let mut found: Found<'_> = self.streams.iter().filter(|(_, stream)| stream.visible_at <= seen).collect();
        found.sort_by_key(|(_, stream)| stream.keys.last());
        if shape.descending {
            found.reverse();
        }
        Ok((found.into_iter().skip(first).collect(), first))
    }
}

impl Stream {
    /// `indexed`: up to when the index of streams knows of events.
    fn described(&self, name: &str, arn: &str, indexed: i64) -> LogStream {
        let first = self.keys.first().map(|(at, _)| *at).filter(|_| self.visible_at <= indexed);
        let last = self.keys.last().map(|(at, _)| *at).filter(|_| self.last_delivery <= indexed);
        LogStream {
            log_stream_name: name.to_owned(),
            creation_time: self.visible_at,
            first_event_timestamp: first,
            last_event_timestamp: last.or(first),
            last_ingestion_time: first.map(|_| self.last_delivery.min(indexed)),
            arn: format!("{arn}:{name}"),
            stored_bytes: 0,
        }
    }
}

fn page_limit(limit: Option<i64>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(MAX_PAGE);
    usize::try_from(limit).ok().filter(|_| (1..=MAX_PAGE).contains(&limit)).ok_or_else(|| {
        let bound = if limit < 1 { "greater than or equal to 1".to_owned() } else { format!("less than or equal to {MAX_PAGE}") };
        invalid(format!("1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value {bound}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_become_several_events() {
        let line = "ä".repeat(MAX_EVENT_BYTES);
        let cut: Vec<_> = pieces(&line).collect();
        assert_eq!(cut.len(), 2);
        assert_eq!(cut.concat(), line);
        assert_eq!(pieces("").count(), 0);
    }

    #[test]
    fn expired_events_go() {
        let mut logs = Logs::default();
        let stream: Arc<str> = "s".into();
        logs.deliver("g", &stream, (1_000, 1_000, 1_000), "old", None);
        logs.put_retention(&PutRetentionPolicy { log_group_name: "g".to_owned(), retention_in_days: Some(1) }).unwrap();
        logs.deliver("g", &stream, (DAY_MS + 2_000, DAY_MS + 2_000, 0), "new", None);
        let group = logs.group(Some("g")).unwrap();
        assert_eq!(group.events.len(), 1);
        assert_eq!(group.streams["s"].keys.len(), 1);
        for days in [None, Some(0), Some(2), Some(-1)] {
            let shape = PutRetentionPolicy { log_group_name: "g".to_owned(), retention_in_days: days };
            assert!(logs.put_retention(&shape).is_err());
        }
    }
}
