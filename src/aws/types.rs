//! The words that go in and out of the room.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A function's settings as far as we set them: what CreateFunction is told and drift is measured by.
#[derive(Clone, PartialEq, Eq)]
pub struct FunctionShape {
    /// `Code.ImageUri`; `None` where AWS does not tell it (ListFunctions).
    pub image_uri: Option<String>,
    /// `Role`.
    pub role_arn: String,
    /// `MemorySize`, MB.
    pub memory_mb: u32,
    /// `Timeout`, seconds.
    pub timeout_s: u32,
    /// `EphemeralStorage.Size`, MB.
    pub ephemeral_storage_mb: u32,
    /// `Architectures[0]`: `x86_64` or `arm64`.
    pub architecture: String,
    /// `ImageConfig.EntryPoint`.
    pub entrypoint: Vec<String>,
    /// `ImageConfig.Command`.
    pub command: Vec<String>,
    /// `ImageConfig.WorkingDirectory`.
    pub working_dir: Option<String>,
    /// `Environment.Variables`.
    pub environment: BTreeMap<String, String>,
    /// `VpcConfig.SubnetIds`, sorted.
    pub subnet_ids: Vec<String>,
    /// `VpcConfig.SecurityGroupIds`, sorted.
    pub security_group_ids: Vec<String>,
    /// `LoggingConfig.LogGroup`.
    pub log_group: String,
}

/// Never prints the environment.
impl std::fmt::Debug for FunctionShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionShape").field("image_uri", &self.image_uri).finish_non_exhaustive()
    }
}

/// What CreateFunction is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFunction {
    /// The name, at most 64 characters of `[a-zA-Z0-9-_]`.
    pub name: String,
    /// A sentence for people who look at the AWS console.
    pub description: String,
    /// The settings.
    pub shape: FunctionShape,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// A function as AWS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionDescription {
    /// The name.
    pub name: String,
    /// The ARN.
    pub arn: String,
    /// `State`; empty where AWS does not tell it (ListFunctions).
    pub state: String,
    /// `StateReasonCode`.
    pub state_reason_code: Option<String>,
    /// `StateReason`.
    pub state_reason: Option<String>,
    /// `LastUpdateStatus` is `InProgress`.
    pub updating: bool,
    /// `LastUpdateStatus` is `Failed`: the settings may be the new ones, but an invocation runs with the old ones.
    pub failed_update: Option<FailedUpdate>,
    /// `LastModified`, as AWS writes it.
    pub last_modified: String,
    /// `Code.ResolvedImageUri`, only from GetFunction.
    pub resolved_image_uri: Option<String>,
    /// The settings.
    pub shape: FunctionShape,
    /// The tags; `None` where AWS does not tell them (all but GetFunction).
    pub tags: Option<BTreeMap<String, String>>,
}

/// Why AWS has not carried out an update.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedUpdate {
    /// `LastUpdateStatusReasonCode`.
    pub code: Option<String>,
    /// `LastUpdateStatusReason`.
    pub reason: Option<String>,
}

/// A page of ListFunctions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionPage {
    /// The functions.
    pub functions: Vec<FunctionDescription>,
    /// Where the next page begins; `None`: this was the last.
    pub next_marker: Option<String>,
}

/// An invocation to be made.
#[derive(Clone, PartialEq, Eq)]
pub struct InvokeRequest {
    /// The function.
    pub function_name: String,
    /// `true`: Event; `false`: RequestResponse with the log's tail.
    pub asynchronous: bool,
    /// JSON.
    pub payload: Vec<u8>,
    /// JSON for `X-Amz-Client-Context`; AWS passes it on for RequestResponse only.
    pub client_context: Option<String>,
    /// How long an answer may take: above the function's own time-out.
    pub answer_within: Duration,
}

/// Never prints the payload.
impl std::fmt::Debug for InvokeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvokeRequest").field("function_name", &self.function_name).finish_non_exhaustive()
    }
}

/// What Invoke answered.
#[derive(Clone, PartialEq, Eq)]
pub struct InvokeReply {
    /// `x-amzn-RequestId`: the id in the log's lines.
    pub request_id: Option<String>,
    /// The HTTP status: 200, or 202 for an event.
    pub status: u16,
    /// `X-Amz-Function-Error`.
    pub function_error: Option<String>,
    /// The function's answer.
    pub payload: Vec<u8>,
    /// The last 4 KB of the log, decoded.
    pub log_tail: Option<String>,
}

/// Never prints the payload.
impl std::fmt::Debug for InvokeReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InvokeReply")
            .field("request_id", &self.request_id)
            .field("status", &self.status)
            .field("function_error", &self.function_error)
            .finish_non_exhaustive()
    }
}

/// What is missing for a log group to be as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogGroupNeeds {
    /// It does not exist.
    pub create: bool,
    /// Its retention must be set to so many days.
    pub retention_days: Option<u32>,
    /// Its ARN, which names its account; `None`: it does not exist.
    pub arn: Option<String>,
}

/// Names of log streams, as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamNames {
    /// The names.
    pub names: Vec<String>,
    /// There are no more.
    pub complete: bool,
}

