//! The schemas: those of `schemas.yaml`, and those of Docker's settings, whose fields `shape` knows. PURE.

use serde_json::{Map, Value, json};

use crate::api::shape::{CONFIG, Field, HOST_CONFIG, Kind};

const SCHEMAS: &str = include_str!("schemas.yaml");

/// A reference to a schema.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// All schemas by name.
pub(super) fn schemas() -> Result<Map<String, Value>, serde_saphyr::Error> {
    let mut all: Map<String, Value> = serde_saphyr::from_str(SCHEMAS)?;
    let mut create = wanted(CONFIG, "What a container is to run. Unknown fields are ignored.");
    create["required"] = json!(["Image"]);
    create["properties"]["Image"] = json!({ "type": "string" });
    create["properties"]["HostConfig"] = nullable(reference("HostConfigWanted"));
    create["properties"]["NetworkingConfig"] = nullable(reference("NetworkingConfig"));
    create["properties"]["Platform"] = json!({ "type": ["string", "null"] });
    all.insert("ContainerCreate".to_owned(), create);
    all.insert("HostConfigWanted".to_owned(), wanted(HOST_CONFIG, "How it is to run."));
    all.insert("ContainerConfig".to_owned(), shown(CONFIG, "What the container runs."));
    all.insert("HostConfig".to_owned(), shown(HOST_CONFIG, "How it runs."));
    Ok(all)
}

fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Settings in a request: each may be left out or `null`.
fn wanted(fields: &[Field], description: &str) -> Value {
    let properties = fields.iter().map(|field| (field.name.to_owned(), nullable(refined(field, true))));
    let properties: Map<String, Value> = properties.collect();
    json!({ "description": description, "type": "object", "properties": properties })
}

/// Settings in an answer: those with a default are always there.
fn shown(fields: &[Field], description: &str) -> Value {
    let schema = |field: &Field| match field.default {
        Some("null") => nullable(refined(field, false)),
        _ => refined(field, false),
    };
    let properties: Map<String, Value> = fields.iter().map(|field| (field.name.to_owned(), schema(field))).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.default.is_some()).map(|field| field.name).collect();
    json!({ "description": description, "type": "object", "required": required, "properties": properties })
}

/// The schema of a field: of its kind, or closer where the code looks closer.
fn refined(field: &Field, in_request: bool) -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    match field.name {
        "Labels" if in_request => json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } }),
        "Labels" => texts,
        "RestartPolicy" => json!({ "type": "object", "properties": {
            "Name": { "type": "string", "enum": ["", "no", "on-failure", "always", "unless-stopped"] },
            "MaximumRetryCount": { "type": "integer" },
        } }),
        "LogConfig" => {
            json!({ "type": "object", "properties": { "Type": { "type": "string" }, "Config": { "type": ["object", "null"] } } })
        }
        "Cmd" | "Entrypoint" if !in_request => json!({ "type": "array", "items": { "type": "string" } }),
        _ => of_kind(field.kind),
    }
}

fn of_kind(kind: Kind) -> Value {
    let words = json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Int => json!({ "type": "integer", "format": "int64" }),
        Kind::Words => words,
        Kind::WordOrWords => json!({ "anyOf": [{ "type": "string" }, words] }),
        Kind::List => json!({ "type": "array", "items": {} }),
        Kind::Map => json!({ "type": "object" }),
    }
}
