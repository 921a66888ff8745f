//! The calls of Lambda.

use std::time::Duration;

use aws_sdk_lambda::error::BuildError;
use aws_sdk_lambda::operation::RequestId;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Architecture, FunctionCode, InvocationType, LogType, PackageType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::call::{Call, LAMBDA};
use super::gates::Quota;
use super::types::{
    AwsError, AwsErrorKind, FunctionDescription, FunctionPage, FunctionShape, InvokeReply, InvokeRequest, NewFunction,
};
use super::{Cloud, connect, convert};

/// A page of ListFunctions, functions: AWS gives no more at once.
const FUNCTION_PAGE: i32 = 50;

/// A failed event is not run again by Lambda: whether it is, is decided elsewhere.
const EVENT_RETRIES: i32 = 0;

/// The body of an answer may take this much longer than its beginning.
const BODY_WITHIN: Duration = Duration::from_secs(30);

impl Cloud {
    /// CreateFunction. A name that is taken is a `Conflict`.
    pub async fn create_function(&self, new: &NewFunction) -> Result<FunctionDescription, AwsError> {
        let call = control("create function", &new.name);
        let shape = &new.shape;
        let request = self
            .lambda
            .create_function()
            .function_name(&new.name)
            .description(&new.description)
            .package_type(PackageType::Image)
            .code(FunctionCode::builder().set_image_uri(shape.image_uri.clone()).build())
            .role(&shape.role_arn)
            .memory_size(convert::int(shape.memory_mb))
            .timeout(convert::int(shape.timeout_s))
            .ephemeral_storage(convert::ephemeral_storage(shape).map_err(|error| unbuildable(&call, &error))?)
            .architectures(Architecture::from(shape.architecture.as_str()))
            .set_image_config(convert::overrides_image(shape).then(|| convert::image_config(shape)))
            .set_environment((!shape.environment.is_empty()).then(|| convert::environment(shape)))
            .set_vpc_config(convert::in_vpc(shape).then(|| convert::vpc_config(shape)))
            .logging_config(convert::logging_config(shape))
            .set_tags((!new.tags.is_empty()).then(|| new.tags.clone().into_iter().collect()))
            .publish(false);
        self.call(call, request.send()).await.map(FunctionDescription::from)
    }

    /// GetFunction: the only call that tells tags and image; it has a quota of its own.
    pub async fn get_function(&self, name: &str) -> Result<FunctionDescription, AwsError> {
        let call = Call { service: LAMBDA, operation: "get function", subject: name, quota: Quota::GetFunction };
        let answer = self.call(call, self.lambda.get_function().function_name(name).send()).await?;
        let request_id = answer.request_id().map(str::to_owned);
        convert::from_get_function(answer).ok_or_else(|| AwsError {
            request_id,
            ..call.failed(AwsErrorKind::Malformed, "the answer has no configuration".to_owned())
        })
    }

    /// UpdateFunctionConfiguration: all of the shape but the image and the architecture. What the shape leaves empty
    /// is reset.
    pub async fn update_function_configuration(
        &self,
        name: &str,
        shape: &FunctionShape,
    ) -> Result<FunctionDescription, AwsError> {
        let call = control("update function configuration", name);
        let request = self
            .lambda
            .update_function_configuration()
            .function_name(name)
            .role(&shape.role_arn)
            .memory_size(convert::int(shape.memory_mb))
            .timeout(convert::int(shape.timeout_s))
            .ephemeral_storage(convert::ephemeral_storage(shape).map_err(|error| unbuildable(&call, &error))?)
            .image_config(convert::image_config(shape))
            .environment(convert::environment(shape))
            .vpc_config(convert::vpc_config(shape))
            .logging_config(convert::logging_config(shape));
        self.call(call, request.send()).await.map(FunctionDescription::from)
    }

