//! # AWS: Lambda and CloudWatch Logs in our words
//!
//! The only room that names the SDK. It knows nothing of containers, wishes or retries: one call in, one answer out,
//! each within its quota, each error mapped once. Nothing is tried twice here (SDK retries are off).
//! Knows no other room.

mod types;

pub use types::{
    AwsError, AwsErrorKind, FunctionDescription, FunctionPage, FunctionShape, InvokeReply, InvokeRequest, LogEvent,
    LogPage, LogQuery, NewFunction, ReadLogs, ReadLogsFuture,
};
