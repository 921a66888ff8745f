//! The OpenAPI document as a judge: every answer that the helpers of these tests get must be one that it describes, with no
//! key to spare.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

use regex::Regex;
use serde_json::Value;

use crate::support::Answer;

/// The document, made ready.
#[derive(Debug)]
pub(crate) struct Described {
    /// The pattern of each path, the most exact first, with what the path has.
    paths: Vec<(Regex, Value)>,
    schemas: Value,
    /// Operation and status of every answer that was judged.
    seen: Mutex<BTreeSet<(String, String)>>,
}

static DESCRIBED: OnceLock<Described> = OnceLock::new();

impl Described {
    /// The document that a daemon serves; it is the same for all.
    pub(crate) fn of(text: &[u8]) -> &'static Self {
        DESCRIBED.get_or_init(|| Self::new(&serde_json::from_slice(text).unwrap()))
    }

    /// The one that was read before.
    pub(crate) fn known() -> Option<&'static Self> {
        DESCRIBED.get()
    }

    fn new(document: &Value) -> Self {
        let mut paths: Vec<(&String, &Value)> = document["paths"].as_object().unwrap().iter().collect();
        paths.sort_by_key(|(path, _)| (path.matches('{').count(), Reverse(path.len())));
        let pattern = |path: &str| {
            let escaped = regex::escape(path).replace("\\{name\\}", ".+").replace("\\{rest\\}", ".+");
            Regex::new(&format!("^{}$", Regex::new(r"\\\{\w+\\\}").unwrap().replace_all(&escaped, "[^/]+"))).unwrap()
        };
        Self {
            paths: paths.into_iter().map(|(path, item)| (pattern(path), item.clone())).collect(),
            schemas: document["components"]["schemas"].clone(),
            seen: Mutex::default(),
        }
    }

    /// What the document says of a request; `None`: nothing.
    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap();
        let path = Regex::new(r"^/v1\.\d+/").unwrap().replace(path, "/");
        let method = method.to_ascii_lowercase();
        self.paths.iter().filter(|(pattern, _)| pattern.is_match(&path)).find_map(|(_, item)| item.get(&method))
    }

    /// Fails if the document does not describe the answer.
    pub(crate) fn judge(&self, method: &str, path: &str, answer: &Answer) {
        let asked = format!("{method} {path}: {}", answer.head.lines().next().unwrap());
        let Some(operation) = self.operation(method, path) else {
            assert!(matches!(answer.status, 400 | 404), "not described: {asked}");
            return;
        };
        // A version that is not spoken is refused before the path is looked at.
        if answer.status == 400 && answer.text().contains("Maximum supported")
            || answer.text().contains("Minimum supported")
        {
            return;
        }
        let status = answer.status.to_string();
        let response = operation["responses"].get(&status);
        let response = response.unwrap_or_else(|| panic!("a status that is not described: {asked}"));
        self.seen.lock().unwrap().insert((operation["operationId"].as_str().unwrap().to_owned(), status));
        if method == "HEAD" {
            return;
        }
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            assert_eq!(answer.text(), "", "no body is described: {asked}");
            return;
        };
        let kind = answer.header("content-type").unwrap_or_default();
        let content = content.get(kind).unwrap_or_else(|| panic!("{kind} is not described: {asked}"));
        if let Some(schema) = content.get("schema").filter(|_| kind == "application/json") {
            self.validate(schema, &answer.json(), &asked);
        }
        if let Some(schema) = content.get("x-line-schema") {
            for line in answer.text().lines() {
                self.validate(schema, &serde_json::from_str(line).unwrap(), &asked);
            }
        }
    }

    fn validate(&self, schema: &Value, value: &Value, asked: &str) {
        let mut wrong = Vec::new();
        self.compare(schema, value, "", &mut wrong);
        assert!(wrong.is_empty(), "{asked}\n{}\n{value}", wrong.join("\n"));
    }

    /// Holds a value against a schema: as JSON Schema says, but that no key may be there that is not described. Only the
    /// words that the document uses are known; any other one fails.
    fn compare(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        for (word, rule) in schema.as_object().unwrap() {
            match word.as_str() {
                "$ref" => {
                    let name = rule.as_str().unwrap().rsplit('/').next().unwrap();
                    self.compare(&self.schemas[name], value, at, wrong);
                }
                "type" => {
                    let allowed = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                    if !allowed.iter().any(|kind| is_of_type(kind.as_str().unwrap(), value)) {
                        wrong.push(format!("{at}: {value} is not of type {rule}"));
                    }
                }
                "enum" if !rule.as_array().unwrap().contains(value) => {
                    wrong.push(format!("{at}: {value} is none of {rule}"));
                }
                "anyOf" => {
                    let fits = |one: &Value| {
                        let mut inside = Vec::new();
                        self.compare(one, value, at, &mut inside);
                        inside.is_empty()
                    };
                    if !rule.as_array().unwrap().iter().any(fits) {
                        wrong.push(format!("{at}: {value} fits none of {rule}"));
                    }
                }
                "items" => {
                    let list = value.as_array().into_iter().flatten();
                    list.for_each(|item| self.compare(rule, item, &format!("{at}[]"), wrong));
                }
                "required" => {
                    let missing = |key: &&Value| value.is_object() && value.get(key.as_str().unwrap()).is_none();
                    wrong.extend(
                        rule.as_array().unwrap().iter().filter(missing).map(|key| format!("{at}: {key} is missing")),
                    );
                }
                "properties" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        match rule.get(key) {
                            Some(rule) => self.compare(rule, value, &format!("{at}.{key}"), wrong),
                            None => wrong.push(format!("{at}: {key} is not described")),
                        }
                    }
                }
                "additionalProperties" => {
                    let map = value.as_object().into_iter().flatten();
                    map.for_each(|(key, value)| self.compare(rule, value, &format!("{at}.{key}"), wrong));
                }
                "format" if rule == "date-time" => {
                    if value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err()) {
                        wrong.push(format!("{at}: {value} is no time"));
                    }
                }
                "enum" | "description" | "format" => {}
                unknown => panic!("{unknown}: a word that this test does not know"),
            }
        }
    }

    /// Whether such an answer was judged.
    pub(crate) fn has_seen(&self, operation: &str, status: &str) -> bool {
        self.seen.lock().unwrap().contains(&(operation.to_owned(), status.to_owned()))
    }
}

fn is_of_type(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("{unknown}: a type that this test does not know"),
    }
}
