//! AWS, played by the sandbox's model: our words to its requests, its replies to our words and errors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use sockerless_sandbox::model::lambda_api as api;
use sockerless_sandbox::model::logs_api::FilterLogEvents;
use sockerless_sandbox::model::{ApiError, Handover, Model, Operation, Outcome, Request, Response, Ticket, Transport};
use sockerless_sandbox::script::{Program, Runner, World};

use super::programs::Programs;
use super::rng::Rng;
use crate::aws::{
    AwsError, AwsErrorKind, FailedUpdate, FunctionDescription, FunctionShape, InvokeReply, InvokeRequest, LogEvent,
    LogPage, LogQuery, NewFunction, kind_of_answer,
};

type Choose = Box<dyn FnMut(&Handover) -> Program>;

/// What comes back to the caller.
pub(super) type Answer = Result<(Response, String), AwsError>;

/// When the answer comes.
#[derive(Debug)]
pub(super) enum Arrival {
    /// So many milliseconds after the call was processed.
    After(i64, Answer),
    /// When the invocation has ended.
    AtTheEnd(Ticket, Transport, String),
}

/// AWS and the programs in it.
pub(super) struct Aws {
    pub(super) world: World<Choose>,
    pub(super) programs: Rc<RefCell<Programs>>,
}

impl Aws {
    pub(super) fn new(model: Model, init_ms: u32, programs: Programs, now_ms: i64) -> Self {
        let programs = Rc::new(RefCell::new(programs));
        let chooser = Rc::clone(&programs);
        let choose: Choose = Box::new(move |handover| chooser.borrow_mut().choose(handover));
        Self { world: World::new(model, Runner::new(init_ms, choose), now_ms), programs }
    }

    /// The call reaches AWS. Also gives the id of the request if AWS did what was asked, whatever it answers.
    pub(super) fn call(&mut self, request: &Request, rng: &mut Rng) -> (Arrival, Option<String>) {
        let reply = self.world.call(request);
        let operation = request.operation();
        let done = match &reply.outcome {
            Outcome::Answer(Ok(_)) | Outcome::Later(_) => true,
            Outcome::Answer(Err(error)) => error.status >= 500 && self.has(request, &reply.request_id),
            Outcome::Unprocessed => false,
        };
        let done = done.then(|| reply.request_id.clone());
        let lost = |text: &str| failure(operation, AwsErrorKind::NoAnswer, text);
        let arrival = match (reply.outcome, reply.transport) {
            (Outcome::Unprocessed, _) if rng.one_in(3) => {
                Arrival::After(0, Err(failure(operation, AwsErrorKind::Unreachable, "connection refused")))
            }
            (Outcome::Unprocessed, _) | (_, Transport::Reset) => {
                Arrival::After(0, Err(lost("connection reset by peer")))
            }
            (Outcome::Later(ticket), transport) => Arrival::AtTheEnd(ticket, transport, reply.request_id),
            (Outcome::Answer(_), Transport::Lost) => Arrival::After(0, Err(lost("connection closed"))),
            (Outcome::Answer(result), transport) => {
                let late = if let Transport::Late(ms) = transport { i64::try_from(ms).unwrap() } else { 0 };
                Arrival::After(late, understood(operation, result, &reply.request_id, transport))
            }
        };
        (arrival, done)
    }

    /// Whether an invocation was taken although the answer is a failure.
    fn has(&self, request: &Request, request_id: &str) -> bool {
        matches!(request, Request::Invoke(_))
            && self.world.model.snapshot().invocations.iter().any(|state| state.request_id == request_id)
    }

    /// The answers to RequestResponse invocations that have come since.
    pub(super) fn ended(&mut self) -> BTreeMap<Ticket, (i64, Result<Response, ApiError>)> {
        std::mem::take(&mut self.world.answers)
    }
}

/// The answer as the SDK reads it.
pub(super) fn understood(
    operation: Operation,
    result: Result<Response, ApiError>,
    request_id: &str,
    transport: Transport,
) -> Answer {
    let cut = transport == Transport::Malformed;
    match result {
        // The SDK does not read what a function answers.
        Ok(Response::Invoked(invoked)) if cut => {
            let payload = b"{\"malformed\": ".as_slice().into();
            Ok((Response::Invoked(api::Invoked { payload, ..invoked }), request_id.to_owned()))
        }
        Ok(Response::Queued) | Err(_) if cut && result.is_ok() => Ok((Response::Queued, request_id.to_owned())),
        Ok(_) if cut => Err(failure(operation, AwsErrorKind::Malformed, "EOF while parsing a value")),
        Ok(response) => Ok((response, request_id.to_owned())),
        Err(error) => {
            let code = (!cut).then_some(error.code.as_str());
            Err(AwsError {
                kind: kind_of_answer(error.status, code, &error.message),
                code: code.map(str::to_owned),
                message: error.message.clone(),
                request_id: Some(request_id.to_owned()),
                retry_after: error.retry_after_s.map(|s| Duration::from_secs(u64::from(s))),
                ..failure(operation, AwsErrorKind::Refused, "")
            })
        }
    }
}

