//! Lambda's rules for what a function may be, in Lambda's words.
//!
//! `ValidationException` is what the front of the service answers to a broken constraint of the API model;
//! `InvalidParameterValueException` is what Lambda itself refuses.

use std::collections::BTreeMap;

use super::api::ApiError;
use super::lambda_api::{Environment, EphemeralStorage, ImageConfig, LoggingConfig, VpcConfig};

/// The longest name of a function, in characters.
pub(super) const MAX_NAME: usize = 64;
/// The variables of a function as compact JSON, in bytes.
const MAX_ENVIRONMENT_BYTES: usize = 4_096;
/// EntryPoint and Command, in items each.
const MAX_COMMAND_ITEMS: usize = 1_500;
/// WorkingDirectory, in characters.
const MAX_WORKING_DIRECTORY: usize = 1_000;
/// All of an ImageConfig, in bytes.
const MAX_IMAGE_CONFIG_BYTES: usize = 16 * 1_024;
/// Description, in characters.
const MAX_DESCRIPTION: usize = 256;
/// Tags of a function.
const MAX_TAGS: usize = 50;
/// A tag's key, in characters.
const MAX_TAG_KEY: usize = 128;
/// A tag's value, in characters.
const MAX_TAG_VALUE: usize = 256;
/// Subnets of a function.
const MAX_SUBNETS: usize = 16;
/// Security groups of a function.
const MAX_SECURITY_GROUPS: usize = 5;

/// Variables that Lambda sets itself.
const RESERVED_VARIABLES: [&str; 21] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
];

type Check = Result<(), ApiError>;

pub(super) fn name(name: &str) -> Check {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(ApiError::constraint(
            name,
            "functionName",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+",
        ));
    }
    at_most(name.len(), MAX_NAME, name, "functionName")
}

pub(super) fn role(role: &str) -> Check {
    let account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let good = role.strip_prefix("arn:").and_then(|rest| {
        let mut parts = rest.splitn(5, ':');
        let partition = parts.next()?.starts_with("aws");
        let iam = parts.next()? == "iam";
        let region = parts.next()?.is_empty();
        let owner = account(parts.next()?);
        let named = parts.next()?.strip_prefix("role/").is_some_and(|name| !name.is_empty());
        Some(partition && iam && region && owner && named)
    });
    if good == Some(true) {
        return Ok(());
    }
    Err(ApiError::constraint(
        role,
        "role",
        r"Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
    ))
}

pub(super) fn memory(mb: i64, cap: u32) -> Result<u32, ApiError> {
    let value = bounded(mb, 128, 10_240, "memorySize")?;
    if value > cap {
        return Err(ApiError::invalid_parameter(format!(
            "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to {cap}"
        )));
    }
    Ok(value)
}

pub(super) fn timeout(seconds: i64) -> Result<u32, ApiError> {
    bounded(seconds, 1, 900, "timeout")
}

pub(super) fn ephemeral_storage(storage: &EphemeralStorage) -> Check {
    bounded(storage.size, 512, 10_240, "ephemeralStorage.size").map(|_| ())
}

fn bounded(value: i64, min: u32, max: u32, member: &str) -> Result<u32, ApiError> {
    let constraint = |word: &str, limit: u32| {
        let constraint = format!("Member must have value {word} than or equal to {limit}");
        ApiError::constraint(&value.to_string(), member, &constraint)
    };
    match u32::try_from(value) {
        Ok(number) if number > max => Err(constraint("less", max)),
        Ok(number) if number >= min => Ok(number),
        Err(_) if value > 0 => Err(constraint("less", max)),
        _ => Err(constraint("greater", min)),
    }
}

fn at_most(length: usize, max: usize, value: &str, member: &str) -> Check {
    if length <= max {
        return Ok(());
    }
    let constraint = format!("Member must have length less than or equal to {max}");
    Err(ApiError::constraint(value, member, &constraint))
}

pub(super) fn architectures(names: &[String]) -> Check {
    match names {
        [one] if one == "x86_64" || one == "arm64" => Ok(()),
        _ => {
            let value = format!("[{}]", names.join(", "));
            let constraint = "Member must have length equal to 1 and satisfy enum value set: [x86_64, arm64]";
            Err(ApiError::constraint(&value, "architectures", constraint))
        }
    }
}

