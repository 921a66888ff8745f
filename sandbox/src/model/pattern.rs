//! CloudWatch Logs' filter patterns, as far as they are understood here: terms and simple JSON selectors.
//!
//! | pattern | matches a message that |
//! |---|---|
//! | nothing | is any |
//! | `a "b c"` | holds all of them |
//! | `a -b` | holds the one and not the other |
//! | `?a ?"b c"` | holds any of them; ignored beside terms without `?`, as in AWS |
//! | `%^a\s[0-9]+|b%` | fits the regular expression |
//! | `{ $.a.b = "x" }` | is JSON whose member has the value; `!=`, `*` at either end, `&&`, `\|\|` |
//!
//! A regular expression stands alone, in the characters and operators that AWS documents ("Supported regular expressions
//! (regex) syntax"): no parentheses, no spaces, no multibyte characters. Expressions inside of other patterns and the
//! patterns for space-delimited fields are refused.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

/// Characters of a pattern, at most (`FilterPattern` in AWS's model).
const MAX_PATTERN: usize = 1_024;
/// Bytes of a compiled expression, at most.
const MAX_COMPILED_BYTES: usize = 1_024 * 1_024;
/// Compiled expressions that are kept.
const MAX_RECENT: usize = 8;
/// Characters beside letters and digits that may stand in an expression as themselves.
const SYMBOLS: &str = ":_#=@/;,-";
/// The operators.
const OPERATORS: &str = "^$?[]{}|\\*+.";
/// Letters that mean something behind a backslash.
const CLASSES: &str = "dDsSwWx";

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Terms(Terms),
    Regex(Regex),
    /// Alternatives of which each asks for all of its comparisons.
    Json(Vec<Vec<Comparison>>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Terms {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comparison {
    path: Vec<String>,
    equal: bool,
    value: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    /// With `*` at its ends.
    Text(String),
    Number(f64),
}

impl Pattern {
    /// Reads a pattern; the error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('{') {
            let inner = inner.strip_suffix('}').ok_or_else(|| refused("a closing brace is missing"))?;
            return json(inner).map(Self::Json);
        }
        if text.chars().count() > MAX_PATTERN {
            return Err(refused("it has more than 1024 characters"));
        }
        if let Some(inner) = text.strip_prefix('%') {
            let inner = inner.strip_suffix('%').ok_or_else(|| refused("a closing % is missing"))?;
            return expression(inner).map(Self::Regex);
        }
        if text.starts_with('[') {
            return Err(refused("only terms, expressions and JSON selectors are understood here"));
        }
        terms(text).map(Self::Terms)
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        match self {
            Self::Terms(terms) => terms.match_text(message),
            Self::Regex(regex) => regex.is_match(message.as_bytes()),
            Self::Json(alternatives) => serde_json::from_str::<Value>(message).is_ok_and(|message| {
                alternatives.iter().any(|all| all.iter().all(|comparison| comparison.holds(&message)))
            }),
        }
    }
}

fn refused(why: &str) -> String {
    format!("Invalid filter pattern: {why}")
}

fn expression(text: &str) -> Result<Regex, String> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next() } else { None };
        let fits = match (character, escaped) {
            ('\\', Some(escaped)) if escaped.is_ascii_alphanumeric() => CLASSES.contains(escaped),
            ('\\', escaped) => escaped.is_some_and(|escaped| escaped.is_ascii_punctuation()),
            (other, _) => other.is_ascii_alphanumeric() || SYMBOLS.contains(other) || OPERATORS.contains(other),
        };
        if !fits {
            return Err(refused("the expression has a character that is not supported"));
        }
    }
    if text.is_empty() {
        return Err(refused("the expression is empty"));
    }
    compiled(text).map_err(|_| refused("the expression cannot be understood"))
}

/// Compiles an expression, or finds it among the last ones: the same few come with every poll.
fn compiled(text: &str) -> Result<Regex, regex::Error> {
    static RECENT: Mutex<VecDeque<(String, Regex)>> = Mutex::new(VecDeque::new());
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, regex)) = recent.iter().find(|(known, _)| known == text) {
        return Ok(regex.clone());
    }
    // `\d`, `\s` and `\w` are ASCII as AWS documents them.
    let regex = RegexBuilder::new(text).unicode(false).size_limit(MAX_COMPILED_BYTES).build()?;
    recent.truncate(MAX_RECENT - 1);
    recent.push_front((text.to_owned(), regex.clone()));
    Ok(regex)
}

impl Terms {
    fn match_text(&self, message: &str) -> bool {
        let holds = |term: &String| message.contains(term.as_str());
        let optional = !self.all.is_empty() || self.any.is_empty() || self.any.iter().any(holds);
        optional && self.all.iter().all(holds) && !self.none.iter().any(holds)
    }
}

fn terms(text: &str) -> Result<Terms, String> {
    let mut terms = Terms::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (list, after) = match (rest.strip_prefix('?'), rest.strip_prefix('-')) {
            (Some(after), _) => (&mut terms.any, after),
            (_, Some(after)) => (&mut terms.none, after),
            _ => (&mut terms.all, rest),
        };
        let (term, after) = term(after)?;
        list.push(term);
        rest = after.trim_start();
    }
    Ok(terms)
}

