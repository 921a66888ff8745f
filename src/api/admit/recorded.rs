//! Settings that are recorded as they were sent, for `inspect` only: what is stored of them must be small and readable.
//! PURE.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::error::ApiError;
use super::super::limits;
use super::bad;

/// Refuses what could not be read back, or is larger than any real setting.
pub(super) fn check(given: &Map<String, Value>, host: &Map<String, Value>) -> Result<(), ApiError> {
    for (place, fields) in [("", given), ("HostConfig.", host)] {
        for (name, value) in fields {
            check_value(value).map_err(|reason| bad(format!("invalid JSON: {place}{name}: {reason}")))?;
        }
    }
    let bytes = |fields: &Map<String, Value>| serde_json::to_string(fields).map_or(usize::MAX, |json| json.len());
    let (total, limit) = (bytes(given).saturating_add(bytes(host)), limits::MAX_RECORDED_BYTES);
    if total > limit {
        return Err(bad(format!(
            "the settings that are only recorded have {total} bytes, more than the {limit} that are kept"
        )));
    }
    Ok(())
}

/// A zero byte is part of no name, value or path.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    match labels.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some((name, _)) => Err(bad(format!("Labels: a zero byte cannot be part of the label {name:?}"))),
        None => Ok(()),
    }
}

/// A number that is not whole may be read back as another one. The depth is limited before: this may recurse.
fn check_value(value: &Value) -> Result<(), &'static str> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(()),
        Value::Number(_) => Err("numbers must be whole and have at most 64 bits"),
        Value::String(text) if text.contains('\0') => Err("a zero byte cannot be part of a setting"),
        Value::String(_) => Ok(()),
        Value::Array(list) => list.iter().try_for_each(check_value),
        Value::Object(map) if map.keys().any(|key| key.contains('\0')) => {
            Err("a zero byte cannot be part of a setting")
        }
        Value::Object(map) => map.values().try_for_each(check_value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(given: Value) -> Result<(), String> {
        let host = Map::new();
        check(given.as_object().unwrap(), &host).map_err(|error| error.to_string())
    }

    #[test]
    fn recorded_settings_are_whole_numbers_and_texts_without_zero_bytes() {
        assert_eq!(
            checked(json!({ "Healthcheck": { "Interval": i64::MIN, "Retries": u64::MAX, "Test": ["a\n"] } })),
            Ok(())
        );
        for (value, reason) in [
            (json!({ "X": [1.5] }), "numbers must be whole and have at most 64 bits"),
            (
                serde_json::from_str("{\"X\":18446744073709551616}").unwrap(),
                "numbers must be whole and have at most 64 bits",
            ),
            (json!({ "X": "a\0" }), "a zero byte cannot be part of a setting"),
            (json!({ "a\0": 1 }), "a zero byte cannot be part of a setting"),
        ] {
            let expected = Err(format!("invalid JSON: Healthcheck: {reason}"));
            assert_eq!(checked(json!({ "Healthcheck": value })), expected);
        }
    }

    #[test]
    fn recorded_settings_are_small() {
        let with = |bytes: usize| checked(json!({ "User": "x".repeat(bytes) }));
        assert_eq!(with(limits::MAX_RECORDED_BYTES - 100), Ok(()));
        assert!(with(limits::MAX_RECORDED_BYTES).unwrap_err().contains("more than the 65536 that are kept"));
    }
}
