//! Shows the configuration: `--print-config`, and the table of the documentation.

use std::fmt::Write as _;

use figment::value::{Num, Value};

use super::Effective;
use super::keys::{ENDPOINT_URL, KEYS, Setting as _};

/// The values in force as YAML, each with its source as a comment.
#[must_use]
pub fn effective_yaml(effective: &[Effective]) -> String {
    let mut text = String::from("lambda:\n");
    for Effective { key, value, source } in effective {
        let space = if value.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key}:{space}{value} # {source}");
    }
    text
}

/// The table of all keys, as the documentation shows it.
#[must_use]
pub fn markdown_table() -> String {
    let mut text = String::from("| key, flag, variable | default | meaning | allowed |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = match key.default_text() {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(
            text,
            "| `{}` `--{}` `{}` | {default} | {} | {} |",
            key.name(),
            key.flag(),
            key.variable(),
            cell(key.meaning()),
            cell(&key.allowed())
        );
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The value as YAML on one line, without the user and password of a URL.
pub(super) fn yaml(key: &str, value: &Value) -> String {
    match value {
        Value::String(_, url) if key == ENDPOINT_URL.name() => text(&without_userinfo(url)),
        Value::Array(_, items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            format!("[{}]", items.join(", "))
        }
        other => scalar(other),
    }
}

pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(_, string) => text(string),
        Value::Char(_, char) => text(&char.to_string()),
        Value::Bool(_, bool) => bool.to_string(),
        Value::Num(_, number) => numeral(*number),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => String::new(),
    }
}

fn numeral(number: Num) -> String {
    match (number.to_i128(), number.to_u128(), number.to_f64()) {
        (Some(whole), ..) => whole.to_string(),
        (None, Some(whole), _) => whole.to_string(),
        (None, None, Some(float)) => float.to_string(),
        (None, None, None) => String::new(),
    }
}

/// Plain where YAML reads it as this text, else in JSON's quotes, which YAML reads as well.
fn text(text: &str) -> String {
    let begins_like_text = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@+".contains(c)) && !text.ends_with(':');
    let is_word =
        ["true", "false", "null", "yes", "no", "on", "off"].iter().any(|word| word.eq_ignore_ascii_case(text));
    if begins_like_text && is_plain && !is_word { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
