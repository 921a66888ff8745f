//! CloudWatch Logs' JSON 1.1 protocol.

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Incoming, Outgoing, status, unknown_operation, unreadable};
use crate::model::{ApiError, Operation, Request, Response, Service};

/// The header that names the operation.
pub(super) const TARGET: &str = "x-amz-target";
/// The content type of requests and answers.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const PREFIX: &str = "Logs_20140328.";

pub(super) fn parse(incoming: &Incoming<'_>) -> Result<Request, ApiError> {
    let target = incoming.header(TARGET).and_then(|target| target.strip_prefix(PREFIX));
    let operation = target.and_then(Operation::parse).filter(|operation| operation.service() == Service::Logs);
    match operation {
        Some(Operation::CreateLogGroup) => body(incoming).map(Request::CreateLogGroup),
        Some(Operation::DeleteLogGroup) => body(incoming).map(Request::DeleteLogGroup),
        Some(Operation::DescribeLogGroups) => body(incoming).map(Request::DescribeLogGroups),
        Some(Operation::PutRetentionPolicy) => body(incoming).map(Request::PutRetentionPolicy),
        Some(Operation::CreateLogStream) => body(incoming).map(Request::CreateLogStream),
        Some(Operation::DescribeLogStreams) => body(incoming).map(Request::DescribeLogStreams),
        Some(Operation::DeleteLogStream) => body(incoming).map(Request::DeleteLogStream),
        Some(Operation::PutLogEvents) => body(incoming).map(Request::PutLogEvents),
        Some(Operation::GetLogEvents) => body(incoming).map(Request::GetLogEvents),
        Some(Operation::FilterLogEvents) => body(incoming).map(Request::FilterLogEvents),
        _ => Err(unknown_operation(400)),
    }
}

fn body<T: DeserializeOwned>(incoming: &Incoming<'_>) -> Result<T, ApiError> {
    serde_json::from_slice(&incoming.body).map_err(|error| unreadable(&error))
}

pub(super) fn render(response: Response) -> Outgoing {
    match response {
        Response::LogGroups(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::LogStreams(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::EventsPut(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::LogEvents(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::FilteredEvents(shape) => Outgoing::json(StatusCode::OK, shape),
        // Lambda's answers never come here.
        _ => Outgoing::empty(StatusCode::OK),
    }
}

pub(super) fn refusal(error: &ApiError) -> Outgoing {
    Outgoing::json(status(error.status), json!({ "__type": error.code, "message": error.message }))
}
