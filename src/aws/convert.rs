//! Our words to the SDK's and back.

use std::collections::BTreeMap;

use aws_sdk_lambda::error::BuildError;
use aws_sdk_lambda::types::{
    Environment, EphemeralStorage, FunctionConfiguration, ImageConfig, ImageConfigResponse, LastUpdateStatus,
    LogFormat, LoggingConfig, VpcConfig, VpcConfigResponse,
};

use super::types::{FailedUpdate, FunctionDescription, FunctionShape};

/// `ImageConfig`; with nothing set it is empty, which resets it.
pub(super) fn image_config(shape: &FunctionShape) -> ImageConfig {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    ImageConfig::builder()
        .set_entry_point(list(&shape.entrypoint))
        .set_command(list(&shape.command))
        .set_working_directory(shape.working_dir.clone())
        .build()
}

/// Whether anything of `ImageConfig` is set.
pub(super) fn overrides_image(shape: &FunctionShape) -> bool {
    !shape.entrypoint.is_empty() || !shape.command.is_empty() || shape.working_dir.is_some()
}

/// `Environment`, with an empty map where there is none: that resets it.
pub(super) fn environment(shape: &FunctionShape) -> Environment {
    let variables = shape.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Environment::builder().set_variables(Some(variables)).build()
}

/// `VpcConfig`, with empty lists where there is none: that takes the function out of its VPC.
pub(super) fn vpc_config(shape: &FunctionShape) -> VpcConfig {
    VpcConfig::builder()
        .set_subnet_ids(Some(shape.subnet_ids.clone()))
        .set_security_group_ids(Some(shape.security_group_ids.clone()))
        .build()
}

/// Whether the function is to be in a VPC.
pub(super) fn in_vpc(shape: &FunctionShape) -> bool {
    !shape.subnet_ids.is_empty() || !shape.security_group_ids.is_empty()
}

/// `EphemeralStorage`.
pub(super) fn ephemeral_storage(shape: &FunctionShape) -> Result<EphemeralStorage, BuildError> {
    EphemeralStorage::builder().size(int(shape.ephemeral_storage_mb)).build()
}

/// `LoggingConfig`: our group, plain text.
pub(super) fn logging_config(shape: &FunctionShape) -> LoggingConfig {
    LoggingConfig::builder().log_group(&shape.log_group).log_format(LogFormat::Text).build()
}

/// The SDK's integers; what does not fit is refused by AWS as too large.
pub(super) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn unsigned(value: Option<i32>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

/// The fields that four answers of the API share without sharing a type.
macro_rules! description {
    ($answer:expr) => {{
        let answer = $answer;
        let name = answer.function_name.unwrap_or_default();
        let (subnet_ids, security_group_ids) = vpc_ids(answer.vpc_config);
        let image = image_settings(answer.image_config_response);
        let log_group = answer.logging_config.and_then(|config| config.log_group);
        let variables = answer.environment.and_then(|environment| environment.variables);
        FunctionDescription {
            arn: answer.function_arn.unwrap_or_default(),
            state: answer.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            state_reason_code: answer.state_reason_code.map(|code| code.as_str().to_owned()),
            state_reason: answer.state_reason,
            updating: answer.last_update_status == Some(LastUpdateStatus::InProgress),
            failed_update: (answer.last_update_status == Some(LastUpdateStatus::Failed)).then(|| FailedUpdate {
                code: answer.last_update_status_reason_code.map(|code| code.as_str().to_owned()),
                reason: answer.last_update_status_reason,
            }),
            last_modified: answer.last_modified.unwrap_or_default(),
            resolved_image_uri: None,
            shape: FunctionShape {
                image_uri: None,
                role_arn: answer.role.unwrap_or_default(),
                memory_mb: unsigned(answer.memory_size),
                timeout_s: unsigned(answer.timeout),
                ephemeral_storage_mb: unsigned(answer.ephemeral_storage.map(|storage| storage.size)),
                architecture: architecture(answer.architectures),
                entrypoint: image.entry_point.unwrap_or_default(),
                command: image.command.unwrap_or_default(),
                working_dir: image.working_directory.filter(|dir| !dir.is_empty()),
                environment: variables.into_iter().flatten().collect(),
                subnet_ids,
                security_group_ids,
                log_group: log_group.unwrap_or_else(|| format!("/aws/lambda/{name}")),
            },
            tags: None,
            name,
        }
    }};
}

impl From<FunctionConfiguration> for FunctionDescription {
    fn from(answer: FunctionConfiguration) -> Self {
        description!(answer)
    }
}

macro_rules! description_from {
    ($($operation:ident::$answer:ident),*) => {
        $(impl From<aws_sdk_lambda::operation::$operation::$answer> for FunctionDescription {
            fn from(answer: aws_sdk_lambda::operation::$operation::$answer) -> Self {
                description!(answer)
            }
        })*
    };
}

description_from!(
    create_function::CreateFunctionOutput,
    update_function_configuration::UpdateFunctionConfigurationOutput,
    update_function_code::UpdateFunctionCodeOutput
);

/// GetFunction tells more than the others: the image and the tags. Tags are left out by AWS where there are none.
pub(super) fn from_get_function(
    answer: aws_sdk_lambda::operation::get_function::GetFunctionOutput,
) -> Option<FunctionDescription> {
    let mut description = FunctionDescription::from(answer.configuration?);
    if let Some(code) = answer.code {
        description.shape.image_uri = code.image_uri;
        description.resolved_image_uri = code.resolved_image_uri;
    }
    if answer.tags_error.is_none() {
        description.tags = Some(answer.tags.into_iter().flatten().collect::<BTreeMap<_, _>>());
    }
    Some(description)
}

fn vpc_ids(config: Option<VpcConfigResponse>) -> (Vec<String>, Vec<String>) {
    let sorted = |ids: Option<Vec<String>>| {
        let mut ids = ids.unwrap_or_default();
        ids.sort_unstable();
        ids
    };
    config.map(|config| (sorted(config.subnet_ids), sorted(config.security_group_ids))).unwrap_or_default()
}

fn image_settings(response: Option<ImageConfigResponse>) -> ImageConfig {
    response.and_then(|response| response.image_config).unwrap_or_else(|| ImageConfig::builder().build())
}

/// AWS's default, where an answer leaves the architecture out, is x86_64.
fn architecture(architectures: Option<Vec<aws_sdk_lambda::types::Architecture>>) -> String {
    let first = architectures.into_iter().flatten().next();
    first.map_or_else(|| "x86_64".to_owned(), |architecture| architecture.as_str().to_owned())
}
