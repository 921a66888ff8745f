//! IAM's evaluation, as far as our documents use it (IAM User Guide, "Policy evaluation logic" and "IAM JSON policy
//! elements"). What it does not know fails the test, so that nothing in a document goes unread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::support::ROLE;

/// One question to IAM: may the caller do this, to this?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) action: String,
    pub(crate) resource: String,
    /// Condition keys with their values.
    pub(crate) context: BTreeMap<String, Vec<String>>,
}

impl Need {
    pub(crate) fn new(action: &str, resource: &str) -> Self {
        Self { action: action.to_owned(), resource: resource.to_owned(), context: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, key: &str, values: &[&str]) -> Self {
        self.context.insert(key.to_owned(), values.iter().map(|value| (*value).to_owned()).collect());
        self
    }
}

/// A policy document, for the account of the tests.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: String,
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Statement {
    sid: String,
    allows: bool,
    principal: Option<String>,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    operator: String,
    key: String,
    values: Vec<String>,
}

pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/iam")
}

/// The names of all documents.
pub(crate) fn names() -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let documents = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    documents.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

impl Policy {
    /// The document with the account's own names in the place of the examples, as its reader would fill them in.
    pub(crate) fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
        let role = ROLE.rsplit('/').next().unwrap();
        let text = text
            .replace("eu-west-1", "us-east-1")
            .replace("123456789012", "000000000000")
            .replace("sockerless-execution", role);
        let document: Value = serde_json::from_str(&text).unwrap();
        only_keys(&document, &["Version", "Statement"]);
        assert_eq!(document["Version"], "2012-10-17", "{name}");
        let statements = document["Statement"].as_array().unwrap().iter().map(Statement::read).collect();
        Self { name: name.to_owned(), statements }
    }

    /// Each action that a statement allows, with the statement's name.
    pub(crate) fn grants(&self) -> Vec<(String, String)> {
        let allowing = self.statements.iter().filter(|statement| statement.allows);
        allowing
            .flat_map(|statement| statement.actions.iter().map(|action| (statement.sid.clone(), action.clone())))
            .collect()
    }

    /// The services that may use the role, or the repository.
    pub(crate) fn principals(&self) -> Vec<&str> {
        self.statements.iter().filter_map(|statement| statement.principal.as_deref()).collect()
    }

    /// The grants that allow this need.
    pub(crate) fn used_by(&self, need: &Need) -> Vec<(String, String)> {
        let matching = self.statements.iter().filter(|statement| statement.allows && statement.matches(need));
        matching.map(|statement| (statement.sid.clone(), need.action.clone())).collect()
    }
}

/// Whether policies together allow this: some statement does, and none denies it.
pub(crate) fn allow(policies: &[Policy], need: &Need) -> bool {
    let matching = || policies.iter().flat_map(|policy| &policy.statements).filter(|statement| statement.matches(need));
    matching().any(|statement| statement.allows) && matching().all(|statement| statement.allows)
}

impl Statement {
    fn read(statement: &Value) -> Self {
        only_keys(statement, &["Sid", "Effect", "Principal", "Action", "Resource", "Condition"]);
        let principal = statement.get("Principal").map(|principal| {
            only_keys(principal, &["Service"]);
            principal["Service"].as_str().unwrap().to_owned()
        });
        let resources = match &principal {
            Some(_) => vec!["*".to_owned()],
            None => strings(&statement["Resource"]),
        };
        let conditions =
            statement.get("Condition").into_iter().flat_map(|by_operator| by_operator.as_object().unwrap());
        let conditions = conditions.flat_map(|(operator, keys)| {
            keys.as_object().unwrap().iter().map(|(key, values)| Condition {
                operator: operator.clone(),
                key: key.clone(),
                values: strings(values),
            })
        });
        Self {
            sid: statement["Sid"].as_str().unwrap().to_owned(),
            allows: match statement["Effect"].as_str().unwrap() {
                "Allow" => true,
                "Deny" => false,
                other => panic!("{other}"),
            },
            principal,
            actions: strings(&statement["Action"]),
            resources,
            conditions: conditions.collect(),
        }
    }

    fn matches(&self, need: &Need) -> bool {
        self.actions.contains(&need.action)
            && self.resources.iter().any(|pattern| like(pattern, &need.resource))
            && self.conditions.iter().all(|condition| condition.holds(need))
    }
}

impl Condition {
    fn holds(&self, need: &Need) -> bool {
        let given = need.context.get(&self.key);
        match self.operator.as_str() {
            "StringEquals" => given.is_some_and(|given| given.len() == 1 && self.values.contains(&given[0])),
            "StringLike" => given
                .is_some_and(|given| given.len() == 1 && self.values.iter().any(|pattern| like(pattern, &given[0]))),
            // Also true when the key is not there.
            "ForAllValues:StringEquals" => {
                given.is_none_or(|given| given.iter().all(|value| self.values.contains(value)))
            }
            "Null" => (self.values == ["true"]) == given.is_none(),
            other => panic!("the operator {other} is not known here"),
        }
    }
}

fn only_keys(value: &Value, allowed: &[&str]) {
    for key in value.as_object().unwrap().keys() {
        assert!(allowed.contains(&key.as_str()), "{key} is not known here: {value}");
    }
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        other => panic!("neither a string nor a list: {other}"),
    }
}

/// `*` is anything, `?` any one character.
fn like(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            like(&pattern[1..], text) || text.chars().next().is_some_and(|c| like(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) => like(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => like(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

#[test]
fn wildcards() {
    for (pattern, text, expected) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a?c", "ac", false),
        ("*", "", true),
        ("a:*/*", "a:b/c/d", true),
        ("a:*/*/*", "a:b/c", false),
        ("abc", "abcd", false),
    ] {
        assert_eq!(like(pattern, text), expected, "{pattern} {text}");
    }
}
