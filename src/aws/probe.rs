//! Calls that change nothing, made to see whether AWS answers us and what it allows us.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_cloudwatchlogs::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_cloudwatchlogs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_lambda::error::BoxError;
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

use super::Cloud;
use super::call::{Call, LAMBDA, LOGS};
use super::gates::Quota;
use super::types::AwsError;

/// The answer to the first question: who is there?
#[derive(Clone, Debug)]
pub struct FirstAnswer {
    /// The answer's `Date` header, when there was an answer; one that refuses us has it too.
    pub date: Option<String>,
    /// What came of the call.
    pub result: Result<(), AwsError>,
}

impl Cloud {
    /// DescribeLogGroups, with what the answer says of AWS's clock.
    pub async fn first_answer(&self) -> FirstAnswer {
        let witness = DateWitness::default();
        let describe = self.logs.describe_log_groups().limit(1).customize().interceptor(witness.clone());
        let call = Call { service: LOGS, operation: "describe log groups", subject: "", quota: Quota::Logs };
        let result = self.call(call, describe.send()).await.map(drop);
        FirstAnswer { date: witness.take(), result }
    }

    /// Invoke with `DryRun`: AWS checks parameters and rights, and runs nothing.
    pub async fn try_invoke(&self, name: &str) -> Result<(), AwsError> {
        let call = Call { service: LAMBDA, operation: "invoke", subject: name, quota: Quota::Invoke };
        let request = self.lambda.invoke().function_name(name).invocation_type(InvocationType::DryRun);
        self.call(call, request.send()).await.map(drop)
    }

    /// UpdateFunctionCode with `DryRun`: AWS checks parameters and rights, and changes nothing.
    pub async fn try_update_code(&self, name: &str, image_uri: &str) -> Result<(), AwsError> {
        let quota = Quota::ControlPlane;
        let call = Call { service: LAMBDA, operation: "update function code", subject: name, quota };
        let request = self.lambda.update_function_code().function_name(name).image_uri(image_uri).dry_run(true);
        self.call(call, request.send()).await.map(drop)
    }

    /// The ARN of a log group, which names its account; `None`: it does not exist.
    pub async fn log_group_arn(&self, name: &str) -> Result<Option<String>, AwsError> {
        Ok(self.log_group(name).await?.and_then(|group| group.arn))
    }
}

/// Reads the `Date` header of an answer, whatever its status.
#[derive(Clone, Debug, Default)]
struct DateWitness(Arc<Mutex<Option<String>>>);

impl DateWitness {
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[dyn_dispatch_hint]
impl Intercept for DateWitness {
    fn name(&self) -> &'static str {
        "DateWitness"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