pub(super) fn failure(operation: Operation, kind: AwsErrorKind, message: &str) -> AwsError {
    AwsError {
        service: "lambda",
        operation: operation.name(),
        kind,
        code: None,
        message: message.to_owned(),
        request_id: None,
        retry_after: None,
    }
}

fn named(name: &str) -> api::FunctionName {
    api::FunctionName::parse(name, None)
}

pub(super) fn get(name: &str) -> Request {
    Request::GetFunction(named(name))
}

pub(super) fn delete(name: &str) -> Request {
    Request::DeleteFunction(named(name))
}

pub(super) fn list(marker: Option<String>) -> Request {
    Request::ListFunctions(api::ListFunctions { marker, max_items: Some(50) })
}

pub(super) fn untag(arn: &str, keys: &[&str]) -> Request {
    let tag_keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Request::UntagResource(api::UntagResource { function: named(arn), tag_keys })
}

pub(super) fn put_event_config(name: &str, max_age_s: u32) -> Request {
    Request::PutFunctionEventInvokeConfig(api::PutFunctionEventInvokeConfig {
        function: named(name),
        maximum_retry_attempts: Some(0),
        maximum_event_age_in_seconds: Some(i64::from(max_age_s)),
    })
}

pub(super) fn create(new: &NewFunction) -> Request {
    let shape = &new.shape;
    let overrides = !shape.entrypoint.is_empty() || !shape.command.is_empty() || shape.working_dir.is_some();
    Request::CreateFunction(Box::new(api::CreateFunction {
        function_name: new.name.clone(),
        role: shape.role_arn.clone(),
        code: api::Code { image_uri: shape.image_uri.clone() },
        package_type: Some("Image".to_owned()),
        description: Some(new.description.clone()),
        timeout: Some(i64::from(shape.timeout_s)),
        memory_size: Some(i64::from(shape.memory_mb)),
        architectures: Some(vec![shape.architecture.clone()]),
        ephemeral_storage: Some(api::EphemeralStorage { size: i64::from(shape.ephemeral_storage_mb) }),
        environment: (!shape.environment.is_empty()).then(|| environment(shape)),
        image_config: overrides.then(|| image_config(shape)),
        logging_config: Some(logging(shape)),
        tags: new.tags.clone(),
        ..api::CreateFunction::default()
    }))
}

pub(super) fn update_code(name: &str, shape: &FunctionShape) -> Request {
    Request::UpdateFunctionCode(Box::new(api::UpdateFunctionCode {
        function_name: name.to_owned(),
        image_uri: shape.image_uri.clone(),
        architectures: Some(vec![shape.architecture.clone()]),
        ..api::UpdateFunctionCode::default()
    }))
}

pub(super) fn update_configuration(name: &str, shape: &FunctionShape) -> Request {
    Request::UpdateFunctionConfiguration(Box::new(api::UpdateFunctionConfiguration {
        function_name: name.to_owned(),
        role: Some(shape.role_arn.clone()),
        timeout: Some(i64::from(shape.timeout_s)),
        memory_size: Some(i64::from(shape.memory_mb)),
        ephemeral_storage: Some(api::EphemeralStorage { size: i64::from(shape.ephemeral_storage_mb) }),
        environment: Some(environment(shape)),
        image_config: Some(image_config(shape)),
        logging_config: Some(logging(shape)),
        ..api::UpdateFunctionConfiguration::default()
    }))
}

pub(super) fn invoke(request: &InvokeRequest) -> Request {
    Request::Invoke(api::Invoke {
        function: named(&request.function_name),
        kind: if request.asynchronous { api::InvocationType::Event } else { api::InvocationType::RequestResponse },
        tail: !request.asynchronous,
        client_context: request.client_context.clone(),
        payload: request.payload.clone().into(),
    })
}