/// When a [`CallHook`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallPoint {
    /// It is the call's turn; nothing is sent.
    Before,
    /// The answer, or the lack of one, is known; nobody has acted on it.
    After,
}

/// A call as a hook sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookedCall {
    /// `lambda` or `logs`.
    pub service: &'static str,
    /// What is being done, such as `create function`.
    pub operation: &'static str,
    /// The function or the log group, as the call names it; may be empty.
    pub subject: String,
    /// When.
    pub point: CallPoint,
}

/// Called around each call, which waits for it: a test can end the daemon there.
pub type CallHook = Arc<dyn Fn(HookedCall) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A question to CloudWatch Logs (FilterLogEvents).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The log group.
    pub group: String,
    /// These streams only, at most 100; empty: all.
    pub streams: Vec<String>,
    /// Streams that begin like this only; not together with `streams`.
    pub stream_prefix: Option<String>,
    /// From here, inclusive, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// To here, inclusive, Unix milliseconds.
    pub end_ms: Option<i64>,
    /// A filter pattern in CloudWatch's language; `None`: everything.
    pub pattern: Option<String>,
    /// At most so many events a page, 1 to 10,000.
    pub limit: Option<u32>,
    /// Where the page begins, as the page before said.
    pub next_token: Option<String>,
}

impl LogQuery {
    /// The question in two, from the first page on, after one of the streams that it names was not found. `None`: it is that
    /// of one stream, which is the missing one.
    #[must_use]
    pub fn halve(&self) -> Option<[Self; 2]> {
        let half = self.streams.len() / 2;
        let (first, second) = self.streams.split_at_checked(half).filter(|_| half > 0)?;
        let of = |streams: &[String]| Self { streams: streams.to_vec(), next_token: None, ..self.clone() };
        Some([of(first), of(second)])
    }
}

/// A log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Unique in the account: duplicates are told by it.
    pub id: String,
    /// The log stream.
    pub stream: String,
    /// Unix milliseconds, by the writer's clock.
    pub timestamp_ms: i64,
    /// Unix milliseconds, when CloudWatch took it in.
    pub ingestion_ms: i64,
    /// The line; Lambda's platform lines keep their newline.
    pub message: String,
}

/// A page of log events. An empty page with a token is normal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The events, sorted by time within the page.
    pub events: Vec<LogEvent>,
    /// Where the next page begins; `None`: this was the last.
    pub next_token: Option<String>,
}

/// The future of [`ReadLogs::read`].
pub type ReadLogsFuture<'a> = Pin<Box<dyn Future<Output = Result<LogPage, AwsError>> + Send + 'a>>;

/// Reading logs, and nothing else: all that the API may know of this room.
pub trait ReadLogs: Send + Sync {
    /// One page. A group that does not exist is an empty last page; one stream that does not exist, of those that are named,
    /// is `NotFound` for all of them ([`LogQuery::halve`]).
    fn read(&self, query: LogQuery) -> ReadLogsFuture<'_>;
}

/// An AWS call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{service}: {operation}: {message}")]
pub struct AwsError {
    /// `lambda` or `logs`.
    pub service: &'static str,
    /// What was being done, such as `create function`.
    pub operation: &'static str,
    /// What kind of failure.
    pub kind: AwsErrorKind,
    /// AWS's error code, such as `ResourceConflictException`.
    pub code: Option<String>,
    /// AWS's message, or what the connection said. Holds no secret.
    pub message: String,
    /// AWS's request id.
    pub request_id: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// The kinds of failure. `surely_not_done` tells those after which nothing can have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AwsErrorKind {
    /// 404.
    NotFound,
    /// 409: exists already, is pending, or is being updated.
    Conflict,
    /// 429, or a throttling code.
    Throttled,
    /// 403: the rights are missing.
    AccessDenied,
    /// AWS does not know who we are: no, wrong or expired credentials, or a clock that is off.
    Credentials,
    /// 400: a parameter is refused.
    InvalidParameter,
    /// 400: the role cannot be assumed by Lambda (yet).
    RoleNotReady,
    /// 400 or 502: something that the function depends on cannot be used yet: a right, a key, EC2's rate limit.
    DependencyNotReady,
    /// 400: the image is not in its repository (yet).
    ImageNotFound,
    /// 413: the request is too large.
    TooLarge,
    /// 502 with a code that says that no environment could be made now (EC2, ENI, subnet, EFS): nothing ran.
    EnvironmentNotReady,
    /// A key of KMS that cannot be used, or any other 4xx with AWS's error shape.
    Refused,
    /// 5xx.
    ServiceError,
    /// No connection was made: nothing was sent.
    Unreachable,
    /// It was sent, and no answer came (time-out, reset).
    NoAnswer,
    /// An answer came that could not be understood.
    Malformed,
}

impl AwsErrorKind {
    /// Whether the call surely had no effect.
    #[must_use]
    pub fn surely_not_done(self) -> bool {
        !matches!(self, Self::ServiceError | Self::NoAnswer | Self::Malformed)
    }
}
