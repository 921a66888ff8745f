//! CloudWatch Logs' shapes, with the members that the sandbox knows, named as in AWS's service model.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name in `arn:aws:logs:REGION:ACCOUNT:log-group:NAME[:*]`, or what was given.
fn group_of<'a>(name: Option<&'a str>, identifier: Option<&'a str>) -> Option<&'a str> {
    name.or_else(|| {
        let identifier = identifier?;
        let name = identifier.split_once(":log-group:").map_or(identifier, |(_, name)| name);
        Some(name.trim_end_matches(":*"))
    })
}

/// CreateLogGroup.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateLogGroup {
    /// See AWS's model, as for all members here.
    pub log_group_name: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// DeleteLogGroup.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteLogGroup {
    /// Which one.
    pub log_group_name: String,
}

/// DescribeLogGroups.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeLogGroups {
    /// Only names that begin so.
    pub log_group_name_prefix: Option<String>,
    /// Only names that hold this.
    pub log_group_name_pattern: Option<String>,
    /// The last page's token.
    pub next_token: Option<String>,
    /// 1 to 50.
    pub limit: Option<i64>,
}

/// A page of log groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogGroupsResponse {
    /// In the order of their names.
    pub log_groups: Vec<LogGroup>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A log group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroup {
    /// Its name.
    pub log_group_name: String,
    /// Milliseconds since the epoch.
    pub creation_time: i64,
    /// Absent: events are kept for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_in_days: Option<i64>,
    /// 0.
    pub metric_filter_count: i64,
    /// Ends in `:*`.
    pub arn: String,
    /// Does not end in `:*`.
    pub log_group_arn: String,
    /// 0: AWS computes it hours later.
    pub stored_bytes: i64,
    /// `STANDARD`.
    pub log_group_class: &'static str,
}

/// PutRetentionPolicy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutRetentionPolicy {
    /// Which group.
    pub log_group_name: String,
    /// One of AWS's numbers.
    pub retention_in_days: Option<i64>,
}

/// CreateLogStream and DeleteLogStream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogStreamName {
    /// Which group.
    pub log_group_name: String,
    /// Which stream.
    pub log_stream_name: String,
}

/// DescribeLogStreams.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeLogStreams {
    /// Which group.
    pub log_group_name: Option<String>,
    /// Its name or ARN.
    pub log_group_identifier: Option<String>,
    /// Only names that begin so.
    pub log_stream_name_prefix: Option<String>,
    /// `LogStreamName` or `LastEventTime`.
    pub order_by: Option<String>,
    /// From the last to the first.
    pub descending: bool,
    /// The last page's token.
    pub next_token: Option<String>,
    /// 1 to 50.
    pub limit: Option<i64>,
}

impl DescribeLogStreams {
    /// The group's name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        group_of(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())
    }
}

/// A page of log streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeLogStreamsResponse {
    /// In the order asked for.
    pub log_streams: Vec<LogStream>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A log stream. Times are in milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStream {
    /// Its name.
    pub log_stream_name: String,
    /// When it was made.
    pub creation_time: i64,
    /// Absent while it has no events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_timestamp: Option<i64>,
    /// Lags behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_timestamp: Option<i64>,
    /// Lags behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ingestion_time: Option<i64>,
    /// Its ARN.
    pub arn: String,
    /// 0: AWS does not tell it any more.
    pub stored_bytes: i64,
}

/// PutLogEvents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutLogEvents {
    /// Which group.
    pub log_group_name: String,
    /// Which stream.
    pub log_stream_name: String,
    /// In the order of their times.
    pub log_events: Vec<InputLogEvent>,
}

/// An event to be written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InputLogEvent {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The text.
    pub message: String,
}

/// What PutLogEvents gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PutLogEventsResponse {
    /// Means nothing any more.
    pub next_sequence_token: String,
    /// Absent: all were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_log_events_info: Option<RejectedLogEventsInfo>,
}

/// Which events were not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedLogEventsInfo {
    /// From this one on they are more than two hours ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_new_log_event_start_index: Option<usize>,
    /// Before this one they are more than 14 days old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_old_log_event_end_index: Option<usize>,
}

/// GetLogEvents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetLogEvents {
    /// Which group.
    pub log_group_name: Option<String>,
    /// Its name or ARN.
    pub log_group_identifier: Option<String>,
    /// Which stream.
    pub log_stream_name: String,
    /// Included.
    pub start_time: Option<i64>,
    /// Excluded.
    pub end_time: Option<i64>,
    /// A token of a page before.
    pub next_token: Option<String>,
    /// 1 to 10,000.
    pub limit: Option<i64>,
    /// The earliest first; absent: the latest page.
    pub start_from_head: bool,
}

impl GetLogEvents {
    /// The group's name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        group_of(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())
    }
}

/// A page of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetLogEventsResponse {
    /// In the order of their times.
    pub events: Vec<OutputLogEvent>,
    /// The same as was passed: there is nothing more.
    pub next_forward_token: String,
    /// The same as was passed: there is nothing before.
    pub next_backward_token: String,
}

/// An event of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLogEvent {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The text.
    pub message: Arc<str>,
    /// When it arrived.
    pub ingestion_time: i64,
}

/// FilterLogEvents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterLogEvents {
    /// Which group.
    pub log_group_name: Option<String>,
    /// Its name or ARN.
    pub log_group_identifier: Option<String>,
    /// At most 100.
    pub log_stream_names: Option<Vec<String>>,
    /// Not together with the names.
    pub log_stream_name_prefix: Option<String>,
    /// Included.
    pub start_time: Option<i64>,
    /// Included.
    pub end_time: Option<i64>,
    /// Absent: everything.
    pub filter_pattern: Option<String>,
    /// The last page's token.
    pub next_token: Option<String>,
    /// 1 to 10,000.
    pub limit: Option<i64>,
    /// Absent: true.
    pub start_from_head: Option<bool>,
}

impl FilterLogEvents {
    /// The group's name.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        group_of(self.log_group_name.as_deref(), self.log_group_identifier.as_deref())
    }
}

/// A page of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterLogEventsResponse {
    /// In the order asked for.
    pub events: Vec<FilteredLogEvent>,
    /// Always empty: deprecated.
    pub searched_log_streams: [(); 0],
    /// Absent: there is nothing more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// An event of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilteredLogEvent {
    /// Its stream.
    pub log_stream_name: Arc<str>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The text.
    pub message: Arc<str>,
    /// When it arrived.
    pub ingestion_time: i64,
    /// Names the event for ever.
    pub event_id: String,
}
