//! JSON from clients: bounded before it is parsed. PURE.
//!
//! A value that is nested too deeply, or has too many parts, is found by a scan that needs no stack and no memory.
//!
//! Of a key that is given twice the last value counts, as in moby. What the parser itself refuses: numbers that no `f64`
//! holds, lone surrogates, text that is no UTF-8, anything after the value.

use serde_json::Value;

use super::limits;

/// Reads a value within the limits. The error is a sentence without the name of what was read.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    check(bytes, limits::MAX_JSON_DEPTH)?;
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Whether a value keeps the limits, as far as it is JSON at all.
pub(super) fn check(bytes: &[u8], max_depth: usize) -> Result<(), String> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > max_depth {
            return Err(format!("nested deeper than {max_depth} levels"));
        }
        if values > limits::MAX_JSON_VALUES {
            return Err(format!("more than {} values", limits::MAX_JSON_VALUES));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn depth_is_limited_whatever_stands_in_strings() {
        let (most, more) = (limits::MAX_JSON_DEPTH, limits::MAX_JSON_DEPTH + 1);
        assert!(parse(nested(most).as_bytes()).is_ok());
        for text in [nested(more), "[".repeat(4_000_000), format!("{{\"a\":{}}}", nested(most)), "{\"x\":".repeat(more)]
        {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), "nested deeper than 32 levels");
        }
        for text in ["[", "[\\\"", "\\\\\\\"[", "{\\\\"] {
            let string = format!("\"{}\"", text.repeat(more));
            assert!(parse(string.as_bytes()).is_ok(), "{string}");
        }
        let after_string = format!("[\"\\\\\",{}]", nested(most));
        assert!(parse(after_string.as_bytes()).is_err());
    }

    #[test]
    fn the_number_of_values_is_limited() {
        let list = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
        assert!(parse(list(limits::MAX_JSON_VALUES).as_bytes()).is_ok());
        for text in [list(limits::MAX_JSON_VALUES + 1), format!("[{}[]]", "[],".repeat(limits::MAX_JSON_VALUES))] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), "more than 100000 values");
        }
    }

    #[test]
    fn odd_values() {
        for text in ["{\"a\":1e999}", "\"\\ud800\"", "\"\\udc00x\"", "{} {}", "[1,]", "\"a", "nul", ""] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert_eq!(parse(b"{\"a\":1,\"a\":2}").unwrap(), serde_json::json!({ "a": 2 }));
    }
}
