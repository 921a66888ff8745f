//! Lambda's shapes, with the members that the sandbox knows, named as in AWS's service model.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A function, and perhaps a version of it, as the path and the query name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionName {
    /// The bare name; what came before and after it in an ARN is in the other members.
    pub name: String,
    /// A version or an alias.
    pub qualifier: Option<String>,
}

impl FunctionName {
    /// Reads a name, `NAME:QUALIFIER`, a partial or a full ARN.
    #[must_use]
    pub fn parse(text: &str, qualifier: Option<&str>) -> Self {
        let rest = text.rsplit_once(":function:").map_or(text, |(_, rest)| rest);
        let (name, own) = rest.split_once(':').map_or((rest, None), |(name, own)| (name, Some(own)));
        Self { name: name.to_owned(), qualifier: own.or(qualifier).map(str::to_owned) }
    }
}

/// CreateFunction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateFunction {
    /// See AWS's model, as for all members here.
    pub function_name: String,
    /// The execution role's ARN.
    pub role: String,
    /// The image.
    pub code: Code,
    /// `Image` is all that the sandbox takes.
    pub package_type: Option<String>,
    /// Must be absent for images.
    pub runtime: Option<String>,
    /// Must be absent for images.
    pub handler: Option<String>,
    /// Must be empty for images.
    pub layers: Option<Vec<String>>,
    /// Free text.
    pub description: Option<String>,
    /// Seconds.
    pub timeout: Option<i64>,
    /// MB.
    pub memory_size: Option<i64>,
    /// One of x86_64, arm64.
    pub architectures: Option<Vec<String>>,
    /// /tmp.
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Variables.
    pub environment: Option<Environment>,
    /// What the image's own settings are replaced with.
    pub image_config: Option<ImageConfig>,
    /// Subnets and security groups.
    pub vpc_config: Option<VpcConfig>,
    /// Where and how logs are written.
    pub logging_config: Option<LoggingConfig>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Where a function's code is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Code {
    /// The image.
    pub image_uri: Option<String>,
}

/// The size of /tmp.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EphemeralStorage {
    /// MB.
    pub size: i64,
}

/// Environment variables.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Environment {
    /// By name.
    pub variables: BTreeMap<String, String>,
}

/// Never prints the values.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

/// What the image's own settings are replaced with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<Vec<String>>,
    /// The arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where the program starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
}

/// A private network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VpcConfig {
    /// At most 16.
    pub subnet_ids: Vec<String>,
    /// At most 5.
    pub security_group_ids: Vec<String>,
}

/// Where and how logs are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LoggingConfig {
    /// `Text` or `JSON`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// Only with JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_log_level: Option<String>,
    /// Only with JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_log_level: Option<String>,
    /// Absent: `/aws/lambda/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
}

/// UpdateFunctionCode. The name comes from the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateFunctionCode {
    /// From the path.
    #[serde(skip)]
    pub function_name: String,
    /// The new image.
    pub image_uri: Option<String>,
    /// One of x86_64, arm64.
    pub architectures: Option<Vec<String>>,
    /// Only look whether it would work.
    pub dry_run: bool,
    /// Only if the function still has this revision.
    pub revision_id: Option<String>,
}

/// UpdateFunctionConfiguration: absent members stay as they are. The name comes from the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateFunctionConfiguration {
    /// From the path.
    #[serde(skip)]
    pub function_name: String,
    /// As in [`CreateFunction`], and so on.
    pub role: Option<String>,
    /// Must be absent for images.
    pub runtime: Option<String>,
    /// Must be absent for images.
    pub handler: Option<String>,
    /// Must be empty for images.
    pub layers: Option<Vec<String>>,
    /// Free text.
    pub description: Option<String>,
    /// Seconds.
    pub timeout: Option<i64>,
    /// MB.
    pub memory_size: Option<i64>,
    /// /tmp.
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Replaces all variables.
    pub environment: Option<Environment>,
    /// Replaces the whole ImageConfig.
    pub image_config: Option<ImageConfig>,
    /// Replaces the network.
    pub vpc_config: Option<VpcConfig>,
    /// Replaces the logging.
    pub logging_config: Option<LoggingConfig>,
    /// Only if the function still has this revision.
    pub revision_id: Option<String>,
}

/// ListFunctions.
#[derive(Clone, Debug, Default)]
pub struct ListFunctions {
    /// The last page's NextMarker.
    pub marker: Option<String>,
    /// 1 to 10,000; a page has at most 50 anyway.
    pub max_items: Option<i64>,
}

/// How a function is invoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum InvocationType {
    /// The answer is the function's.
    #[default]
    RequestResponse,
    /// Queued.
    Event,
    /// Only looked at.
    DryRun,
}

