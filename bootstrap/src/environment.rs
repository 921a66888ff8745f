//! The only reader of the process's environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Where the Runtime API listens: `host:port`, to which a sandbox may add the first part of all paths.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// Where this environment's log is: a program with the right to write log events could add some to it.
const LOG_STREAM: &str = "AWS_LAMBDA_LOG_STREAM_NAME";
/// What only this runtime could use; no program needs it.
const HANDLER: &str = "_HANDLER";
/// What the names of Lambda's own descriptors and sockets begin with, such as `_LAMBDA_TELEMETRY_LOG_FD`.
const INTERNAL: &[u8] = b"_LAMBDA_";
/// Names the directory for temporary files.
const TEMP_DIR: &str = "TMPDIR";
const DEFAULT_TEMP_DIR: &str = "/tmp";

/// Variables by name.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// What the bootstrap was started with.
pub(crate) struct Environment {
    /// `None`: not started by Lambda.
    pub(crate) runtime_api: Option<String>,
    /// What a program inherits: everything but what belongs to the runtime alone. That is the Runtime API's address,
    /// the log stream's name and Lambda's internals.
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
    variables.retain(|name, _| name != LOG_STREAM && name != HANDLER && !name.as_bytes().starts_with(INTERNAL));
    let temp_dir = variables.get(OsStr::new(TEMP_DIR)).filter(|directory| !directory.is_empty());
    Environment {
        runtime_api: runtime_api.and_then(|address| address.into_string().ok()).filter(|address| !address.is_empty()),
        temp_dir: temp_dir.map_or_else(|| PathBuf::from(DEFAULT_TEMP_DIR), PathBuf::from),
        variables,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_inherits_nothing_of_the_runtimes() {
        let names = [RUNTIME_API, LOG_STREAM, HANDLER, "_LAMBDA_TELEMETRY_LOG_FD", "AWS_REGION", "_LAMBDA"];
        let environment = of(names.into_iter().map(|name| (name.into(), "value".into())).collect());
        assert_eq!(environment.runtime_api.as_deref(), Some("value"));
        assert_eq!(environment.variables.into_keys().collect::<Vec<_>>(), ["AWS_REGION", "_LAMBDA"]);
    }
}
