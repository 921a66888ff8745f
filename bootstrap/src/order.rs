//! What a payload asks for. Pure.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use crate::protocol::{Envelope, Order, VERSION};

/// What an invocation asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// An envelope of the daemon.
    Order(Order),
    /// Any other payload: somebody invokes the function by hand.
    Foreign,
}

/// An envelope that cannot be followed, with a sentence that says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEnvelope {
    #[error("The payload has the member `sockerless` but is no valid envelope: {0}.")]
    Shape(String),
    #[error("The envelope has version {0}; this bootstrap knows version {VERSION}.")]
    Version(u32),
    #[error("The envelope's token must be one word of printable ASCII characters.")]
    Token,
    #[error("The payload is no envelope, and the image names no command to give it to.")]
    NoCommand,
}

/// Reads a payload. An object with the member `sockerless` is meant as an envelope, anything else is not.
pub(crate) fn read(payload: &[u8]) -> Result<Request, InvalidEnvelope> {
    let members = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(payload);
    if !members.is_ok_and(|members| members.contains_key("sockerless")) {
        return Ok(Request::Foreign);
    }
    let envelope: Envelope =
        serde_json::from_slice(payload).map_err(|error| InvalidEnvelope::Shape(without_values(&error)))?;
    let order = envelope.sockerless;
    if order.version != VERSION {
        return Err(InvalidEnvelope::Version(order.version));
    }
    // The token stands in marker lines, where words are separated by spaces.
    if order.token.is_empty() || !order.token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidEnvelope::Token);
    }
    Ok(Request::Order(order))
}

/// Where the error is, but not serde's own words: they may quote a value.
fn without_values(error: &serde_json::Error) -> String {
    format!("a member is missing or has the wrong type, before line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_told_from_any_other_payload() {
        let order = read(br#"{"sockerless":{"version":1,"token":"t","command":["true"]}}"#);
        assert!(matches!(order, Ok(Request::Order(order)) if order.command == ["true"]));
        for payload in [&b"{}"[..], b"", b"[1]", b"hello", b"\xff", br#"{"key":"sockerless"}"#] {
            assert_eq!(read(payload), Ok(Request::Foreign), "{payload:?}");
        }
    }

    #[test]
    fn a_broken_envelope_is_refused_without_quoting_it() {
        let broken = read(br#"{"sockerless":{"version":1,"token":"t","env":"PASSWORD=hunter2"}}"#);
        let Err(InvalidEnvelope::Shape(sentence)) = broken else { panic!("{broken:?}") };
        assert!(!sentence.contains("hunter2"), "{sentence}");
        assert_eq!(read(br#"{"sockerless":{"version":2,"token":"t"}}"#), Err(InvalidEnvelope::Version(2)));
        for token in ["", "a b", "a\\nb", "ä"] {
            let payload = format!(r#"{{"sockerless":{{"version":1,"token":"{token}"}}}}"#);
            assert_eq!(read(payload.as_bytes()), Err(InvalidEnvelope::Token), "{token}");
        }
    }
}
