//! The words of the model: operations, requests, answers, errors and effects.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::lambda_api as lambda;
use super::logs_api as logs;

/// Whose operation it is; the two services word their errors differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// AWS Lambda.
    Lambda,
    /// CloudWatch Logs.
    Logs,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $service:ident, $mutates:literal;)*) => {
        /// The operations that the sandbox knows, by AWS's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            /// AWS's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Whose operation it is.
            #[must_use]
            pub const fn service(self) -> Service {
                match self { $(Self::$name => Service::$service,)* }
            }

            /// Whether it changes anything in AWS.
            #[must_use]
            pub const fn mutates(self) -> bool {
                match self { $(Self::$name => $mutates,)* }
            }

            /// Finds an operation by AWS's name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }
        }
    };
}

operations! {
    /// POST /2015-03-31/functions
    CreateFunction => Lambda, true;
    /// GET /2015-03-31/functions/NAME
    GetFunction => Lambda, false;
    /// GET /2015-03-31/functions/NAME/configuration
    GetFunctionConfiguration => Lambda, false;
    /// PUT /2015-03-31/functions/NAME/code
    UpdateFunctionCode => Lambda, true;
    /// PUT /2015-03-31/functions/NAME/configuration
    UpdateFunctionConfiguration => Lambda, true;
    /// DELETE /2015-03-31/functions/NAME
    DeleteFunction => Lambda, true;
    /// GET /2015-03-31/functions
    ListFunctions => Lambda, false;
    /// POST /2015-03-31/functions/NAME/invocations
    Invoke => Lambda, true;
    /// PUT /2019-09-25/functions/NAME/event-invoke-config
    PutFunctionEventInvokeConfig => Lambda, true;
    /// GET /2019-09-25/functions/NAME/event-invoke-config
    GetFunctionEventInvokeConfig => Lambda, false;
    /// DELETE /2019-09-25/functions/NAME/event-invoke-config
    DeleteFunctionEventInvokeConfig => Lambda, true;
    /// POST /2017-03-31/tags/ARN
    TagResource => Lambda, true;
    /// DELETE /2017-03-31/tags/ARN
    UntagResource => Lambda, true;
    /// GET /2017-03-31/tags/ARN
    ListTags => Lambda, false;
    /// Logs_20140328.CreateLogGroup
    CreateLogGroup => Logs, true;
    /// Logs_20140328.DeleteLogGroup
    DeleteLogGroup => Logs, true;
    /// Logs_20140328.DescribeLogGroups
    DescribeLogGroups => Logs, false;
    /// Logs_20140328.PutRetentionPolicy
    PutRetentionPolicy => Logs, true;
    /// Logs_20140328.CreateLogStream
    CreateLogStream => Logs, true;
    /// Logs_20140328.DescribeLogStreams
    DescribeLogStreams => Logs, false;
    /// Logs_20140328.DeleteLogStream
    DeleteLogStream => Logs, true;
    /// Logs_20140328.PutLogEvents
    PutLogEvents => Logs, true;
    /// Logs_20140328.GetLogEvents
    GetLogEvents => Logs, false;
    /// Logs_20140328.FilterLogEvents
    FilterLogEvents => Logs, false;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($shape:ty) => $resource:expr;)*) => {
        /// A call.
        #[derive(Clone, Debug)]
        pub enum Request { $($(#[$doc])* $name($shape),)* }

        impl Request {
            /// Which operation it asks for.
            #[must_use]
            pub fn operation(&self) -> Operation {
                match self { $(Self::$name(_) => Operation::$name,)* }
            }

            /// The function or log group that it names, as it came.
            #[must_use]
            pub fn resource(&self) -> Option<&str> {
                match self { $(Self::$name(shape) => {
                    let resource: fn(&$shape) -> Option<&str> = $resource;
                    resource(shape)
                })* }
            }
        }
    };
}

requests! {
    /// Makes a function.
    CreateFunction(Box<lambda::CreateFunction>) => |r| Some(&r.function_name);
    /// Reads a function.
    GetFunction(lambda::FunctionName) => |r| Some(&r.name);
    /// Reads a function's configuration.
    GetFunctionConfiguration(lambda::FunctionName) => |r| Some(&r.name);
    /// Gives a function another image.
    UpdateFunctionCode(Box<lambda::UpdateFunctionCode>) => |r| Some(&r.function_name);
    /// Gives a function another configuration.
    UpdateFunctionConfiguration(Box<lambda::UpdateFunctionConfiguration>) => |r| Some(&r.function_name);
    /// Removes a function.
    DeleteFunction(lambda::FunctionName) => |r| Some(&r.name);
    /// Lists functions.
    ListFunctions(lambda::ListFunctions) => |_| None;
    /// Runs a function.
    Invoke(lambda::Invoke) => |r| Some(&r.function.name);
    /// Sets how Events are retried.
    PutFunctionEventInvokeConfig(lambda::PutFunctionEventInvokeConfig) => |r| Some(&r.function.name);
    /// Reads how Events are retried.
    GetFunctionEventInvokeConfig(lambda::FunctionName) => |r| Some(&r.name);
    /// Goes back to the defaults for Events.
    DeleteFunctionEventInvokeConfig(lambda::FunctionName) => |r| Some(&r.name);
    /// Adds tags.
    TagResource(lambda::TagResource) => |r| Some(&r.function.name);
    /// Takes tags away.
    UntagResource(lambda::UntagResource) => |r| Some(&r.function.name);
    /// Reads tags.
    ListTags(lambda::FunctionName) => |r| Some(&r.name);
    /// Makes a log group.
    CreateLogGroup(logs::CreateLogGroup) => |r| Some(&r.log_group_name);
    /// Removes a log group.
    DeleteLogGroup(logs::DeleteLogGroup) => |r| Some(&r.log_group_name);
    /// Lists log groups.
    DescribeLogGroups(logs::DescribeLogGroups) => |_| None;
    /// Sets how long log events are kept.
    PutRetentionPolicy(logs::PutRetentionPolicy) => |r| Some(&r.log_group_name);
    /// Makes a log stream.
    CreateLogStream(logs::LogStreamName) => |r| Some(&r.log_group_name);
    /// Lists log streams.
    DescribeLogStreams(logs::DescribeLogStreams) => |r| r.group();
    /// Removes a log stream.
    DeleteLogStream(logs::LogStreamName) => |r| Some(&r.log_group_name);
    /// Writes log events.
    PutLogEvents(logs::PutLogEvents) => |r| Some(&r.log_group_name);
    /// Reads one stream.
    GetLogEvents(logs::GetLogEvents) => |r| r.group();
    /// Searches a group.
    FilterLogEvents(logs::FilterLogEvents) => |r| r.group();
}

/// What a call that was processed gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Done; there is nothing to tell.
    Empty,
    /// A function's configuration, as CreateFunction, GetFunctionConfiguration and the updates give it.
    Configuration(Box<lambda::FunctionConfiguration>),
    /// A function with code and tags.
    Function(Box<lambda::GetFunctionResponse>),
    /// A page of functions.
    Functions(lambda::ListFunctionsResponse),
    /// The end of a RequestResponse invocation.
    Invoked(lambda::Invoked),
    /// An Event was queued.
    Queued,
    /// A DryRun would have worked.
    DryRun,
    /// How Events are retried.
    EventInvokeConfig(lambda::EventInvokeConfig),
    /// Tags.
    Tags(lambda::ListTagsResponse),
    /// A page of log groups.
    LogGroups(logs::DescribeLogGroupsResponse),
    /// A page of log streams.
    LogStreams(logs::DescribeLogStreamsResponse),
    /// Log events were taken.
    EventsPut(logs::PutLogEventsResponse),
    /// A page of one stream.
    LogEvents(logs::GetLogEventsResponse),
    /// A page of a group.
    FilteredEvents(logs::FilterLogEventsResponse),
}

/// An error as AWS gives it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// AWS's code, such as `ResourceConflictException`.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// The Retry-After header, in seconds.
    pub retry_after_s: Option<u32>,
    /// The member `Reason` of TooManyRequestsException.
    pub reason: Option<&'static str>,
}

