//! The document, joined from its sources. PURE.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::schemas::{reference, schemas};
use crate::api::limits;
use crate::api::routes::{Action, ROUTES, Route, Spelling};
use crate::api::stream;
use crate::api::unsupported::Refusal;

const OPERATIONS: &str = include_str!("operations.yaml");
/// The methods of a route that has any.
const ANY: [&str; 6] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];
/// What every route of a handler may answer besides its own: a request that cannot be understood; one of another site; a
/// body that is too slow or too large; a fault of ours; the daemon is being stopped.
const ALWAYS: [u16; 6] = [400, 403, 408, 413, 500, 503];
/// What a call that is always refused may answer besides.
const REFUSED: [u16; 2] = [400, 403];

/// What holds for the whole interface.
const DESCRIPTION: &str = "One API in two spellings: `/internal/v1/…`, whose promises are kept to the letter, and Docker's own, \
    with or without a version before the path. This document describes Docker's spelling as it is with `docker_api: \
    compatible`; with `strict` it answers as the internal one. Query booleans: empty, 0, no, false and none are false, all \
    else is true. Unknown query parameters and unknown fields are ignored.";

/// The sources do not fit together, which a test rules out.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    /// A source is no YAML, or not of the form that is expected.
    #[error("a source cannot be read: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// A route that nothing describes.
    #[error("nothing describes the route {0}")]
    NotDescribed(String),
    /// A description without a route.
    #[error("there is no route for {0:?}")]
    NoRoute(Vec<String>),
    /// A parameter that is not explained.
    #[error("the parameter {0} is not explained")]
    NoParameter(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sources {
    parameters: BTreeMap<String, Map<String, Value>>,
    operations: BTreeMap<String, Operation>,
}

/// One entry of `operations.yaml`, which explains the fields.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    id: String,
    tag: String,
    summary: String,
    #[serde(default)]
    query: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    answers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    errors: Vec<u16>,
    internal: Option<Internal>,
}

/// What is different in the internal spelling.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Internal {
    route: Option<String>,
    answers: Option<BTreeMap<String, Option<String>>>,
    errors: Option<Vec<u16>>,
}

impl Operation {
    /// The same call in the internal spelling.
    fn internally(&self) -> Self {
        let mut changed = self.clone();
        changed.id = format!("internal{}", self.id);
        if let Some(internal) = changed.internal.take() {
            changed.answers = internal.answers.unwrap_or(changed.answers);
            changed.errors = internal.errors.unwrap_or(changed.errors);
        }
        changed
    }
}

/// The whole document.
pub(super) fn document() -> Result<Value, DocumentError> {
    document_of(OPERATIONS)
}

fn document_of(operations: &str) -> Result<Value, DocumentError> {
    let sources: Sources = serde_saphyr::from_str(operations)?;
    let paths = paths(&sources)?;
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sockerless on AWS Lambda",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": DESCRIPTION,
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas()? },
    }))
}

/// All paths with their operations.
fn paths(sources: &Sources) -> Result<BTreeMap<String, Map<String, Value>>, DocumentError> {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (route, spelling) in spelled_routes() {
        let path = spelled(spelling, route.template);
        let methods = route.method.as_ref().map_or_else(|| ANY.to_vec(), |method| vec![method.as_str()]);
        for method in methods {
            let described = match route.action {
                Action::Refuse(refusal) => refused(method, route.template, spelling, refusal),
                Action::Handle(_) => {
                    let key = format!("{method} {}", route.template);
                    let (name, operation) = find(sources, &key, spelling)?;
                    used.insert(name);
                    handled(sources, &operation, &path)?
                }
            };
            paths.entry(path.clone()).or_default().insert(method.to_ascii_lowercase(), described);
        }
        describe_path(paths.entry(path).or_default(), route.template, spelling);
    }
    let idle: Vec<String> = sources.operations.keys().filter(|name| !used.contains(*name)).cloned().collect();
    if idle.is_empty() { Ok(paths) } else { Err(DocumentError::NoRoute(idle)) }
}

/// Every line of the table in every spelling that it has.
fn spelled_routes() -> impl Iterator<Item = (&'static Route, Spelling)> {
    let both = [Spelling::Internal, Spelling::Docker];
    ROUTES
        .iter()
        .flat_map(move |route| both.map(|spelling| (route, spelling)))
        .filter(|(route, spelling)| route.has(*spelling))
}

/// The path as a client writes it. The rest of a path is one parameter: OpenAPI knows nothing that has slashes in it.
fn spelled(spelling: Spelling, template: &str) -> String {
    let template = template.replace("{*rest}", "{rest}");
    match spelling {
        Spelling::Internal => format!("/internal/v1{template}"),
        Spelling::Docker => template,
    }
}

fn find(sources: &Sources, key: &str, spelling: Spelling) -> Result<(String, Operation), DocumentError> {
    let is_meant = |(name, operation): &(&String, &Operation)| {
        let alias = operation.internal.as_ref().and_then(|internal| internal.route.as_deref());
        match spelling {
            Spelling::Internal => alias.unwrap_or(name.as_str()) == key,
            Spelling::Docker => name.as_str() == key,
        }
    };
    let found = sources.operations.iter().find(is_meant);
    let (name, operation) = found.ok_or_else(|| DocumentError::NotDescribed(key.to_owned()))?;
    let operation = match spelling {
        Spelling::Internal => operation.internally(),
        Spelling::Docker => operation.clone(),
    };
    Ok((name.clone(), operation))
}

