//! Query parameters as moby reads them: flags, filters, times, signals. PURE.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::error::ApiError;
use super::{json, limits};
use crate::clock::Timestamp;

/// The parameters of a request, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of an address after the question mark.
    pub(super) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A boolean: absent, empty, 0, no, false and none are false, everything else is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(truth)
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().map_err(|_| bad_value(name, format!("{text:?} is not a whole number")))?;
        Ok(Some(number))
    }

    /// Unix seconds with a fraction, as the Docker clients send times. 0 is no time at all.
    pub(super) fn unix_time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let time = unix_time(text).map_err(|reason| bad_value(name, reason))?;
        Ok(Some(time).filter(|time| *time != Timestamp::default()))
    }

    /// As `unix_time`, or RFC 3339, or a duration before `now`.
    pub(super) fn moment(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        match self.get(name).map(|text| (text, moment(text, now))) {
            None => Ok(None),
            Some((_, Some(time))) => Ok(Some(time)),
            Some((text, None)) => Err(bad_value(name, unix_time(text).err().unwrap_or_default())),
        }
    }

    /// The `filters` parameter; a name outside `known` is refused.
    pub(super) fn filters(&self, known: &[&str]) -> Result<Filters, ApiError> {
        self.get("filters").map_or_else(|| Ok(Filters::default()), |text| Filters::parse(text, known))
    }
}

fn truth(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

fn bad_value(name: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::BadRequest(format!("invalid value for \"{name}\": {reason}"))
}

/// `seconds` or `seconds.fraction`.
fn unix_time(text: &str) -> Result<Timestamp, String> {
    let invalid =
        |part: &str, digits: &str| format!("invalid timestamp {text:?}: invalid {part} {digits:?}: invalid syntax");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = seconds.parse().map_err(|_| invalid("seconds", seconds))?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(invalid("nanoseconds", fraction));
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().map_err(|_| invalid("nanoseconds", fraction))?;
    let nanos = if seconds.starts_with('-') { -nanos } else { nanos };
    Ok(Timestamp::from_nanos(Timestamp::from_secs(whole).as_nanos().saturating_add(nanos)))
}

/// Unix seconds, RFC 3339 (also without zone or time: UTC), or a Go duration before `now`.
pub(super) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = unix_time(text) {
        return Some(time);
    }
    if let Some(ago) = go_duration(text) {
        return Some(now.before(ago));
    }
    let zoned = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let time = zoned.iter().find_map(|text| text.parse::<jiff::Timestamp>().ok())?;
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

/// A duration as Go writes it: `1h30m`, `10s`, `1.5h`, `300ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match rest.get(..length)? {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = rest.get(length..)?;
    }
    Some(total)
}

/// The `filters` parameter: `{"name":["value"]}` or `{"name":{"value":true}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    fn parse(text: &str, known: &[&str]) -> Result<Self, ApiError> {
        let invalid = || ApiError::BadRequest("invalid filter".to_owned());
        json::check(text.as_bytes(), limits::MAX_JSON_DEPTH)
            .map_err(|reason| ApiError::BadRequest(format!("invalid filter: {reason}")))?;
        let map = match serde_json::from_str(text).map_err(|_| invalid())? {
            Value::Null => serde_json::Map::new(),
            Value::Object(map) => map,
            _ => return Err(invalid()),
        };
        let (mut filters, mut count) = (BTreeMap::new(), 0);
        for (name, values) in map {
            if !known.contains(&name.as_str()) {
                return Err(ApiError::BadRequest(format!("invalid filter '{name}'")));
            }
            let values: Option<BTreeSet<String>> = match values {
                Value::Null => Some(BTreeSet::new()),
                Value::Array(list) => list.into_iter().map(|v| v.as_str().map(str::to_owned)).collect(),
                Value::Object(set) => set.into_iter().map(|(key, on)| on.is_boolean().then_some(key)).collect(),
                _ => None,
            };
            let values = values.ok_or_else(invalid)?;
            count += values.len();
            if count > limits::MAX_FILTER_VALUES {
                let most = limits::MAX_FILTER_VALUES;
                return Err(ApiError::BadRequest(format!("invalid filter: more than {most} values")));
            }
            filters.insert(name, values);
        }
        filters.retain(|_, values: &mut BTreeSet<String>| !values.is_empty());
        Ok(Self(filters))
    }

    /// The values of a filter.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether the filter is used.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the filter is not used, or one of its values passes.
    pub(super) fn any(&self, name: &str, pass: impl FnMut(&str) -> bool) -> bool {
        !self.has(name) || self.values(name).any(pass)
    }

    /// The values of a filter as regular expressions. As moby does, one that cannot be understood never matches.
    pub(super) fn patterns(&self, name: &str) -> Patterns {
        let compiled = || self.values(name).filter_map(regex).collect();
        Patterns(self.has(name).then(compiled))
    }

    /// `label` and `label!`: every `key` or `key=value` must be there, none of the others may be.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let is_there = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").all(is_there) && !self.values("label!").any(is_there)
    }

    /// The latest of the times in a filter: durations count back from `now`.
    pub(super) fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let mut until = None;
        for text in self.values("until") {
            let time = moment(text, now);
            until = Some(time.ok_or_else(|| ApiError::BadRequest(format!("invalid filter 'until={text}'")))?);
        }
        Ok(until)
    }
}

/// A regular expression of limited size.
pub(super) fn regex(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(limits::MAX_REGEX_BYTES).build().ok()
}

/// A filter of regular expressions, made ready once for all that it is held against. `None`: it is not used.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Option<Vec<Regex>>);