/// Invoke.
#[derive(Clone, Debug, Default)]
pub struct Invoke {
    /// Which function.
    pub function: FunctionName,
    /// X-Amz-Invocation-Type.
    pub kind: InvocationType,
    /// X-Amz-Log-Type is Tail.
    pub tail: bool,
    /// X-Amz-Client-Context, base64 as it came.
    pub client_context: Option<String>,
    /// The body.
    pub payload: Bytes,
}

/// The end of a RequestResponse invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoked {
    /// What the function answered, or the failure's payload.
    pub payload: Bytes,
    /// X-Amz-Function-Error: Unhandled.
    pub failed: bool,
    /// The last 4 KB of the log, when Tail was asked for; not yet in base64.
    pub log_tail: Option<String>,
}

/// PutFunctionEventInvokeConfig.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutFunctionEventInvokeConfig {
    /// From the path.
    #[serde(skip)]
    pub function: FunctionName,
    /// 0 to 2.
    pub maximum_retry_attempts: Option<i64>,
    /// 60 to 21,600.
    pub maximum_event_age_in_seconds: Option<i64>,
}

/// How Events are retried.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EventInvokeConfig {
    /// Seconds since the epoch.
    pub last_modified: f64,
    /// With the qualifier `$LATEST`.
    pub function_arn: String,
    /// 0 to 2; absent: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_retry_attempts: Option<i64>,
    /// 60 to 21,600; absent: 21,600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_event_age_in_seconds: Option<i64>,
}

/// TagResource.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TagResource {
    /// From the path.
    #[serde(skip)]
    pub function: FunctionName,
    /// Added or replaced.
    pub tags: BTreeMap<String, String>,
}

/// UntagResource.
#[derive(Clone, Debug, Default)]
pub struct UntagResource {
    /// From the path.
    pub function: FunctionName,
    /// The tags to take away.
    pub tag_keys: Vec<String>,
}

/// What ListTags gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsResponse {
    /// By key.
    pub tags: BTreeMap<String, String>,
}

/// A function's configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionConfiguration {
    /// See AWS's model, as for all members here.
    pub function_name: String,
    /// Without a qualifier.
    pub function_arn: String,
    /// The execution role's ARN.
    pub role: String,
    /// 0 for images.
    pub code_size: i64,
    /// Free text.
    pub description: String,
    /// Seconds.
    pub timeout: i64,
    /// MB.
    pub memory_size: i64,
    /// Such as `2024-01-02T03:04:05.000+0000`.
    pub last_modified: String,
    /// The image's digest.
    pub code_sha256: String,
    /// `$LATEST`.
    pub version: &'static str,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_config: Option<VpcConfig>,
    /// Variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// X-Ray.
    pub tracing_config: TracingConfig,
    /// Changes with every update.
    pub revision_id: String,
    /// `Image`.
    pub package_type: &'static str,
    /// What the image's own settings are replaced with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_config_response: Option<ImageConfigResponse>,
    /// `Pending`, `Active`, `Failed` or `Inactive`; ListFunctions leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// A sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// Such as `Creating`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_reason_code: Option<String>,
    /// `Successful`, `InProgress` or `Failed`; ListFunctions leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status: Option<&'static str>,
    /// A sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status_reason: Option<String>,
    /// Such as `SubnetOutOfIPAddresses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_status_reason_code: Option<String>,
    /// One of x86_64, arm64.
    pub architectures: Vec<String>,
    /// /tmp.
    pub ephemeral_storage: EphemeralStorage,
    /// Always off for images.
    pub snap_start: SnapStart,
    /// Where and how logs are written.
    pub logging_config: LoggingConfig,
}

/// X-Ray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TracingConfig {
    /// `PassThrough`.
    pub mode: &'static str,
}

/// Snapshots, which images cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SnapStart {
    /// `None`.
    pub apply_on: &'static str,
    /// `Off`.
    pub optimization_status: &'static str,
}

/// The ImageConfig in its wrapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfigResponse {
    /// As it was given.
    pub image_config: ImageConfig,
}

/// What GetFunction gives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetFunctionResponse {
    /// The configuration.
    pub configuration: FunctionConfiguration,
    /// Where the code is.
    pub code: FunctionCodeLocation,
    /// Absent when there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Why the tags are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags_error: Option<TagsError>,
}

/// Why tags are not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TagsError {
    /// AWS's code.
    pub error_code: &'static str,
    /// A sentence.
    pub message: String,
}

/// Where a function's code is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionCodeLocation {
    /// `ECR`.
    pub repository_type: &'static str,
    /// As it was given.
    pub image_uri: String,
    /// With the digest.
    pub resolved_image_uri: String,
}

/// A page of functions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListFunctionsResponse {
    /// In the order of their names.
    pub functions: Vec<FunctionConfiguration>,
    /// Absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
}
