//! The only reader of the process's environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Where the Runtime API listens, `host:port`.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// Names the directory for temporary files.
const TEMP_DIR: &str = "TMPDIR";
const DEFAULT_TEMP_DIR: &str = "/tmp";

/// Variables by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What the bootstrap was started with.
pub(crate) struct Environment {
    /// `None`: not started by Lambda.
    pub(crate) runtime_api: Option<String>,
    /// What a program inherits: everything but the Runtime API's address, so that it cannot take an invocation,
    /// and with it a token, for itself.
    pub(crate) variables: Variables,
    /// Survives from one invocation to the next: `TMPDIR`, or /tmp.
    pub(crate) temp_dir: PathBuf,
}

/// Reads the process's environment once, at the start.
pub(crate) fn read() -> Environment {
    of(std::env::vars_os().collect())
}

/// The same from given variables.
pub(crate) fn of(mut variables: Variables) -> Environment {
    let runtime_api = variables.remove(OsStr::new(RUNTIME_API));
    let temp_dir = variables.get(OsStr::new(TEMP_DIR)).filter(|directory| !directory.is_empty());
    Environment {
        runtime_api: runtime_api.and_then(|address| address.into_string().ok()).filter(|address| !address.is_empty()),
        temp_dir: temp_dir.map_or_else(|| PathBuf::from(DEFAULT_TEMP_DIR), PathBuf::from),
        variables,
    }
}
