//! The environment: Docker's rules for all, Lambda's for functions that get it as their own. PURE.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::super::limits;
use super::bad;

/// Names that Lambda keeps for itself.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_MAX_CONCURRENCY",
    "AWS_LAMBDA_METADATA_API",
    "AWS_LAMBDA_METADATA_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

/// The variables. An entry without `=` means "not this one", as in Docker: it is dropped.
pub(super) fn read(given: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let entries = given.get("Env").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let entries: Vec<&str> = entries.iter().filter_map(Value::as_str).collect();
    if let Some(nameless) = entries.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(bad(format!("invalid environment variable: {nameless}")));
    }
    Ok(entries.into_iter().filter(|entry| entry.contains('=')).map(str::to_owned).collect())
}

/// Whether Lambda takes the variables as a function's own environment.
pub(super) fn check_native(env: &[String]) -> Result<(), ApiError> {
    let variables: BTreeMap<&str, &str> = env.iter().filter_map(|entry| entry.split_once('=')).collect();
    for name in variables.keys() {
        if RESERVED.contains(name) {
            return Err(bad(format!("Env: {name} is reserved by Lambda")));
        }
        if !is_possible(name) {
            return Err(bad(format!(
                "Env: {name} is no name that Lambda takes: a letter, then letters, digits and _, two characters at least"
            )));
        }
    }
    let size = serde_json::to_vec(&variables).map_or(usize::MAX, |json| json.len());
    if size > limits::MAX_FUNCTION_ENV_BYTES {
        return Err(bad(format!(
            "Env: {size} bytes are more than the {} that Lambda gives to a function's environment",
            limits::MAX_FUNCTION_ENV_BYTES
        )));
    }
    Ok(())
}

fn is_possible(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
