//! What every call has in common: its turn, its measurement, its trace.

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tracing::Instrument as _;

use super::gates::Quota;
use super::types::{AwsError, AwsErrorKind, CallPoint, HookedCall};
use super::{Cloud, error};
use crate::clock::Stopwatch;
use crate::telemetry::{AWS_REQUESTS, AWS_SECONDS, AWS_THROTTLES};
use crate::traces;

/// Lambda, in errors and metrics.
pub(super) const LAMBDA: &str = "lambda";
/// CloudWatch Logs, in errors and metrics.
pub(super) const LOGS: &str = "logs";

/// An invocation that waits longer for its turn is not made: its run has a deadline, which was set before. It surely has not
/// run, as after a refusal by AWS.
const INVOKE_PATIENCE: Duration = Duration::from_secs(30);

/// A call as errors, metrics and traces name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// [`LAMBDA`] or [`LOGS`].
    pub(super) service: &'static str,
    /// Such as `create function`.
    pub(super) operation: &'static str,
    /// The function or the log group.
    pub(super) subject: &'a str,
    /// What it counts against.
    pub(super) quota: Quota,
}

impl Call<'_> {
    /// A failure that AWS did not tell us.
    pub(super) fn failed(&self, kind: AwsErrorKind, message: String) -> AwsError {
        let Self { service, operation, .. } = *self;
        AwsError { service, operation, kind, code: None, message, request_id: None, retry_after: None }
    }
}

impl Cloud {
    /// Waits for the call's turn, makes it once, and tells what came of it. A failure is logged by whoever handles it.
    pub(super) async fn call<T, E>(
        &self,
        call: Call<'_>,
        send: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, AwsError>
    where
        T: RequestId,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let gate = self.gates.of(call.quota);
        match self.take_reserved(call.quota) {
            Some(reserved) => reserved.send(),
            None => self.wait_for_turn(&call).await?,
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.tell_hook(&call, CallPoint::Before).await;
        let watch = Stopwatch::start();
        let span = traces::aws_call(call.service, call.operation);
        let result = send.instrument(span.clone()).await.map_err(|sdk_error| error::from_sdk(&call, &sdk_error));
        match &result {
            Ok(output) => traces::aws_answered(&span, None, output.request_id()),
            Err(error) => traces::aws_answered(&span, Some(label(error)), error.request_id.as_deref()),
        }
        drop(span);
        self.tell_hook(&call, CallPoint::After).await;
        match &result {
            Ok(output) => observe(&call, "OK", output.request_id(), watch.elapsed()),
            Err(error) => observe(&call, label(error), error.request_id.as_deref(), watch.elapsed()),
        }
        if let Err(AwsError { kind: AwsErrorKind::Throttled, retry_after, .. }) = &result {
            gate.pause(*retry_after);
            metrics::counter!(AWS_THROTTLES, "service" => call.service, "operation" => call.operation).increment(1);
        }
        result
    }

    async fn wait_for_turn(&self, call: &Call<'_>) -> Result<(), AwsError> {
        let patience = if call.quota == Quota::Invoke { INVOKE_PATIENCE } else { Duration::MAX };
        if self.gates.of(call.quota).pass(self.lane, patience).await {
            return Ok(());
        }
        let most = patience.as_secs();
        Err(call.failed(AwsErrorKind::Throttled, format!("its turn within the quota does not come in {most} s")))
    }

    async fn tell_hook(&self, call: &Call<'_>, point: CallPoint) {
        if let Some(hook) = &self.hook {
            let Call { service, operation, subject, .. } = *call;
            hook(HookedCall { service, operation, subject: subject.to_owned(), point }).await;
        }
    }
}

fn observe(call: &Call<'_>, code: &str, request_id: Option<&str>, took: Duration) {
    let Call { service, operation, subject, .. } = *call;
    metrics::counter!(AWS_REQUESTS, "service" => service, "operation" => operation, "code" => code.to_owned())
        .increment(1);
    metrics::histogram!(AWS_SECONDS, "service" => service, "operation" => operation).record(took.as_secs_f64());
    let ms = took.as_millis();
    tracing::debug!(service, operation, subject, aws_request_id = request_id, code, ms, "called AWS");
}

/// AWS's code, or our word for the failure where AWS gave none.
fn label(error: &AwsError) -> &str {
    error.code.as_deref().unwrap_or(match error.kind {
        AwsErrorKind::NotFound => "NotFound",
        AwsErrorKind::Conflict => "Conflict",
        AwsErrorKind::Throttled => "Throttled",
        AwsErrorKind::AccessDenied => "AccessDenied",
        AwsErrorKind::Credentials => "Credentials",
        AwsErrorKind::InvalidParameter => "InvalidParameter",
        AwsErrorKind::RoleNotReady => "RoleNotReady",
        AwsErrorKind::DependencyNotReady => "DependencyNotReady",
        AwsErrorKind::ImageNotFound => "ImageNotFound",
        AwsErrorKind::TooLarge => "TooLarge",
        AwsErrorKind::EnvironmentNotReady => "EnvironmentNotReady",
        AwsErrorKind::Refused => "Refused",
        AwsErrorKind::ServiceError => "ServiceError",
        AwsErrorKind::Unreachable => "Unreachable",
        AwsErrorKind::NoAnswer => "NoAnswer",
        AwsErrorKind::Malformed => "Malformed",
    })
}
