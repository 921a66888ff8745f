//! The function's settings: Docker's own flags first, then the labels `sockerless.lambda.*`, then the configuration.
//! PURE.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::super::{json, limits};
use super::bad;
use crate::config::Config;
use crate::state::model::{
    Architecture, ContainerConfig, DeletionPolicy, FunctionSettings, InvocationKind, Protocol, UnknownOutcome,
};

const PREFIX: &str = "sockerless.lambda.";
const BYTES_PER_MB: i64 = 1_024 * 1_024;

/// The settings of a new container's function.
pub(super) fn settings(
    host: &Map<String, Value>,
    labels: &BTreeMap<String, String>,
    platform: Option<&str>,
    config: &Config,
) -> Result<FunctionSettings, ApiError> {
    let mut settings = from_config(config);
    for (key, value) in labels {
        if let Some(name) = key.strip_prefix(PREFIX) {
            apply_label(&mut settings, name, value).map_err(|reason| bad(format!("label {key}: {reason}")))?;
        }
    }
    if let Some(memory) = memory_mb(host)? {
        settings.memory_mb = memory;
    }
    if let Some(platform) = platform {
        settings.architecture = architecture_of(platform)?;
    }
    Ok(settings)
}

fn from_config(config: &Config) -> FunctionSettings {
    FunctionSettings {
        role_arn: config.role_arn.clone(),
        memory_mb: config.memory_size,
        timeout_s: config.timeout,
        ephemeral_storage_mb: config.ephemeral_storage,
        architecture: config.architecture,
        protocol: config.protocol,
        invocation: config.invocation_type,
        event_age_s: config.event_age,
        subnet_ids: config.subnet_ids.clone(),
        security_group_ids: config.security_group_ids.clone(),
        log_group: config.log_group.clone(),
        payload: None,
        deletion_policy: DeletionPolicy::default(),
        unknown_outcome: config.unknown_outcome,
    }
}

fn apply_label(settings: &mut FunctionSettings, name: &str, value: &str) -> Result<(), String> {
    match name {
        "memory" => settings.memory_mb = number(value, &limits::MEMORY_MB, "MB")?,
        "timeout" => settings.timeout_s = number(value, &limits::TIMEOUT_S, "seconds")?,
        "ephemeral-storage" => settings.ephemeral_storage_mb = number(value, &limits::EPHEMERAL_STORAGE_MB, "MB")?,
        "invocation-type" => settings.invocation = invocation(value)?,
        "architecture" => settings.architecture = architecture(value)?,
        "protocol" => settings.protocol = protocol(value)?,
        "deletion-policy" => settings.deletion_policy = deletion_policy(value)?,
        "unknown-outcome" => settings.unknown_outcome = unknown_outcome(value)?,
        "role-arn" => settings.role_arn = role_arn(value)?,
        "subnet-ids" => settings.subnet_ids = ids(value, "subnet-", limits::MAX_SUBNETS)?,
        "security-group-ids" => settings.security_group_ids = ids(value, "sg-", limits::MAX_SECURITY_GROUPS)?,
        "payload" => {
            json::check(value.as_bytes(), limits::MAX_PAYLOAD_DEPTH)?;
            serde_json::from_str::<IgnoredAny>(value).map_err(|error| format!("JSON is needed: {error}"))?;
            settings.payload = Some(value.to_owned());
        }
        _ => return Err("there is no such setting".to_owned()),
    }
    Ok(())
}

fn number(text: &str, range: &RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    let outside = || format!("{text:?} is not a number of {unit} from {} to {}", range.start(), range.end());
    text.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(outside)
}

fn invocation(text: &str) -> Result<InvocationKind, String> {
    match text.to_ascii_lowercase().as_str() {
        "requestresponse" => Ok(InvocationKind::RequestResponse),
        "event" => Ok(InvocationKind::Event),
        _ => Err(format!("{text:?} is neither RequestResponse nor Event")),
    }
}

fn architecture(text: &str) -> Result<Architecture, String> {
    match text.to_ascii_lowercase().as_str() {
        "x86_64" | "amd64" | "x86-64" => Ok(Architecture::X86_64),
        "arm64" | "aarch64" => Ok(Architecture::Arm64),
        _ => Err(format!("{text:?} is neither x86_64 nor arm64")),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "bootstrap" => Ok(Protocol::Bootstrap),
        "native" => Ok(Protocol::Native),
        _ => Err(format!("{text:?} is neither bootstrap nor native")),
    }
}

