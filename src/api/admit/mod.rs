//! Admission: may this container be created, and with which settings? PURE.
//!
//! What Lambda cannot do is refused with a sentence that names the field; what is harmless becomes a warning, which
//! the docker CLI prints.

mod environment;
mod function;
mod host;
mod image;
mod recorded;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sockerless_bootstrap::protocol::{Envelope, Order, VERSION};

pub(super) use function::architecture_of;

use super::error::ApiError;
use super::limits;
use super::reference::Reference;
use super::shape;
use crate::config::Config;
use crate::state::model::{ContainerConfig, FunctionSettings, InvocationKind, Protocol};

/// Characters of a run's token.
const TOKEN_CHARS: usize = 32;

/// A container that may be created.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What is recorded.
    pub(super) config: ContainerConfig,
    /// What the client should know.
    pub(super) warnings: Vec<String>,
}

/// The label that is data for the program, and is limited as such.
const PAYLOAD_LABEL: &str = "sockerless.lambda.payload";

/// Judges the body of a create request. `platform` is the query parameter of that name.
pub(super) fn admit(body: &Value, platform: Option<&str>, config: &Config) -> Result<Admitted, ApiError> {
    let body = body.as_object().ok_or_else(|| bad("invalid JSON: a map is needed"))?;
    let invalid = |reason| bad(format!("invalid JSON: {reason}"));
    shape::check(shape::CONFIG, body, "").map_err(invalid)?;
    let host = section(body, "HostConfig").map_err(invalid)?;
    shape::check(shape::HOST_CONFIG, &host, "HostConfig.").map_err(invalid)?;
    let networking = section(body, "NetworkingConfig").map_err(invalid)?;
    let given = shape::known(shape::CONFIG, body);
    if given.is_empty() {
        return Err(bad("config cannot be empty in order to create a container"));
    }
    let labels = labels(&given)?;
    let image = text(&given, "Image").ok_or_else(|| bad("Image: the name of an image is needed"))?.to_owned();
    let reference = Reference::parse(&image).map_err(bad)?.with_default_tag();
    let image_uri = image::uri(&reference, config)?;

    let mut warnings = Vec::new();
    host::refuse_what_cannot_be(&given, &host, &networking)?;
    host::warn_of_what_is_ignored(&given, &host, &mut warnings);
    let restart = host::restart_policy(&host, &mut warnings)?;
    let function = function::settings(&host, &labels, platform, config)?;
    let env = environment::read(&given)?;
    let working_dir = working_dir(&given)?;
    let (entrypoint, cmd, tty) = (entrypoint(&given)?, cmd(&given), flag(&given, "Tty"));
    let (shown, shown_host) = (shown_config(given), shape::known(shape::HOST_CONFIG, &host));
    recorded::check(&shown, &shown_host)?;
    let admitted = ContainerConfig {
        image,
        image_reference: reference.canonical(),
        image_uri,
        entrypoint,
        cmd,
        env,
        working_dir,
        labels,
        tty,
        auto_remove: flag(&host, "AutoRemove"),
        restart,
        function,
        docker_config: Value::Object(shown),
        docker_host_config: Value::Object(shown_host),
    };
    check_sizes(&admitted)?;
    Ok(Admitted { config: admitted, warnings })
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::BadRequest(message.into())
}

fn section(body: &Map<String, Value>, name: &str) -> Result<Map<String, Value>, String> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(_) => Err(format!("{name}: a map is needed")),
    }
}