    /// UpdateFunctionCode: the image and the architecture.
    pub async fn update_function_code(
        &self,
        name: &str,
        image_uri: &str,
        architecture: &str,
    ) -> Result<FunctionDescription, AwsError> {
        let request = self
            .lambda
            .update_function_code()
            .function_name(name)
            .image_uri(image_uri)
            .architectures(Architecture::from(architecture))
            .publish(false);
        self.call(control("update function code", name), request.send()).await.map(FunctionDescription::from)
    }

    /// DeleteFunction. One that is absent is `NotFound`.
    pub async fn delete_function(&self, name: &str) -> Result<(), AwsError> {
        let request = self.lambda.delete_function().function_name(name);
        self.call(control("delete function", name), request.send()).await.map(drop)
    }

    /// A page of ListFunctions, from `marker` or from the start.
    pub async fn list_functions(&self, marker: Option<String>) -> Result<FunctionPage, AwsError> {
        let request = self.lambda.list_functions().max_items(FUNCTION_PAGE).set_marker(marker);
        let answer = self.call(control("list functions", ""), request.send()).await?;
        Ok(FunctionPage {
            functions: answer.functions.into_iter().flatten().map(FunctionDescription::from).collect(),
            next_marker: answer.next_marker.filter(|marker| !marker.is_empty()),
        })
    }

    /// PutFunctionEventInvokeConfig: no runs by Lambda's own decision after a failed one, and an age for events.
    pub async fn put_event_invoke_config(&self, name: &str, max_age_s: u32) -> Result<(), AwsError> {
        let request = self
            .lambda
            .put_function_event_invoke_config()
            .function_name(name)
            .maximum_retry_attempts(EVENT_RETRIES)
            .maximum_event_age_in_seconds(convert::int(max_age_s));
        self.call(control("put event invoke config", name), request.send()).await.map(drop)
    }

    /// UntagResource.
    pub async fn untag(&self, arn: &str, keys: &[&str]) -> Result<(), AwsError> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let request = self.lambda.untag_resource().resource(arn).set_tag_keys(Some(keys));
        self.call(control("untag", arn), request.send()).await.map(drop)
    }

    /// Invoke, once. A function that failed is a reply, not an error.
    pub async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeReply, AwsError> {
        let call = Call { service: LAMBDA, operation: "invoke", subject: &request.function_name, quota: Quota::Invoke };
        let (kind, log) = if request.asynchronous {
            (InvocationType::Event, None)
        } else {
            (InvocationType::RequestResponse, Some(LogType::Tail))
        };
        let invoke = self
            .lambda
            .invoke()
            .function_name(&request.function_name)
            .invocation_type(kind)
            .set_log_type(log)
            .set_client_context(request.client_context.as_ref().map(|context| STANDARD.encode(context)))
            .payload(Blob::new(request.payload.clone()))
            .customize()
            .config_override(
                aws_sdk_lambda::Config::builder().timeout_config(connect::timeouts(request.answer_within, BODY_WITHIN)),
            );
        self.call(call, invoke.send()).await.map(reply)
    }
}

fn control<'a>(operation: &'static str, subject: &'a str) -> Call<'a> {
    Call { service: LAMBDA, operation, subject, quota: Quota::ControlPlane }
}

fn reply(answer: InvokeOutput) -> InvokeReply {
    InvokeReply {
        request_id: answer.request_id().map(str::to_owned),
        status: u16::try_from(answer.status_code).unwrap_or(0),
        log_tail: answer.log_result.as_deref().and_then(decoded),
        function_error: answer.function_error,
        payload: answer.payload.map(Blob::into_inner).unwrap_or_default(),
    }
}

/// The tail is cut at a byte, perhaps within a character.
fn decoded(log_result: &str) -> Option<String> {
    STANDARD.decode(log_result).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn unbuildable(call: &Call<'_>, error: &BuildError) -> AwsError {
    call.failed(AwsErrorKind::InvalidParameter, error.to_string())
}