impl ApiError {
    /// An error without the rarer members.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), retry_after_s: None, reason: None }
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValueException", message)
    }

    /// Lambda's words for a broken constraint of its API model.
    pub(crate) fn constraint(value: &str, member: &str, constraint: &str) -> Self {
        Self::new(
            400,
            "ValidationException",
            format!(
                "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
            ),
        )
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "ResourceConflictException", message)
    }

    pub(crate) fn logs(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    pub(crate) fn throttled(service: Service, retry_after_s: Option<u32>) -> Self {
        match service {
            Service::Lambda => Self {
                retry_after_s,
                reason: Some("CallerRateLimitExceeded"),
                ..Self::new(429, "TooManyRequestsException", "Rate exceeded")
            },
            Service::Logs => Self { retry_after_s, ..Self::logs("ThrottlingException", "Rate exceeded") },
        }
    }

    pub(crate) fn service_failure(service: Service, status: u16) -> Self {
        match service {
            Service::Lambda => {
                Self::new(status, "ServiceException", "An error occurred and the request cannot be processed.")
            }
            Service::Logs => {
                Self::new(status, "ServiceUnavailableException", "The service cannot complete the request.")
            }
        }
    }

    pub(crate) fn access_denied(operation: Operation) -> Self {
        let (status, prefix) = match operation.service() {
            Service::Lambda => (403, "lambda"),
            Service::Logs => (400, "logs"),
        };
        let name = operation.name();
        let message = format!("User is not authorized to perform: {prefix}:{name}");
        Self::new(status, "AccessDeniedException", message)
    }
}

