//! What a key's value may be. PURE.
//!
//! A rule reads a value that some source gave, and says in words what it allows. The words stand in `--help`, in the
//! documentation and in every error.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::Value;
use regex::Regex;

use super::Listen;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, one of them for the end.
pub(super) const MAX_SOCKET_PATH_BYTES: usize = 107;

/// How the text of a flag or an environment variable becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It stays text.
    Text,
    /// A number if it reads as one.
    Number,
    /// Texts between commas; a flag may also be repeated.
    List,
    /// Yes or no; a flag alone is yes.
    Switch,
}

/// What is allowed for a key. `read` answers with what is wrong, without the key and what is allowed.
pub(super) trait Rule: Sync {
    type Out;
    fn read(&self, value: &Value) -> Result<Self::Out, String>;
    fn allowed(&self) -> String;
    fn shape(&self) -> Shape {
        Shape::Text
    }
}

/// A whole number in a range, with its unit.
pub(super) struct Whole {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) unit: &'static str,
}

impl Rule for Whole {
    type Out = u32;

    fn read(&self, value: &Value) -> Result<u32, String> {
        let number = whole(value).ok_or_else(|| format!("{} is not a whole number", shown(value)))?;
        u32::try_from(number)
            .ok()
            .filter(|number| (self.min..=self.max).contains(number))
            .ok_or_else(|| format!("{number} is out of range"))
    }