fn deletion_policy(text: &str) -> Result<DeletionPolicy, String> {
    match text.to_ascii_lowercase().as_str() {
        "delete" => Ok(DeletionPolicy::Delete),
        "retain" => Ok(DeletionPolicy::Retain),
        _ => Err(format!("{text:?} is neither delete nor retain")),
    }
}

fn unknown_outcome(text: &str) -> Result<UnknownOutcome, String> {
    match text.to_ascii_lowercase().as_str() {
        "fail" => Ok(UnknownOutcome::Fail),
        "rerun" => Ok(UnknownOutcome::Rerun),
        _ => Err(format!("{text:?} is neither fail nor rerun")),
    }
}

fn role_arn(text: &str) -> Result<String, String> {
    if !(text.starts_with("arn:aws") && text.contains(":iam::") && text.contains(":role/")) {
        return Err(format!("{text:?} is not the ARN of a role"));
    }
    Ok(text.to_owned())
}

fn ids(text: &str, prefix: &str, most: usize) -> Result<Vec<String>, String> {
    let ids: Vec<String> = text.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    if let Some(wrong) = ids.iter().find(|id| !id.starts_with(prefix)) {
        return Err(format!("{wrong:?} does not begin with {prefix}"));
    }
    if ids.len() > most {
        return Err(format!("{} are more than the {most} that Lambda takes", ids.len()));
    }
    Ok(ids)
}

/// `HostConfig.Memory`: bytes, rounded up to a MB and to Lambda's least.
fn memory_mb(host: &Map<String, Value>) -> Result<Option<u32>, ApiError> {
    let bytes = host.get("Memory").and_then(Value::as_i64).unwrap_or(0);
    if bytes < 0 {
        return Err(bad("HostConfig.Memory: a negative limit makes no sense"));
    }
    if bytes == 0 {
        return Ok(None);
    }
    let mb = bytes.saturating_add(BYTES_PER_MB - 1) / BYTES_PER_MB;
    let (least, most) = (*limits::MEMORY_MB.start(), *limits::MEMORY_MB.end());
    match u32::try_from(mb).ok().filter(|mb| *mb <= most) {
        Some(mb) => Ok(Some(mb.max(least))),
        None => Err(bad(format!("HostConfig.Memory: {mb} MB are more than Lambda's limit of {most} MB"))),
    }
}

/// `--platform`: `linux/amd64`, `linux/arm64/v8`, `arm64`, …
pub(in crate::api) fn architecture_of(platform: &str) -> Result<Architecture, ApiError> {
    let words: Vec<&str> = platform.split('/').collect();
    let found = match words.as_slice() {
        ["linux"] => Some(Architecture::default()),
        ["linux", processor] | ["linux", processor, _] => architecture(processor).ok(),
        [processor] => architecture(processor).ok(),
        _ => None,
    };
    let refusal = || match words.as_slice() {
        // As moby words what is neither a system nor a processor.
        [word] => format!("{word:?}: unknown operating system or architecture: invalid argument"),
        _ => format!("platform: Lambda runs linux/amd64 and linux/arm64, not {platform:?}"),
    };
    found.ok_or_else(|| bad(refusal()))
}

/// What Lambda's `ImageConfig` takes.
pub(super) fn check_native_image_config(config: &ContainerConfig) -> Result<(), ApiError> {
    let entrypoint = config.entrypoint.as_deref().unwrap_or_default();
    let command = config.cmd.as_deref().unwrap_or_default();
    for (field, words) in [("Entrypoint", entrypoint), ("Cmd", command)] {
        if words.len() > limits::MAX_IMAGE_CONFIG_WORDS {
            return Err(bad(format!("{field}: Lambda takes at most {} words", limits::MAX_IMAGE_CONFIG_WORDS)));
        }
    }
    if entrypoint.first().is_some_and(|program| !program.starts_with('/')) {
        return Err(bad("Entrypoint: Lambda needs an absolute path (label sockerless.lambda.protocol=native)"));
    }
    let directory = config.working_dir.as_deref().unwrap_or_default();
    if directory.chars().count() > limits::MAX_WORKING_DIR {
        return Err(bad(format!("WorkingDir: Lambda takes at most {} characters", limits::MAX_WORKING_DIR)));
    }
    let size: usize = entrypoint.iter().chain(command).map(String::len).sum::<usize>() + directory.len();
    if size > limits::MAX_IMAGE_CONFIG_BYTES {
        return Err(bad(format!(
            "Entrypoint, Cmd and WorkingDir: {size} bytes are more than the {} that Lambda takes",
            limits::MAX_IMAGE_CONFIG_BYTES
        )));
    }
    Ok(())
}