pub(super) fn description(text: &str) -> Check {
    at_most(text.chars().count(), MAX_DESCRIPTION, text, "description")
}

pub(super) fn environment(environment: &Environment) -> Check {
    let cannot =
        "Lambda was unable to configure your environment variables because the environment variables you have provided";
    let names = environment.variables.keys();
    let reserved: Vec<_> = names.clone().map(String::as_str).filter(|name| RESERVED_VARIABLES.contains(name)).collect();
    if !reserved.is_empty() {
        let keys = reserved.join(", ");
        return Err(ApiError::invalid_parameter(format!(
            "{cannot} contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {keys}"
        )));
    }
    if let Some(name) = names.clone().find(|name| !variable_name(name)) {
        return Err(ApiError::constraint(
            name,
            "environment.variables",
            "Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
        ));
    }
    let json = serde_json::to_string(&environment.variables).unwrap_or_default();
    if json.len() > MAX_ENVIRONMENT_BYTES {
        return Err(ApiError::invalid_parameter(format!("{cannot} exceeded the 4KB limit. String measured: {json}")));
    }
    Ok(())
}

fn variable_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(super) fn image_config(config: &ImageConfig) -> Check {
    for (list, member) in [(&config.entry_point, "entryPoint"), (&config.command, "command")] {
        at_most(list.as_ref().map_or(0, Vec::len), MAX_COMMAND_ITEMS, "[...]", &format!("imageConfig.{member}"))?;
    }
    let directory = config.working_directory.as_deref().unwrap_or_default();
    at_most(directory.chars().count(), MAX_WORKING_DIRECTORY, directory, "imageConfig.workingDirectory")?;
    if serde_json::to_string(config).unwrap_or_default().len() > MAX_IMAGE_CONFIG_BYTES {
        return Err(ApiError::invalid_parameter("The size of ImageConfig exceeds the 16 KB limit."));
    }
    Ok(())
}

pub(super) fn vpc(config: &VpcConfig) -> Check {
    at_most(config.subnet_ids.len(), MAX_SUBNETS, "[...]", "vpcConfig.subnetIds")?;
    at_most(config.security_group_ids.len(), MAX_SECURITY_GROUPS, "[...]", "vpcConfig.securityGroupIds")?;
    if config.subnet_ids.is_empty() != config.security_group_ids.is_empty() {
        return Err(ApiError::invalid_parameter("SubnetIds and SecurityIds must coexist or be both empty list."));
    }
    Ok(())
}

pub(super) fn logging(config: &LoggingConfig) -> Check {
    let format = config.log_format.as_deref().unwrap_or("Text");
    if format != "Text" && format != "JSON" {
        let constraint = "Member must satisfy enum value set: [JSON, Text]";
        return Err(ApiError::constraint(format, "loggingConfig.logFormat", constraint));
    }
    if format == "Text" && (config.application_log_level.is_some() || config.system_log_level.is_some()) {
        return Err(ApiError::invalid_parameter("Log level is only supported when LogFormat is JSON."));
    }
    let group = config.log_group.as_deref().unwrap_or("group");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
    if group.is_empty() || group.len() > 512 || !group.chars().all(allowed) {
        let constraint = "Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+";
        return Err(ApiError::constraint(group, "loggingConfig.logGroup", constraint));
    }
    if group.starts_with("aws/") {
        return Err(ApiError::invalid_parameter("Log groups starting with 'aws/' are reserved for AWS use."));
    }
    Ok(())
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Check {
    if tags.len() > MAX_TAGS {
        return Err(ApiError::invalid_parameter(format!("The number of tags exceeds the limit of {MAX_TAGS}.")));
    }
    let allowed = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    for (key, value) in tags {
        let sized = (1..=MAX_TAG_KEY).contains(&key.chars().count()) && value.chars().count() <= MAX_TAG_VALUE;
        if !sized || !key.chars().chain(value.chars()).all(allowed) || key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ApiError::invalid_parameter(format!("The tag '{key}' has an invalid key or value.")));
        }
    }
    Ok(())
}