pub(super) fn filter(query: &LogQuery) -> Request {
    Request::FilterLogEvents(FilterLogEvents {
        log_group_name: Some(query.group.clone()),
        log_stream_names: (!query.streams.is_empty()).then(|| query.streams.clone()),
        log_stream_name_prefix: query.stream_prefix.clone(),
        start_time: query.start_ms,
        end_time: query.end_ms,
        filter_pattern: query.pattern.clone(),
        next_token: query.next_token.clone(),
        ..FilterLogEvents::default()
    })
}

fn environment(shape: &FunctionShape) -> api::Environment {
    api::Environment { variables: shape.environment.clone() }
}

fn image_config(shape: &FunctionShape) -> api::ImageConfig {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    api::ImageConfig {
        entry_point: list(&shape.entrypoint),
        command: list(&shape.command),
        working_directory: shape.working_dir.clone(),
    }
}

fn logging(shape: &FunctionShape) -> api::LoggingConfig {
    api::LoggingConfig {
        log_format: Some("Text".to_owned()),
        log_group: Some(shape.log_group.clone()),
        ..api::LoggingConfig::default()
    }
}

/// A function as one of the answers describes it; only GetFunction tells image and tags.
pub(super) fn described(response: Response) -> FunctionDescription {
    match response {
        Response::Function(function) => {
            let mut description = configuration(function.configuration);
            description.shape.image_uri = Some(function.code.image_uri);
            description.resolved_image_uri = Some(function.code.resolved_image_uri);
            description.tags = Some(function.tags);
            description
        }
        Response::Configuration(answer) => configuration(*answer),
        other => panic!("no function: {other:?}"),
    }
}

fn configuration(answer: api::FunctionConfiguration) -> FunctionDescription {
    let image = answer.image_config_response.map(|response| response.image_config).unwrap_or_default();
    let int = |value: i64| u32::try_from(value).unwrap();
    FunctionDescription {
        arn: answer.function_arn,
        state: answer.state.unwrap_or_default().to_owned(),
        state_reason_code: answer.state_reason_code,
        state_reason: answer.state_reason,
        updating: answer.last_update_status == Some("InProgress"),
        failed_update: (answer.last_update_status == Some("Failed")).then_some(FailedUpdate {
            code: answer.last_update_status_reason_code,
            reason: answer.last_update_status_reason,
        }),
        last_modified: answer.last_modified,
        resolved_image_uri: None,
        shape: FunctionShape {
            image_uri: None,
            role_arn: answer.role,
            memory_mb: int(answer.memory_size),
            timeout_s: int(answer.timeout),
            ephemeral_storage_mb: int(answer.ephemeral_storage.size),
            architecture: answer.architectures.first().cloned().unwrap_or_default(),
            entrypoint: image.entry_point.unwrap_or_default(),
            command: image.command.unwrap_or_default(),
            working_dir: image.working_directory,
            environment: answer.environment.map(|environment| environment.variables).unwrap_or_default(),
            subnet_ids: Vec::new(),
            security_group_ids: Vec::new(),
            log_group: answer.logging_config.log_group.unwrap_or_default(),
        },
        tags: None,
        name: answer.function_name,
    }
}

/// A page of the list.
pub(super) fn listed(response: Response) -> (Vec<FunctionDescription>, Option<String>) {
    match response {
        Response::Functions(page) => (page.functions.into_iter().map(configuration).collect(), page.next_marker),
        other => panic!("no list: {other:?}"),
    }
}

/// A page of the log.
pub(super) fn log_page(response: Response) -> LogPage {
    let Response::FilteredEvents(page) = response else { panic!("no log: {response:?}") };
    let event = |event: sockerless_sandbox::model::logs_api::FilteredLogEvent| LogEvent {
        id: event.event_id,
        stream: event.log_stream_name.to_string(),
        timestamp_ms: event.timestamp,
        ingestion_ms: event.ingestion_time,
        message: event.message.to_string(),
    };
    LogPage { events: page.events.into_iter().map(event).collect(), next_token: page.next_token }
}

/// The end of a RequestResponse invocation.
pub(super) fn reply(response: Response, request_id: String) -> InvokeReply {
    let Response::Invoked(invoked) = response else { panic!("no end: {response:?}") };
    InvokeReply {
        request_id: Some(request_id),
        status: 200,
        function_error: invoked.failed.then(|| "Unhandled".to_owned()),
        payload: invoked.payload.to_vec(),
        log_tail: invoked.log_tail,
    }
}