/// What all methods of a path share.
fn describe_path(item: &mut Map<String, Value>, template: &str, spelling: Spelling) {
    let parameters: Vec<Value> = placeholders(template)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
        .collect();
    if !parameters.is_empty() {
        item.insert("parameters".to_owned(), json!(parameters));
    }
    if spelling == Spelling::Docker && !matches!(template, "/healthz" | "/readyz") {
        let versions: Vec<String> =
            (limits::OLDEST_API_MINOR..=limits::NEWEST_API_MINOR).map(|n| n.to_string()).collect();
        let minor = json!({ "default": limits::NEWEST_API_MINOR.to_string(), "enum": versions });
        let versioned = json!({ "url": "/v1.{minor}", "variables": { "minor": minor } });
        item.insert("servers".to_owned(), json!([{ "url": "/" }, versioned]));
    }
}

fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    let inside = template.split('{').skip(1).filter_map(|part| part.split('}').next());
    inside.map(|name| name.trim_start_matches('*'))
}

/// A call that is refused whatever it asks for.
fn refused(method: &str, template: &str, spelling: Spelling, refusal: Refusal) -> Value {
    let refusal = if spelling == Spelling::Internal { refusal.internally() } else { refusal };
    let error = refusal.error();
    let prefix = if spelling == Spelling::Internal { "internal" } else { "" };
    let words = template.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(capitalised);
    let id: String = [prefix.to_owned(), capitalised(&method.to_ascii_lowercase())].into_iter().chain(words).collect();
    let mut responses: Map<String, Value> =
        REFUSED.into_iter().map(|status| (status.to_string(), failure(meaning(status)))).collect();
    responses.insert(error.status().as_str().to_owned(), failure(&error.to_string()));
    json!({ "operationId": id, "tags": ["Refused"], "summary": error.to_string(), "responses": responses })
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// A call that a handler answers.
fn handled(sources: &Sources, operation: &Operation, path: &str) -> Result<Value, DocumentError> {
    let mut described = json!({ "operationId": operation.id, "tags": [operation.tag], "summary": operation.summary });
    let parameters: Vec<Value> =
        operation.query.iter().map(|name| parameter(sources, name)).collect::<Result<_, _>>()?;
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    let errors: BTreeSet<u16> = operation.errors.iter().copied().chain(ALWAYS).collect();
    if let Some(body) = &operation.body {
        let (name, required) = body.strip_suffix('?').map_or((body.as_str(), true), |name| (name, false));
        let content = json!({ "application/json": { "schema": reference(name) } });
        described["requestBody"] = json!({ "required": required, "content": content });
    }
    let mut responses: Map<String, Value> =
        errors.into_iter().map(|status| (status.to_string(), failure(meaning(status)))).collect();
    for (status, content) in &operation.answers {
        responses.insert(status.clone(), answer(status, content.as_deref(), path));
    }
    described["responses"] = Value::Object(responses);
    Ok(described)
}

fn parameter(sources: &Sources, text: &str) -> Result<Value, DocumentError> {
    let (key, required) = text.strip_suffix('!').map_or((text, false), |name| (name, true));
    let mut schema = sources.parameters.get(key).cloned().ok_or_else(|| DocumentError::NoParameter(key.to_owned()))?;
    let name = schema.remove("name").unwrap_or_else(|| json!(key));
    let description = schema.remove("description").unwrap_or_default();
    Ok(json!({ "name": name, "in": "query", "required": required, "description": description, "schema": schema }))
}

fn answer(status: &str, content: Option<&str>, path: &str) -> Value {
    let described = meaning(status.parse().unwrap_or_default());
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let list = content.and_then(|text| text.strip_prefix('[')?.strip_suffix(']'));
    let lines = content.and_then(|text| text.strip_prefix("lines "));
    let content = match (content, list, lines) {
        (None, _, _) => return json!({ "description": described }),
        (_, Some(name), _) => json_of(json!({ "type": "array", "items": reference(name) })),
        // OpenAPI 3.1 has no word for one JSON object a line.
        (_, _, Some(name)) => json!({ "application/json": { "x-line-schema": reference(name) } }),
        (Some("text"), _, _) => json!({ "text/plain; charset=utf-8": { "schema": { "type": "string" } } }),
        (Some("any"), _, _) => json_of(json!({})),
        (Some("output"), _, _) if path.ends_with("/attach") => json!({ stream::RAW: {}, stream::MULTIPLEXED: {} }),
        (Some("output"), _, _) => json!({ stream::MULTIPLEXED: {}, stream::RAW: {} }),
        (Some(name), _, _) => json_of(reference(name)),
    };
    json!({ "description": described, "content": content })
}

fn failure(description: &str) -> Value {
    let schema = json!({ "application/json": { "schema": reference("Error") } });
    json!({ "description": description, "content": schema })
}

fn meaning(status: u16) -> &'static str {
    match status {
        101 => "The connection is the client's: frames until the end of the output.",
        200 => "Done.",
        201 => "Made.",
        204 => "Recorded.",
        304 => "Nothing to change.",
        400 => "A header, a parameter, the JSON or a value that Lambda cannot take.",
        403 => "The host or the origin is foreign, or AWS denies the access.",
        404 => "There is none of that name.",
        408 => "The body did not arrive in time.",
        409 => "Something stands against it.",
        413 => "The body is too large.",
        429 => "AWS throttles.",
        500 => "A fault of the daemon, or no answer from AWS.",
        501 => "This backend cannot do it.",
        502 => "A fault of AWS.",
        503 => "The daemon is being stopped, or AWS cannot be reached.",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
