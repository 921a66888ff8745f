//! The calls of CloudWatch Logs.

use std::error::Error;

use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::operation::RequestId;
use aws_sdk_cloudwatchlogs::types::{FilteredLogEvent, LogGroup, OrderBy};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::Cloud;
use super::call::{Call, LOGS};
use super::convert;
use super::gates::Quota;
use super::types::{
    AwsError, AwsErrorKind, LogEvent, LogGroupNeeds, LogPage, LogQuery, ReadLogs, ReadLogsFuture, StreamNames,
};

/// A page of DescribeLogGroups or DescribeLogStreams, entries: AWS gives no more at once.
const DESCRIBE_PAGE: i32 = 50;

/// The code with which both a group and a stream say that they exist already.
const EXISTS: &str = "ResourceAlreadyExistsException";

impl Cloud {
    /// Makes the group exist, and its retention be as told; `None` leaves the retention as it is. Reads first, so that
    /// nothing is written where nothing is to be done. Returns the ARN of a group that was there before.
    pub async fn ensure_log_group(&self, name: &str, retention_days: Option<u32>) -> Result<Option<String>, AwsError> {
        let needs = self.log_group_needs(name, retention_days).await?;
        if needs.create {
            let create = self.logs.create_log_group().log_group_name(name);
            self.create_if_absent(call("create log group", name), create.send()).await?;
        }
        if let Some(days) = needs.retention_days {
            let put = self.logs.put_retention_policy().log_group_name(name).retention_in_days(convert::int(days));
            self.call(call("put retention policy", name), put.send()).await?;
        }
        Ok(needs.arn)
    }

    /// What [`Cloud::ensure_log_group`] would do.
    pub async fn log_group_needs(&self, name: &str, retention_days: Option<u32>) -> Result<LogGroupNeeds, AwsError> {
        let found = self.log_group(name).await?;
        let has = found.as_ref().and_then(|group| group.retention_in_days);
        Ok(LogGroupNeeds {
            create: found.is_none(),
            retention_days: retention_days.filter(|days| has != Some(convert::int(*days))),
            arn: found.and_then(|group| group.arn),
        })
    }

    /// Groups come sorted by name, so one that is called like the prefix is the first.
    pub(super) async fn log_group(&self, name: &str) -> Result<Option<LogGroup>, AwsError> {
        let describe = self.logs.describe_log_groups().log_group_name_prefix(name).limit(DESCRIBE_PAGE);
        let answer = self.call(call("describe log groups", name), describe.send()).await?;
        let mut groups = answer.log_groups.into_iter().flatten();
        Ok(groups.find(|group| group.log_group_name() == Some(name)))
    }

    /// Creates a stream; `false`: it exists already.
    pub async fn create_log_stream(&self, group: &str, stream: &str) -> Result<bool, AwsError> {
        let create = self.logs.create_log_stream().log_group_name(group).log_stream_name(stream);
        self.create_if_absent(call("create log stream", group), create.send()).await
    }

    /// Whether it was made just now.
    async fn create_if_absent<T, E>(
        &self,
        call: Call<'_>,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<bool, AwsError>
    where
        T: RequestId,
        E: ProvideErrorMetadata + Error + 'static,
    {
        match self.call(call, send).await {
            Ok(_) => Ok(true),
            Err(error) if error.code.as_deref() == Some(EXISTS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of streams that begin like this, the last in the order of their bytes first. Reads page after page until
    /// `enough` says so of the names so far, or there are no more, or `pages` were read.
    pub async fn log_streams_descending(
        &self,
        group: &str,
        prefix: &str,
        pages: usize,
        enough: impl Fn(&[String]) -> bool + Send,
    ) -> Result<StreamNames, AwsError> {
        let call = call("describe log streams", group);
        let mut found = StreamNames::default();
        let mut token = None;
        for _ in 0..pages {
            let describe = self
                .logs
                .describe_log_streams()
                .log_group_name(group)
                .log_stream_name_prefix(prefix)
                .order_by(OrderBy::LogStreamName)
                .descending(true)
                .limit(DESCRIBE_PAGE)
                .set_next_token(token);
            let answer = self.call(call, describe.send()).await?;
            found.names.extend(answer.log_streams.into_iter().flatten().filter_map(|stream| stream.log_stream_name));
            token = answer.next_token;
            found.complete = token.is_none();
            if found.complete || enough(&found.names) {
                break;
            }
        }
        Ok(found)
    }

    /// Deletes a stream; one that is absent is fine.
    pub async fn delete_log_stream(&self, group: &str, stream: &str) -> Result<(), AwsError> {
        let delete = self.logs.delete_log_stream().log_group_name(group).log_stream_name(stream);
        match self.call(call("delete log stream", group), delete.send()).await {
            Err(error) if error.kind != AwsErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// One page of FilterLogEvents. A group that does not exist is an empty last page. AWS refuses the whole question when one
    /// of the streams that it names does not exist: that is `NotFound`, and none of them was read.
    pub async fn filter_log_events(&self, query: LogQuery) -> Result<LogPage, AwsError> {
        let quota = Quota::FilterLogEvents;
        let call = Call { service: LOGS, operation: "filter log events", subject: &query.group, quota };
        let names_streams = !query.streams.is_empty();
        let filter = self
            .logs
            .filter_log_events()
            .log_group_name(&query.group)
            .set_log_stream_names((!query.streams.is_empty()).then_some(query.streams))
            .set_log_stream_name_prefix(query.stream_prefix)
            .set_start_time(query.start_ms)
            .set_end_time(query.end_ms)
            .set_filter_pattern(query.pattern)
            .set_limit(query.limit.map(convert::int))
            .set_next_token(query.next_token);
        let answer = match self.call(call, filter.send()).await {
            Err(error) if error.kind == AwsErrorKind::NotFound && (!names_streams || is_of_the_group(&error)) => {
                return Ok(LogPage::default());
            }
            answer => answer?,
        };
        let mut events: Vec<LogEvent> = answer.events.into_iter().flatten().map(LogEvent::from).collect();
        // Events of one millisecond come in any order; the sort is stable and keeps AWS's where nothing tells better.
        events.sort_by_key(|event| (event.timestamp_ms, event.ingestion_ms));
        Ok(LogPage { events, next_token: answer.next_token })
    }

    /// Whether AWS answers us: a small read, for readiness.
    pub async fn reachable(&self) -> Result<(), AwsError> {
        let describe = self.logs.describe_log_groups().limit(1);
        self.call(call("describe log groups", ""), describe.send()).await.map(drop)
    }
}

impl ReadLogs for Cloud {
    fn read(&self, query: LogQuery) -> ReadLogsFuture<'_> {
        Box::pin(self.filter_log_events(query))
    }
}

impl From<FilteredLogEvent> for LogEvent {
    fn from(event: FilteredLogEvent) -> Self {
        Self {
            id: event.event_id.unwrap_or_default(),
            stream: event.log_stream_name.unwrap_or_default(),
            timestamp_ms: event.timestamp.unwrap_or_default(),
            ingestion_ms: event.ingestion_time.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        }
    }
}

/// Whether the group is missing, as the message has it. In other words it counts as a stream's, which costs more questions and
/// loses nothing.
fn is_of_the_group(error: &AwsError) -> bool {
    error.message.contains("log group") && !error.message.contains("log stream")
}

fn call<'a>(operation: &'static str, group: &'a str) -> Call<'a> {
    Call { service: LOGS, operation, subject: group, quota: Quota::Logs }
}