/// Names a RequestResponse invocation whose answer is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What became of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was processed, or refused.
    Answer(Result<Response, ApiError>),
    /// The answer comes later, as [`Effect::Answer`].
    Later(Ticket),
    /// It never reached the service.
    Unprocessed,
}

/// What happens to the answer on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// It arrives.
    Whole,
    /// The connection is reset as soon as the call is taken; the caller sees no answer.
    Reset,
    /// The connection is closed where the answer should begin.
    Lost,
    /// It arrives cut and is no JSON.
    Malformed,
    /// It arrives so many milliseconds later.
    Late(u64),
}

/// The model's answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// `x-amzn-RequestId`; for an invocation the id in its log lines.
    pub request_id: String,
    /// What became of the call.
    pub outcome: Outcome,
    /// What happens to the answer.
    pub transport: Transport,
}

/// What the world around the model has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start an environment, which then reports [`EnvironmentEvent::Ready`] or [`EnvironmentEvent::Ended`].
    Start(Arc<EnvironmentSpec>),
    /// Hand an invocation to an environment that is ready.
    Invoke(Handover),
    /// End an environment; nothing needs to be reported.
    Kill {
        /// Its number.
        environment: u64,
    },
    /// Answer a RequestResponse invocation.
    Answer {
        /// Which one.
        ticket: Ticket,
        /// With what.
        result: Result<Response, ApiError>,
    },
}

/// An execution environment to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// Its number, never used twice.
    pub environment: u64,
    /// 32 hexadecimal digits, as in its log stream's name.
    pub name: String,
    /// The function's name.
    pub function: String,
    /// The image, as a key of the settings' images.
    pub image: String,
    /// EntryPoint of the function's ImageConfig; empty: the image's own.
    pub entry_point: Vec<String>,
    /// Command of the function's ImageConfig; empty: the image's own.
    pub command: Vec<String>,
    /// WorkingDirectory of the ImageConfig.
    pub working_dir: Option<String>,
    /// The function's variables and Lambda's own, but for AWS_LAMBDA_RUNTIME_API.
    pub env: std::collections::BTreeMap<String, String>,
    /// MemorySize.
    pub memory_mb: u32,
}

/// An invocation to be handed to an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The environment's number.
    pub environment: u64,
    /// The invocation's id.
    pub request_id: String,
    /// The function's name.
    pub function: String,
    /// Its ARN.
    pub function_arn: String,
    /// What it is invoked with.
    pub payload: Bytes,
    /// When it has to be killed, in milliseconds since the epoch.
    pub deadline_ms: i64,
    /// The client context, decoded: a JSON object on one line.
    pub client_context: Option<String>,
    /// The X-Ray trace header.
    pub trace_id: String,
}

/// What was seen of an environment.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvironmentEvent {
    /// It asks for its first invocation.
    Ready {
        /// Its number.
        environment: u64,
        /// Since its start.
        init_ms: f64,
    },
    /// It wrote a line.
    Line {
        /// Its number.
        environment: u64,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
        /// Without its newline.
        text: String,
    },
    /// What it was doing has ended. Everything but a response or a posted error ends the environment too.
    Ended {
        /// Its number.
        environment: u64,
        /// How.
        end: End,
        /// From the handover to the end.
        duration_ms: f64,
        /// The most memory it used, in MB.
        max_memory_mb: u32,
    },
    /// It is no more.
    Gone {
        /// Its number.
        environment: u64,
    },
}

/// How an invocation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The runtime posted a response.
    Response(Bytes),
    /// The runtime posted an error.
    Error {
        /// Lambda-Runtime-Function-Error-Type.
        error_type: String,
        /// Passed through to the caller.
        body: Bytes,
    },
    /// The process returned.
    Exited {
        /// Its status.
        code: i32,
    },
    /// A signal ended the process.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The function's timeout was over.
    TimedOut,
    /// The memory was used up.
    OutOfMemory,
    /// The environment never asked for the invocation: the runtime posted an error while it initialised.
    InitError {
        /// Lambda-Runtime-Function-Error-Type.
        error_type: String,
        /// Passed through to the caller.
        body: Bytes,
    },
    /// The environment could not be started.
    NotStarted {
        /// Such as `Runtime.InvalidEntrypoint`.
        error_type: String,
        /// A sentence.
        message: String,
    },
}
