//! From the command line to the body of `POST /containers/create`.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cli::RunArgs;
use crate::config::{Environment, Flags};

/// The largest payload that Lambda takes, in bytes.
const MAX_PAYLOAD_BYTES: u64 = 6 << 20;
/// Settings of the daemon that a container may have for itself, and their labels. Flags of these go with the
/// container, so that they count with any daemon.
const LABELS: &[(&str, &str)] = &[
    ("role_arn", "sockerless.lambda.role-arn"),
    ("memory_size", "sockerless.lambda.memory"),
    ("timeout", "sockerless.lambda.timeout"),
    ("subnet_ids", "sockerless.lambda.subnet-ids"),
    ("security_group_ids", "sockerless.lambda.security-group-ids"),
    ("architecture", "sockerless.lambda.architecture"),
    ("ephemeral_storage", "sockerless.lambda.ephemeral-storage"),
    ("invocation_type", "sockerless.lambda.invocation-type"),
    ("protocol", "sockerless.lambda.protocol"),
];
const PAYLOAD_LABEL: &str = "sockerless.lambda.payload";
const BYTES_PER_MB: u64 = 1 << 20;

/// What is wrong with what the user gave.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A variable has no name.
    #[error("{0:?} is no variable: NAME=VALUE or NAME is needed")]
    Variable(String),
    /// A label has no name.
    #[error("{0:?} is no label: NAME=VALUE is needed")]
    Label(String),
    /// The payload is no JSON.
    #[error("the payload is no JSON: {0}")]
    Payload(String),
}

/// The container as Docker's API is told. It removes itself after its end if `auto_remove`.
pub(super) fn body(
    args: &RunArgs,
    flags: &Flags,
    environment: &Environment,
    auto_remove: bool,
) -> Result<Value, InputError> {
    let mut body = json!({
        "Image": args.image,
        "Env": variables(args, environment)?,
        "Labels": labels(args, flags)?,
        "AttachStdout": true,
        "AttachStderr": true,
        "HostConfig": {
            "AutoRemove": auto_remove,
            "Memory": u64::from(args.memory.unwrap_or(0)) * BYTES_PER_MB,
        },
    });
    if !args.command.is_empty() {
        body["Cmd"] = json!(args.command);
    }
    if let Some(entrypoint) = &args.entrypoint {
        body["Entrypoint"] = json!([entrypoint]);
    }
    if let Some(directory) = &args.workdir {
        body["WorkingDir"] = json!(directory);
    }
    Ok(body)
}

/// `NAME=VALUE`, files first. A name alone is taken from our environment; if it is not there, it is left out.
fn variables(args: &RunArgs, environment: &Environment) -> Result<Vec<String>, InputError> {
    let mut lines = Vec::new();
    for path in &args.env_file {
        let text = fs::read_to_string(path).map_err(|source| InputError::File { path: path.clone(), source })?;
        let wanted = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(wanted.map(str::to_owned));
    }
    lines.extend(args.env.iter().cloned());
    lines.into_iter().filter_map(|line| variable(line, environment).transpose()).collect()
}

fn variable(line: String, environment: &Environment) -> Result<Option<String>, InputError> {
    match line.split_once('=') {
        Some(("", _)) => Err(InputError::Variable(line)),
        Some(_) => Ok(Some(line)),
        None if line.is_empty() => Err(InputError::Variable(line)),
        None => Ok(environment.get(&line).map(|value| format!("{line}={value}"))),
    }
}

fn labels(args: &RunArgs, flags: &Flags) -> Result<Map<String, Value>, InputError> {
    let mut labels = Map::new();
    for (key, label) in LABELS {
        if let Some(values) = flags.get(key) {
            labels.insert((*label).to_owned(), json!(values.join(",")));
        }
    }
    if let Some(payload) = &args.payload {
        labels.insert(PAYLOAD_LABEL.to_owned(), json!(read_payload(payload)?));
    }
    for label in &args.label {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.is_empty() {
            return Err(InputError::Label(label.clone()));
        }
        labels.insert(name.to_owned(), json!(value));
    }
    Ok(labels)
}