/// A text that is not empty.
fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn flag(map: &Map<String, Value>, name: &str) -> bool {
    map.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A list of strings; one string is a list of one.
fn words(map: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
    match map.get(name)? {
        Value::String(word) => Some(vec![word.clone()]),
        Value::Array(list) => Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    }
}

/// `[""]` takes the image's entrypoint away, and with it the image's command; an empty list leaves both.
fn entrypoint(given: &Map<String, Value>) -> Result<Option<Vec<String>>, ApiError> {
    let Some(words) = words(given, "Entrypoint").filter(|words| !words.is_empty()) else { return Ok(None) };
    if words != [""] {
        return Ok(Some(words));
    }
    if cmd(given).is_none() {
        return Err(bad("no command specified"));
    }
    Ok(Some(Vec::new()))
}

fn cmd(given: &Map<String, Value>) -> Option<Vec<String>> {
    words(given, "Cmd").filter(|cmd| !cmd.is_empty())
}

fn working_dir(given: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    let Some(path) = text(given, "WorkingDir") else { return Ok(None) };
    if !path.starts_with('/') {
        return Err(bad(format!("the working directory '{path}' is invalid, it needs to be an absolute path")));
    }
    Ok(Some(path.to_owned()))
}

fn labels(given: &Map<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let Some(Value::Object(map)) = given.get("Labels") else { return Ok(BTreeMap::new()) };
    let label = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Null => Ok((key.clone(), String::new())),
        _ => Err(bad(format!("invalid JSON: Labels.{key}: a string is needed"))),
    };
    let labels = map.iter().map(label).collect::<Result<BTreeMap<_, _>, _>>()?;
    recorded::check_labels(&labels)?;
    let counted = labels.iter().filter(|(key, _)| *key != PAYLOAD_LABEL);
    let bytes: usize = counted.map(|(key, value)| key.len() + value.len()).sum();
    if bytes > limits::MAX_LABEL_BYTES {
        return Err(bad(format!("Labels: {bytes} bytes are more than the {} that are kept", limits::MAX_LABEL_BYTES)));
    }
    Ok(labels)
}

/// What `inspect` cannot take from the other fields of [`ContainerConfig`].
fn shown_config(mut given: Map<String, Value>) -> Map<String, Value> {
    for elsewhere in ["Image", "Entrypoint", "Cmd", "Env", "WorkingDir", "Labels", "Tty"] {
        given.remove(elsewhere);
    }
    given
}

/// What will be sent to Lambda must fit, so that nothing that was accepted is refused later.
fn check_sizes(config: &ContainerConfig) -> Result<(), ApiError> {
    let command: Vec<String> = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect();
    let named = [
        ("Cmd and Entrypoint", command.as_slice()),
        ("Env", config.env.as_slice()),
        ("WorkingDir", config.working_dir.as_slice()),
    ];
    if let Some((field, _)) = named.iter().find(|(_, words)| words.iter().any(|word| word.contains('\0'))) {
        return Err(bad(format!("{field}: a zero byte cannot be given to a program")));
    }
    match config.function.protocol {
        Protocol::Native => {
            environment::check_native(&config.env)?;
            function::check_native_image_config(config)?;
            let payload = config.function.payload.as_ref().map_or(0, String::len);
            check_payload(payload, "the label sockerless.lambda.payload", &config.function)
        }
        Protocol::Bootstrap => {
            let order = Order {
                version: VERSION,
                token: "0".repeat(TOKEN_CHARS),
                command,
                after_entrypoint: config.entrypoint.is_none(),
                env: config.env.clone(),
                working_dir: config.working_dir.clone(),
                tty: config.tty,
                payload: config.function.payload.clone(),
            };
            let size = serde_json::to_vec(&Envelope { sockerless: order }).map_or(usize::MAX, |json| json.len());
            check_payload(size, "Cmd, Env and payload together", &config.function)
        }
    }
}

fn check_payload(size: usize, what: &str, function: &FunctionSettings) -> Result<(), ApiError> {
    let (limit, kind) = match function.invocation {
        InvocationKind::RequestResponse => (limits::MAX_SYNC_PAYLOAD_BYTES, "RequestResponse"),
        InvocationKind::Event => (limits::MAX_EVENT_PAYLOAD_BYTES, "Event"),
    };
    if size > limit {
        return Err(bad(format!(
            "{what}: {size} bytes are more than the {limit} that an invocation of type {kind} takes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
