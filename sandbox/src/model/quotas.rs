//! AWS's request quotas, as token buckets that hold one second's worth.

use super::api::{ApiError, Operation};
use crate::settings::Quotas;

/// Retry-After when a bucket is empty, in seconds; the header has no fractions.
const RETRY_AFTER_S: u32 = 1;

/// Tokens come back all the time, up to the rate of one second.
#[derive(Clone, Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    fn new(rate: f64) -> Self {
        Self { rate, tokens: rate.max(1.0), at_ms: 0 }
    }

    fn take(&mut self, now_ms: i64) -> bool {
        let elapsed = u32::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(u32::MAX);
        self.tokens = (self.tokens + f64::from(elapsed) * self.rate / 1_000.0).min(self.rate.max(1.0));
        self.at_ms = now_ms;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// Which operations share a bucket.
#[derive(Clone, Copy)]
enum Class {
    ControlPlane,
    GetFunction,
    Invoke,
    GetLogEvents,
    FilterLogEvents,
    DescribeLogStreams,
    PutLogEvents,
    OtherLogs,
}

impl Class {
    fn of(operation: Operation) -> Self {
        match operation {
            Operation::GetFunction => Self::GetFunction,
            Operation::Invoke => Self::Invoke,
            Operation::CreateFunction
            | Operation::GetFunctionConfiguration
            | Operation::UpdateFunctionCode
            | Operation::UpdateFunctionConfiguration
            | Operation::DeleteFunction
            | Operation::ListFunctions
            | Operation::PutFunctionEventInvokeConfig
            | Operation::GetFunctionEventInvokeConfig
            | Operation::DeleteFunctionEventInvokeConfig
            | Operation::TagResource
            | Operation::UntagResource
            | Operation::ListTags => Self::ControlPlane,
            Operation::GetLogEvents => Self::GetLogEvents,
            Operation::FilterLogEvents => Self::FilterLogEvents,
            Operation::DescribeLogStreams => Self::DescribeLogStreams,
            Operation::PutLogEvents => Self::PutLogEvents,
            Operation::CreateLogGroup
            | Operation::DeleteLogGroup
            | Operation::DescribeLogGroups
            | Operation::PutRetentionPolicy
            | Operation::CreateLogStream
            | Operation::DeleteLogStream => Self::OtherLogs,
        }
    }
}

/// All buckets of the account.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    control_plane: Bucket,
    get_function: Bucket,
    invoke: Bucket,
    get_log_events: Bucket,
    filter_log_events: Bucket,
    describe_log_streams: Bucket,
    put_log_events: Bucket,
    other_logs: Bucket,
}

impl Buckets {
    pub(super) fn new(quotas: &Quotas) -> Self {
        let concurrency = u32::try_from(quotas.concurrency).unwrap_or(u32::MAX);
        Self {
            control_plane: Bucket::new(quotas.control_plane),
            get_function: Bucket::new(quotas.get_function),
            invoke: Bucket::new(quotas.invoke_per_concurrency * f64::from(concurrency)),
            get_log_events: Bucket::new(quotas.get_log_events),
            filter_log_events: Bucket::new(quotas.filter_log_events),
            describe_log_streams: Bucket::new(quotas.describe_log_streams),
            put_log_events: Bucket::new(quotas.put_log_events),
            other_logs: Bucket::new(quotas.other_logs),
        }
    }

    /// Takes a token for the operation, or tells how it is refused.
    pub(super) fn take(&mut self, operation: Operation, now_ms: i64) -> Result<(), ApiError> {
        let bucket = match Class::of(operation) {
            Class::ControlPlane => &mut self.control_plane,
            Class::GetFunction => &mut self.get_function,
            Class::Invoke => &mut self.invoke,
            Class::GetLogEvents => &mut self.get_log_events,
            Class::FilterLogEvents => &mut self.filter_log_events,
            Class::DescribeLogStreams => &mut self.describe_log_streams,
            Class::PutLogEvents => &mut self.put_log_events,
            Class::OtherLogs => &mut self.other_logs,
        };
        if bucket.take(now_ms) {
            return Ok(());
        }
        Err(ApiError::throttled(operation.service(), Some(RETRY_AFTER_S)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn fifteen_a_second_for_the_control_plane_together() {
        let mut buckets = Buckets::new(&Settings::quick().quotas);
        let calls = [Operation::CreateFunction, Operation::DeleteFunction, Operation::GetFunctionConfiguration];
        let taken = |buckets: &mut Buckets, now| {
            (0..30).filter(|i| buckets.take(calls[*i % calls.len()], now).is_ok()).count()
        };
        assert_eq!(taken(&mut buckets, 1_000), 15);
        assert_eq!(taken(&mut buckets, 1_000), 0);
        assert!(buckets.take(Operation::GetFunction, 1_000).is_ok());
        assert_eq!(taken(&mut buckets, 1_200), 3);
        assert_eq!(taken(&mut buckets, 100_000), 15);
        let refused = buckets.take(Operation::CreateFunction, 100_000).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_s), (429, Some(1)));
    }
}