/// The first term and what comes after it.
fn term(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        return phrase(quoted);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(refused("a term with other characters than letters, digits and underscores needs quotes"));
    }
    Ok((word.to_owned(), rest))
}

/// A phrase up to its closing quote, and what comes after it. `\"` stands for a quote.
fn phrase(text: &str) -> Result<(String, &str), String> {
    let mut phrase = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((phrase, text.get(at + 1..).unwrap_or_default())),
            '\\' => phrase.extend(characters.next().map(|(_, escaped)| escaped)),
            other => phrase.push(other),
        }
    }
    Err(refused("a closing quote is missing"))
}

fn json(text: &str) -> Result<Vec<Vec<Comparison>>, String> {
    let mut alternatives = vec![Vec::new()];
    let mut rest = text.trim();
    loop {
        let (comparison, after) = comparison(rest)?;
        if let Some(all) = alternatives.last_mut() {
            all.push(comparison);
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Ok(alternatives);
        }
        rest = if let Some(next) = after.strip_prefix("||") {
            alternatives.push(Vec::new());
            next.trim_start()
        } else {
            after.strip_prefix("&&").ok_or_else(|| refused("&& or || is missing"))?.trim_start()
        };
    }
}

fn comparison(text: &str) -> Result<(Comparison, &str), String> {
    let (path, rest) = text.split_at(text.find(['=', '!']).ok_or_else(|| refused("= or != is missing"))?);
    let members = path.trim().strip_prefix("$.").ok_or_else(|| refused("a selector begins with $."))?;
    let path: Vec<_> = members.split('.').map(str::to_owned).collect();
    let (equal, rest) = match rest.strip_prefix("!=") {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix('=').ok_or_else(|| refused("= or != is missing"))?),
    };
    let rest = rest.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let (text, rest) = phrase(quoted)?;
        return Ok((Comparison { path, equal, value: Wanted::Text(text) }, rest));
    }
    let end = rest.find([' ', '&', '|']).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    if word.is_empty() {
        return Err(refused("a value is missing"));
    }
    let value = word.parse().map_or_else(|_| Wanted::Text(word.to_owned()), Wanted::Number);
    Ok((Comparison { path, equal, value }, rest))
}

impl Comparison {
    fn holds(&self, message: &Value) -> bool {
        let member = self.path.iter().try_fold(message, |value, name| value.get(name));
        let Some(member) = member else { return false };
        let same = match (&self.value, member) {
            (Wanted::Text(wanted), Value::String(text)) => fits(wanted, text),
            (Wanted::Number(wanted), Value::Number(number)) => number.as_f64() == Some(*wanted),
            (Wanted::Text(wanted), Value::Bool(value)) => *wanted == value.to_string(),
            _ => return false,
        };
        same == self.equal
    }
}

/// Whether a text is as wanted; `*` at an end stands for anything.
fn fits(wanted: &str, text: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or_default()),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matches() {
        let report = "REPORT RequestId: 1\tDuration: 2.00 ms\t\n";
        let json = r#"{"type":"platform.report","record":{"status":"error","metrics":{"durationMs":5}}}"#;
        for (pattern, message, expected) in [
            ("", "anything", true),
            ("REPORT", report, true),
            ("report", report, false),
            (r#""REPORT RequestId:""#, report, true),
            (r#""START RequestId""#, report, false),
            (r#"?"START RequestId" ?"REPORT RequestId""#, report, true),
            (r#"?"START RequestId" ?"END""#, report, false),
            (r#"?"@sockerless:" ?"x\"y""#, "x\"y", true),
            ("REPORT Duration", report, true),
            ("REPORT Missing", report, false),
            ("REPORT -Duration", report, false),
            ("REPORT ?nothing", report, true),
            (r#"{ $.type = "platform.report" }"#, json, true),
            (r#"{ $.type = "platform.start" }"#, json, false),
            (r#"{ $.type = "platform.*" }"#, json, true),
            (r#"{ $.record.status != "success" }"#, json, true),
            (r#"{ $.missing != "x" }"#, json, false),
            (r#"{ $.record.metrics.durationMs = 5 }"#, json, true),
            (r#"{ $.type = "x" || $.type = "platform.report" && $.record.status = "error" }"#, json, true),
            (r#"{ $.type = "platform.report" }"#, report, false),
            (r"%^REPORT\sRequestId:\s%", report, true),
            (r"%^RequestId:\s%", report, false),
            (r"%RequestId:\s\d+%", report, true),
            (r"%^END|^REPORT\s%", report, true),
            (r"%^END|\sREPORT%", report, false),
            (r"%gra|ey%", "grey", true),
            (r"%^a{3,5}$%", "aa", false),
            (r"%\[%", "a[b", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(message), expected, "{pattern} on {message}");
        }
    }

    #[test]
    fn what_is_refused() {
        for pattern in [
            "[a, b]",
            "%re",
            "%%",
            "%with space%",
            "%(sub)%",
            "%caf\u{e9}%",
            "%a!%",
            r"%\b%",
            r"%a\%",
            "%[a%",
            &"a".repeat(1_025),
            "a:b",
            "\"open",
            "?",
            "{ $.a = ",
            "{ a = 1 }",
            "{ $.a }",
            "{ $.a = 1 $.b = 2 }",
            "{ $.a = }",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