impl Patterns {
    /// Whether the filter is not used, or one of its expressions is found in one of the texts.
    pub(super) fn any(&self, texts: &[&str]) -> bool {
        self.0.as_ref().is_none_or(|all| all.iter().any(|regex| texts.iter().any(|text| regex.is_match(text))))
    }
}

/// Linux's signals without `SIG`.
const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Whether moby knows the signal: a number but 0, or a name with or without `SIG`, in any case.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |from: &str, sign: char, most: u8| {
        name.strip_prefix(from)
            .and_then(|rest| rest.strip_prefix(sign))
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|number| (1..=most).contains(&number))
    };
    SIGNALS.contains(&name) || offset("RTMIN", '+', 15) || offset("RTMAX", '-', 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Result<Filters, String> {
        Filters::parse(text, &["label", "label!", "name", "status", "until"]).map_err(|error| error.to_string())
    }

    #[test]
    fn booleans_are_mobys() {
        for text in ["", "0", "no", "No", "false", "False", "FALSE", "none", " false "] {
            assert!(!truth(text), "{text:?}");
        }
        for text in ["1", "true", "True", "yes", "on", "2", "x"] {
            assert!(truth(text), "{text:?}");
        }
        let query = Query::parse("all=&v=False&x=1&x=0");
        assert!(!query.flag("all") && !query.flag("v") && query.flag("x") && !query.flag("none"));
    }

    #[test]
    fn times() {
        let query = Query::parse("a=12&b=12.5&c=abc&d=0&e=1.000000001&f=x.1&g=1.x");
        assert_eq!(query.unix_time("a").unwrap(), Some(Timestamp::from_secs(12)));
        assert_eq!(query.unix_time("b").unwrap(), Some(Timestamp::from_millis(12_500)));
        assert_eq!(query.unix_time("d").unwrap(), None);
        assert_eq!(query.unix_time("e").unwrap(), Some(Timestamp::from_nanos(1_000_000_001)));
        assert_eq!(query.unix_time("none").unwrap(), None);
        assert!(query.unix_time("f").is_err() && query.unix_time("g").is_err());
        assert_eq!(
            query.unix_time("c").unwrap_err().to_string(),
            "invalid value for \"c\": invalid timestamp \"abc\": invalid seconds \"abc\": invalid syntax"
        );
    }

    #[test]
    fn moments() {
        let now = Timestamp::from_secs(10_000);
        for (text, seconds) in [
            ("9000", 9_000),
            ("10m", 9_400),
            ("1h30m", 4_600),
            ("1.5s", 9_998),
            ("1970-01-01T00:00:05Z", 5),
            ("1970-01-01T01:00:05+01:00", 5),
            ("1970-01-01T00:00:05", 5),
            ("1970-01-02", 86_400),
        ] {
            assert_eq!(moment(text, now).map(Timestamp::as_secs), Some(seconds), "{text}");
        }
        for text in ["", "x", "10", "5x", "m", "--1"] {
            assert_eq!(moment(text, now).is_some(), text == "10", "{text:?}");
        }
    }

    #[test]
    fn filters_come_in_two_spellings() {
        let list = filters(r#"{"label":["a=b","c"],"status":["exited"]}"#).unwrap();
        let set = filters(r#"{"label":{"a=b":true,"c":true},"status":{"exited":true}}"#).unwrap();
        assert_eq!(list, set);
        assert_eq!(filters("{}").unwrap(), Filters::default());
        assert_eq!(filters("null").unwrap(), Filters::default());
        assert_eq!(filters(r#"{"name":null}"#).unwrap(), Filters::default());
        assert_eq!(filters(r#"{"foo":["x"]}"#).unwrap_err(), "invalid filter 'foo'");
        for bad in ["x", "[]", r#"{"name":1}"#, r#"{"name":[1]}"#, r#"{"name":{"x":1}}"#] {
            assert_eq!(filters(bad).unwrap_err(), "invalid filter", "{bad}");
        }
    }

    #[test]
    fn labels_are_anded_and_others_ored() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        for (text, pass) in [
            (r#"{"label":["a=b","c"]}"#, true),
            (r#"{"label":["a=b","d"]}"#, false),
            (r#"{"label":["a=x"]}"#, false),
            (r#"{"label":["c="]}"#, true),
            (r#"{"label!":["d"]}"#, true),
            (r#"{"label!":["a"]}"#, false),
            ("{}", true),
        ] {
            assert_eq!(filters(text).unwrap().labels(&labels), pass, "{text}");
        }
        let names = filters(r#"{"name":["^web","db$"]}"#).unwrap();
        assert!(names.patterns("name").any(&["/my-db", "my-db"]));
        assert!(names.patterns("name").any(&["/web1", "web1"]));
        assert!(!names.patterns("name").any(&["/x", "x"]));
        assert!(names.patterns("label").any(&["a filter that is not used"]));
        assert!(!filters(r#"{"name":["("]}"#).unwrap().patterns("name").any(&["("]));
        let huge = r#"{"name":["((a{99}){99}){99}"]}"#;
        assert!(!filters(huge).unwrap().patterns("name").any(&["a"]), "too large to be compiled");
    }

    #[test]
    fn filters_have_only_so_many_values() {
        let with = |count: usize| {
            let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            filters(&serde_json::json!({ "name": values, "label": ["one more"] }).to_string())
        };
        assert!(with(limits::MAX_FILTER_VALUES - 1).is_ok());
        assert_eq!(with(limits::MAX_FILTER_VALUES).unwrap_err(), "invalid filter: more than 100 values");
    }

    #[test]
    fn signals_are_mobys() {
        for good in ["KILL", "SIGKILL", "sigkill", "9", "15", "TERM", "RTMIN+3", "SIGRTMAX-14", "WINCH"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "FOO", "0", "SIG", "RTMIN+16", "RTMAX-0", "SIGSIGKILL", "9x"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
