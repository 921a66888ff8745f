//! The only reader of the process's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where the Runtime API listens, `host:port`.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Variables by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What the process was started with.
pub(crate) struct Environment {
    /// `None`: not started by Lambda.
    pub(crate) runtime_api: Option<String>,
    /// What a program inherits: everything but the Runtime API's address, so that it cannot take an invocation,
    /// and with it a token, for itself.
    pub(crate) variables: Variables,
    /// Survives from one invocation to the next: `TMPDIR`, or /tmp.
    pub(crate) temp_dir: PathBuf,
}

/// Reads the environment once, at the start.
pub(crate) fn read() -> Environment {
    let mut variables: Variables = std::env::vars_os().collect();
    let runtime_api = variables.remove(&OsString::from(RUNTIME_API));
    Environment {
        runtime_api: runtime_api.and_then(|address| address.into_string().ok()).filter(|address| !address.is_empty()),
        variables,
        temp_dir: std::env::temp_dir(),
    }
}
