//! What is wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, or what stands in its place.
    pub key: String,
    /// Where the value came from, such as `the flag --timeout`; `None`: it is missing everywhere.
    pub source: Option<String>,
    /// What is wrong.
    pub wrong: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.wrong)?;
        if let Some(source) = &self.source {
            write!(f, " (from {source})")?;
        }
        write!(f, "; allowed: {}", self.allowed)
    }
}

/// The configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is no YAML.
    #[error("cannot read the configuration file {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The parser's or the system's words.
        reason: String,
    },
    /// Keys are unknown, missing, or have values that are not allowed: all that were found.
    #[error("the configuration cannot be used:{}", lines(.0))]
    Problems(Vec<Problem>),
    /// There is no place for the state of this user.
    #[error("no place for the state: neither XDG_STATE_HOME nor HOME is an absolute path; set --database and --listen")]
    NoStateDirectory,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
