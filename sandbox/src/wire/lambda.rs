//! Lambda's REST-JSON protocol.

use base64::Engine as _;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Incoming, Outgoing, decode, status, unknown_operation, unreadable};
use crate::model::lambda_api::{
    FunctionName, InvocationType, Invoke, Invoked, ListFunctions, PutFunctionEventInvokeConfig, TagResource,
    UntagResource, UpdateFunctionCode, UpdateFunctionConfiguration,
};
use crate::model::{ApiError, Operation, Request, Response};

fn body<T: DeserializeOwned>(incoming: &Incoming<'_>) -> Result<T, ApiError> {
    let body = if incoming.body.is_empty() { b"{}" } else { incoming.body.as_ref() };
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

pub(super) fn parse(incoming: &Incoming<'_>) -> Result<Request, ApiError> {
    let segments: Vec<String> = incoming.path.trim_matches('/').split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let qualifier = incoming.parameter("Qualifier");
    let function = |name: &str| FunctionName::parse(name, qualifier.as_deref());
    match (incoming.method, segments.as_slice()) {
        (&Method::POST, ["2015-03-31", "functions"]) => Ok(Request::CreateFunction(body(incoming)?)),
        (&Method::GET, ["2015-03-31", "functions"]) => list_functions(incoming),
        (&Method::GET, ["2015-03-31", "functions", name]) => Ok(Request::GetFunction(function(name))),
        (&Method::DELETE, ["2015-03-31", "functions", name]) => Ok(Request::DeleteFunction(function(name))),
        (&Method::GET, ["2015-03-31", "functions", name, "configuration"]) => {
            Ok(Request::GetFunctionConfiguration(function(name)))
        }
        (&Method::PUT, ["2015-03-31", "functions", name, "configuration"]) => {
            let shape: UpdateFunctionConfiguration = body(incoming)?;
            let function_name = (*name).to_owned();
            Ok(Request::UpdateFunctionConfiguration(Box::new(UpdateFunctionConfiguration { function_name, ..shape })))
        }
        (&Method::PUT, ["2015-03-31", "functions", name, "code"]) => {
            let shape: UpdateFunctionCode = body(incoming)?;
            let function_name = (*name).to_owned();
            Ok(Request::UpdateFunctionCode(Box::new(UpdateFunctionCode { function_name, ..shape })))
        }
        (&Method::POST, ["2015-03-31", "functions", name, "invocations"]) => invoke(incoming, function(name)),
        (method, ["2019-09-25", "functions", name, "event-invoke-config"]) => {
            event_invoke_config(incoming, method, function(name))
        }
        (method, ["2017-03-31", "tags", arn]) => tags(incoming, method, function(arn)),
        _ => Err(unknown_operation(404)),
    }
}

fn list_functions(incoming: &Incoming<'_>) -> Result<Request, ApiError> {
    let max_items = incoming.parameter("MaxItems").map(|text| text.parse()).transpose().map_err(|_| {
        ApiError::new(400, "SerializationException", "MaxItems is no number")
    })?;
    Ok(Request::ListFunctions(ListFunctions { marker: incoming.parameter("Marker"), max_items }))
}

fn invoke(incoming: &Incoming<'_>, function: FunctionName) -> Result<Request, ApiError> {
    let kind = match incoming.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => InvocationType::RequestResponse,
        Some("Event") => InvocationType::Event,
        Some("DryRun") => InvocationType::DryRun,
        Some(other) => {
            let constraint = "Member must satisfy enum value set: [RequestResponse, Event, DryRun]";
            return Err(ApiError::constraint(other, "invocationType", constraint));
        }
    };
    Ok(Request::Invoke(Invoke {
        function,
        kind,
        tail: incoming.header("x-amz-log-type") == Some("Tail"),
        client_context: incoming.header("x-amz-client-context").map(str::to_owned),
        payload: incoming.body.clone(),
    }))
}

fn event_invoke_config(
    incoming: &Incoming<'_>,
    method: &Method,
    function: FunctionName,
) -> Result<Request, ApiError> {
    match *method {
        Method::PUT => {
            let shape: PutFunctionEventInvokeConfig = body(incoming)?;
            let shape = PutFunctionEventInvokeConfig { function, ..shape };
            Ok(Request::PutFunctionEventInvokeConfig(shape))
        }
        Method::GET => Ok(Request::GetFunctionEventInvokeConfig(function)),
        Method::DELETE => Ok(Request::DeleteFunctionEventInvokeConfig(function)),
        _ => Err(unknown_operation(404)),
    }
}

fn tags(incoming: &Incoming<'_>, method: &Method, function: FunctionName) -> Result<Request, ApiError> {
    match *method {
        Method::POST => {
            let shape: TagResource = body(incoming)?;
            Ok(Request::TagResource(TagResource { function, ..shape }))
        }
        Method::DELETE => {
            let tag_keys = incoming.parameters("tagKeys");
            Ok(Request::UntagResource(UntagResource { function, tag_keys }))
        }
        Method::GET => Ok(Request::ListTags(function)),
        _ => Err(unknown_operation(404)),
    }
}

pub(super) fn render(operation: Operation, response: Response) -> Outgoing {
    match response {
        Response::Configuration(shape) if operation == Operation::CreateFunction => {
            Outgoing::json(StatusCode::CREATED, shape)
        }
        Response::Configuration(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::Function(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::Functions(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::EventInvokeConfig(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::Tags(shape) => Outgoing::json(StatusCode::OK, shape),
        Response::Invoked(invoked) => render_invoked(invoked),
        Response::Queued => Outgoing::empty(StatusCode::ACCEPTED),
        // The answers of CloudWatch Logs never come here.
        _ => Outgoing::empty(StatusCode::NO_CONTENT),
    }
}

fn render_invoked(invoked: Invoked) -> Outgoing {
    let mut outgoing = Outgoing { body: invoked.payload, ..Outgoing::empty(StatusCode::OK) };
    outgoing.set("x-amz-executed-version", "$LATEST");
    if invoked.failed {
        outgoing.set("x-amz-function-error", "Unhandled");
    }
    if let Some(tail) = invoked.log_tail {
        outgoing.set("x-amz-log-result", &base64::engine::general_purpose::STANDARD.encode(tail));
    }
    outgoing
}

pub(super) fn refusal(error: &ApiError) -> Outgoing {
    let kind = if error.status >= 500 { "Service" } else { "User" };
    // Lambda's model spells this member in both ways, depending on the error.
    let capital = matches!(error.code.as_str(), "ResourceNotFoundException" | "ServiceException");
    let mut body = json!({ "Type": kind, if capital { "Message" } else { "message" }: error.message });
    if let Some(reason) = error.reason {
        body["Reason"] = json!(reason);
    }
    let mut outgoing = Outgoing::json(status(error.status), body);
    outgoing.set("x-amzn-errortype", &error.code);
    outgoing
}
