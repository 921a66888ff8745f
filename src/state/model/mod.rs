//! The nouns: what is wanted ([`Spec`]), what was observed ([`Status`]), and what follows from the two ([`life`]).
//!
//! Plain data without behaviour that would need a clock, a database or AWS. `Spec` is written by the API only,
//! `Status` by the reconciler only.

pub mod bounds;
pub mod lambda_log;
pub mod life;
#[cfg(test)]
pub(crate) mod samples;
mod spec;
mod status;
pub mod text;

use std::fmt;
use std::str::FromStr;

pub use spec::{
    Architecture, ContainerConfig, DeletionPolicy, FunctionSettings, InvocationKind, Protocol, RestartPolicy, Spec,
    UnknownOutcome,
};
pub use status::{
    BoundedWait, Cause, Exit, Failure, FailureKind, Function, FunctionFailures, FunctionState, IMAGE_ABSENCE_HOLDS,
    Issued, Known, LastIssued, LogTail, Report, ReportStatus, Retry, Run, RunPhase, Status,
};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A container's id: 32 random bytes, 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId([u8; 32]);

impl ContainerId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no container id: not 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a container id: 64 hexadecimal digits are needed")]
pub struct NotAnId;

impl FromStr for ContainerId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAnId);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, NotAnId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotAnId),
    }
}

impl Serialize for ContainerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContainerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One container: a row of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Counts up by creation: the order of `docker ps`.
    pub seq: i64,
    /// The id.
    pub id: ContainerId,
    /// The name, without Docker's leading slash.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// What is wanted.
    pub spec: Spec,
    /// What was observed.
    pub status: Status,
    /// When the reconciler looks at it again; `None`: only when something happens.
    pub due_at: Option<Timestamp>,
    /// Counts the writes of `status`: a write names the revision that it was made from, and loses if another came first.
    pub revision: i64,
}

impl Container {
    /// Whether it is gone for every client: its removal is wished, or was recorded by the reconciler (auto-remove).
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.spec.remove.is_some() || self.status.auto_removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_64_digits() {
        let text = "0123456789abcdef".repeat(4);
        let id: ContainerId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for bad in ["", "abc", &text[1..], &text.to_uppercase(), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<ContainerId>(), Err(NotAnId), "{bad}");
        }
    }
}