    fn allowed(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        format!("{} to {}{unit}", self.min, self.max)
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// One of some numbers, or nothing.
pub(super) struct OneOfOrNone(pub(super) &'static [u32]);

impl Rule for OneOfOrNone {
    type Out = Option<u32>;

    fn read(&self, value: &Value) -> Result<Option<u32>, String> {
        if is_empty(value) {
            return Ok(None);
        }
        let number = whole(value).ok_or_else(|| format!("{} is not a whole number", shown(value)))?;
        self.0
            .iter()
            .find(|allowed| i128::from(**allowed) == number)
            .map(|allowed| Some(*allowed))
            .ok_or_else(|| format!("{number} is not one of the allowed numbers"))
    }

    fn allowed(&self) -> String {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        format!("empty, or one of {}", numbers.join(", "))
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// A part of the whole: above 0, at most 1.
pub(super) struct Share;

impl Rule for Share {
    type Out = f64;

    fn read(&self, value: &Value) -> Result<f64, String> {
        let Value::Num(_, number) = value else { return Err(format!("{} is not a number", shown(value))) };
        let share = if whole(value) == Some(1) { Some(1.0) } else { number.to_f64() };
        share.filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(|| format!("{} is out of range", shown(value)))
    }

    fn allowed(&self) -> String {
        "a number above 0, at most 1".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Number
    }
}

/// One of some words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + Sync> Rule for Choice<T> {
    type Out = T;

    fn read(&self, value: &Value) -> Result<T, String> {
        let word = text(value)?;
        self.0
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| format!("{word:?} is not one of the allowed words"))
    }

    fn allowed(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        names.join(" or ")
    }
}

/// Yes or no.
pub(super) struct Switch;

impl Rule for Switch {
    type Out = bool;

    fn read(&self, value: &Value) -> Result<bool, String> {
        match value {
            Value::Bool(_, yes) => Ok(*yes),
            Value::String(_, text) if text == "true" => Ok(true),
            Value::String(_, text) if text == "false" => Ok(false),
            other => Err(format!("{} is neither true nor false", shown(other))),
        }
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Switch
    }
}

/// Text of a certain form.
pub(super) struct Form {
    /// A regular expression for the whole text.
    pub(super) pattern: &'static str,
    /// The same in words.
    pub(super) words: &'static str,
}

impl Rule for Form {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = text(value)?;
        let form = Regex::new(&format!("^(?:{})$", self.pattern)).map_err(|error| error.to_string())?;
        if form.is_match(&text) { Ok(text) } else { Err(format!("{text:?} does not look like one")) }
    }

    fn allowed(&self) -> String {
        self.words.to_owned()
    }
}

/// A list of texts, each by the same rule.
pub(super) struct List {
    pub(super) max: usize,
    pub(super) of: Form,
}

impl Rule for List {
    type Out = Vec<String>;

    fn read(&self, value: &Value) -> Result<Vec<String>, String> {
        items(value, self.max)?.iter().map(|item| self.of.read(item)).collect()
    }

    fn allowed(&self) -> String {
        format!("a list of at most {}, each {}", self.max, self.of.words)
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

/// Nothing, or what another rule reads.
pub(super) struct Optional<R>(pub(super) R);

impl<R: Rule> Rule for Optional<R> {
    type Out = Option<R::Out>;

    fn read(&self, value: &Value) -> Result<Self::Out, String> {
        if is_empty(value) { Ok(None) } else { self.0.read(value).map(Some) }
    }

    fn allowed(&self) -> String {
        format!("empty, or {}", self.0.allowed())
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }
}

/// A length of time: `90s`, `10m`, `1h`, `2d`, or seconds.
pub(super) struct Span {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Rule for Span {
    type Out = Duration;

    fn read(&self, value: &Value) -> Result<Duration, String> {
        let duration = match value {
            Value::Num(..) => whole(value).and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
            Value::String(_, text) => duration(text),
            _ => None,
        }
        .ok_or_else(|| format!("{} is not a length of time", shown(value)))?;
        if (self.min..=self.max).contains(&duration) {
            Ok(duration)
        } else {
            Err(format!("{} is out of range", shown(value)))
        }
    }

    fn allowed(&self) -> String {
        format!("a time such as 90s, 10m or 1h, from {} to {}", in_words(self.min), in_words(self.max))
    }
}

/// A length of time as it is written in the configuration.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".to_owned(),
        secs if secs.is_multiple_of(86_400) => format!("{}d", secs / 86_400),
        secs if secs.is_multiple_of(3_600) => format!("{}h", secs / 3_600),
        secs if secs.is_multiple_of(60) => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}

/// An `http` or `https` URL. Its errors never show the value: it may hold a password.
pub(super) struct Url;

impl Rule for Url {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = text(value)?;
        let url: http::Uri = text.parse().map_err(|_| "the value is not a URL".to_owned())?;
        let scheme_fits = matches!(url.scheme_str(), Some("http" | "https"));
        if scheme_fits && url.host().is_some_and(|host| !host.is_empty()) && url.query().is_none() {
            Ok(text)
        } else {
            Err("the value is no URL of that kind".to_owned())
        }
    }

    fn allowed(&self) -> String {
        "an http:// or https:// URL with a host and without a query".to_owned()
    }
}

/// Addresses to listen on, at least one.
pub(super) struct ListenOn {
    pub(super) max: usize,
}

impl Rule for ListenOn {
    type Out = Vec<Listen>;

    fn read(&self, value: &Value) -> Result<Vec<Listen>, String> {
        let addresses = items(value, self.max)?;
        if addresses.is_empty() {
            return Err("there is none".to_owned());
        }
        addresses.iter().map(|address| listen(&text(address)?)).collect()
    }

    fn allowed(&self) -> String {
        format!(
            "1 to {} of unix:///PATH (at most {MAX_SOCKET_PATH_BYTES} bytes) and tcp://ADDRESS:PORT (an IP address or localhost)",
            self.max
        )
    }

    fn shape(&self) -> Shape {
        Shape::List
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        if !Path::new(path).is_absolute() {
            return Err(format!("{text:?} holds no absolute path"));
        }
        if path.len() > MAX_SOCKET_PATH_BYTES {
            return Err(format!("{text:?} holds a path of {} bytes", path.len()));
        }
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    let address = text.strip_prefix("tcp://").ok_or_else(|| format!("{text:?} is neither unix:// nor tcp://"))?;
    socket_address(address).map(Listen::Tcp).ok_or_else(|| format!("{text:?} has no IP address and port"))
}

fn socket_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

/// An IP address and a port.
pub(super) struct Socket;

impl Rule for Socket {
    type Out = SocketAddr;

    fn read(&self, value: &Value) -> Result<SocketAddr, String> {
        let text = text(value)?;
        socket_address(&text).ok_or_else(|| format!("{text:?} has no IP address and port"))
    }

    fn allowed(&self) -> String {
        "ADDRESS:PORT (an IP address or localhost)".to_owned()
    }
}

/// A file.
pub(super) struct File;

impl Rule for File {
    type Out = PathBuf;

    fn read(&self, value: &Value) -> Result<PathBuf, String> {
        let text = text(value)?;
        let path = std::path::absolute(&text).map_err(|error| format!("{text:?}: {error}"))?;
        if path.file_name().is_some() && !text.ends_with('/') { Ok(path) } else { Err(format!("{text:?} is no file")) }
    }

    fn allowed(&self) -> String {
        "the path of a file".to_owned()
    }
}

/// A filter of log lines. A directive without `=` must be a level: elsewhere a misspelt level would be a target.
pub(super) struct Filter;

impl Filter {
    const LEVELS: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
}

impl Rule for Filter {
    type Out = String;

    fn read(&self, value: &Value) -> Result<String, String> {
        let text = text(value)?;
        let stray = text
            .split(',')
            .map(str::trim)
            .find(|part| !part.contains('=') && !Self::LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part)));
        if let Some(stray) = stray {
            return Err(format!("{stray:?} is no level"));
        }
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(format!("{text:?}: {error}")),
        }
    }

    fn allowed(&self) -> String {
        "off, error, warn, info, debug or trace; or pairs TARGET=LEVEL with commas between".to_owned()
    }
}

fn whole(value: &Value) -> Option<i128> {
    let Value::Num(_, number) = value else { return None };
    number.to_i128().or_else(|| number.to_u128().and_then(|number| i128::try_from(number).ok()))
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) if text.is_empty() => Err("it must not be empty".to_owned()),
        Value::String(_, text) => Ok(text.clone()),
        Value::Char(_, char) => Ok(char.to_string()),
        Value::Empty(..) => Err("it must not be empty".to_owned()),
        other => Err(format!("{} is not text (put it in quotes)", shown(other))),
    }
}

fn items(value: &Value, max: usize) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(_, items) if items.len() > max => Err(format!("there are {}", items.len())),
        Value::Array(_, items) => Ok(items.clone()),
        _ if is_empty(value) => Ok(Vec::new()),
        other => Err(format!("{} is not a list", shown(other))),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Empty(..) => true,
        Value::String(_, text) => text.is_empty(),
        _ => false,
    }
}

/// The value as an error shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{text:?}"),
        Value::Array(..) => "a list".to_owned(),
        Value::Dict(..) => "a map".to_owned(),
        other => super::print::scalar(other),
    }
}