/// What an image function must not have.
pub(super) fn no_zip_members(runtime: Option<&str>, handler: Option<&str>, layers: Option<&[String]>) -> Check {
    if runtime.is_some() || handler.is_some() || layers.is_some_and(|layers| !layers.is_empty()) {
        return Err(ApiError::invalid_parameter(
            "Please don't provide Handler or Runtime or Layer when the intent is to create function with container image.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str, value: &str) -> Environment {
        Environment { variables: BTreeMap::from([(name.to_owned(), value.to_owned())]) }
    }

    #[test]
    fn names_and_roles() {
        assert!(name("a").is_ok() && name(&"x".repeat(64)).is_ok() && name("A-b_9").is_ok());
        for bad in ["", "a b", "a.b", "ä", &"x".repeat(65)] {
            assert_eq!(name(bad).unwrap_err().code, "ValidationException", "{bad}");
        }
        assert!(role("arn:aws:iam::000000000000:role/r").is_ok());
        for bad in
            ["", "r", "arn:aws:iam::0:role/r", "arn:aws:iam::000000000000:user/r", "arn:aws:s3::000000000000:role/r"]
        {
            assert!(role(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(memory(128, 10_240), Ok(128));
        assert_eq!(memory(10_240, 10_240), Ok(10_240));
        assert_eq!(memory(127, 10_240).unwrap_err().code, "ValidationException");
        assert_eq!(memory(10_241, 10_240).unwrap_err().code, "ValidationException");
        assert_eq!(memory(4_000, 3_008).unwrap_err().code, "InvalidParameterValueException");
        assert!(timeout(900).is_ok() && timeout(1).is_ok());
        for bad in [0, -1, 901, i64::MAX] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
        assert!(ephemeral_storage(&EphemeralStorage { size: 511 }).is_err());
    }

    #[test]
    fn variables_of_a_function() {
        assert!(environment(&variables("PATH", "/bin")).is_ok());
        for bad in ["A", "_A", "1A", "A.B", "A-B", ""] {
            assert_eq!(environment(&variables(bad, "")).unwrap_err().code, "ValidationException", "{bad}");
        }
        let reserved = environment(&variables("AWS_REGION", "x")).unwrap_err();
        assert_eq!(reserved.code, "InvalidParameterValueException");
        assert!(reserved.message.contains("AWS_REGION"));
        assert!(environment(&variables("AB", &"x".repeat(4_096 - 9))).is_ok());
        assert!(environment(&variables("AB", &"x".repeat(4_096 - 8))).unwrap_err().message.contains("4KB"));
    }

    #[test]
    fn tags_of_a_function() {
        let tag = |key: &str, value: &str| tags(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert!(tag("sockerless:id", "a b_.:/=+-@1").is_ok());
        assert!(tag("", "x").is_err() && tag("k", "a,b").is_err() && tag("aws:x", "").is_err());
        assert!(tag(&"k".repeat(129), "").is_err() && tag("k", &"v".repeat(257)).is_err());
        let many = |n: usize| (0..n).map(|i| (i.to_string(), String::new())).collect();
        assert!(tags(&many(50)).is_ok() && tags(&many(51)).is_err());
    }

    #[test]
    fn images_networks_and_logs() {
        let command = |n| ImageConfig { command: Some(vec!["x".to_owned(); n]), ..ImageConfig::default() };
        assert!(image_config(&command(1_500)).is_ok() && image_config(&command(1_501)).is_err());
        let long = ImageConfig { command: Some(vec!["x".repeat(17_000)]), ..ImageConfig::default() };
        assert!(image_config(&long).is_err());
        let network = |subnets, groups| VpcConfig {
            subnet_ids: vec!["s".to_owned(); subnets],
            security_group_ids: vec!["g".to_owned(); groups],
        };
        assert!(vpc(&network(16, 5)).is_ok() && vpc(&network(17, 5)).is_err() && vpc(&network(1, 0)).is_err());
        let group =
            |name: &str| logging(&LoggingConfig { log_group: Some(name.to_owned()), ..LoggingConfig::default() });
        assert!(group("/a/b").is_ok() && group("aws/x").is_err() && group("a b").is_err());
        assert!(architectures(&["arm64".to_owned()]).is_ok() && architectures(&[]).is_err());
    }
}