fn read_payload(given: &str) -> Result<String, InputError> {
    let read = |input: &mut dyn io::Read, path: PathBuf| {
        let mut text = String::new();
        match input.take(MAX_PAYLOAD_BYTES + 1).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(source) => Err(InputError::File { path, source }),
        }
    };
    let text = match given.strip_prefix('@') {
        _ if given == "-" => read(&mut io::stdin().lock(), PathBuf::from("stdin"))?,
        Some(path) => {
            let path = PathBuf::from(path);
            let mut file = fs::File::open(&path).map_err(|source| InputError::File { path: path.clone(), source })?;
            read(&mut file, path)?
        }
        None => given.to_owned(),
    };
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_PAYLOAD_BYTES) {
        return Err(InputError::Payload(format!("it is larger than {MAX_PAYLOAD_BYTES} bytes")));
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(InputError::Payload(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> RunArgs {
        RunArgs { image: "host".to_owned(), ..RunArgs::default() }
    }

    fn environment() -> Environment {
        [("HOME".to_owned(), "/home/me".to_owned())].into_iter().collect()
    }

    #[test]
    fn a_bare_image_is_enough() {
        let body = body(&args(), &Flags::new(), &environment(), true).unwrap();
        let expected = json!({
            "Image": "host", "Env": [], "Labels": {}, "AttachStdout": true, "AttachStderr": true,
            "HostConfig": {"AutoRemove": true, "Memory": 0},
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn everything_given_goes_along() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        fs::write(&file, "# a comment\n\nA=1\n  B=x=y\nHOME\nNOWHERE\n").unwrap();
        let args = RunArgs {
            env: vec!["A=2".to_owned(), "EMPTY=".to_owned()],
            env_file: vec![file],
            memory: Some(256),
            label: vec!["a=b=c".to_owned(), "bare".to_owned()],
            payload: Some("{\"x\": 1}".to_owned()),
            entrypoint: Some("/bin/sh".to_owned()),
            workdir: Some("/tmp".to_owned()),
            command: vec!["-c".to_owned(), "true".to_owned()],
            ..args()
        };
        let flags = Flags::from([("timeout", vec!["5".to_owned()]), ("log_level", vec!["debug".to_owned()])]);
        let body = body(&args, &flags, &environment(), false).unwrap();
        assert_eq!(body["Env"], json!(["A=1", "B=x=y", "HOME=/home/me", "A=2", "EMPTY="]));
        let labels = json!({
            "a": "b=c", "bare": "", "sockerless.lambda.payload": "{\"x\": 1}", "sockerless.lambda.timeout": "5",
        });
        assert_eq!(body["Labels"], labels);
        assert_eq!(body["HostConfig"], json!({"AutoRemove": false, "Memory": 268_435_456}));
        assert_eq!((&body["Entrypoint"], &body["Cmd"]), (&json!(["/bin/sh"]), &json!(["-c", "true"])));
        assert_eq!(body["WorkingDir"], "/tmp");
    }

    #[test]
    fn a_payload_comes_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("payload.json");
        fs::write(&file, "[1]").unwrap();
        assert_eq!(read_payload(&format!("@{}", file.display())).unwrap(), "[1]");
        assert!(matches!(read_payload("@/does/not/exist"), Err(InputError::File { .. })));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = [
            RunArgs { env: vec!["=x".to_owned()], ..args() },
            RunArgs { env: vec![String::new()], ..args() },
            RunArgs { label: vec!["=x".to_owned()], ..args() },
            RunArgs { payload: Some("{".to_owned()), ..args() },
            RunArgs { env_file: vec!["/does/not/exist".into()], ..args() },
        ];
        for args in wrong {
            assert!(body(&args, &Flags::new(), &environment(), true).is_err(), "{args:?}");
        }
    }
}
