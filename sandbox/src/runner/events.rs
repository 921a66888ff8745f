//! What goes into the runner and what comes out of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

/// How environments are started.
#[derive(Clone, Debug, Default)]
pub struct RunnerConfig {
    /// The command put in front in the image `host`: the path of a program, and its first arguments.
    pub bootstrap: Vec<OsString>,
    /// Whether environments on this machine's files get namespaces of their own, where that is possible.
    pub isolate: bool,
    /// The command that enters the root of an image: it calls [`enter`](super::enter) with the bootstrap as the front.
    pub enter: Vec<OsString>,
    /// Whether processes outside an environment may call its Runtime API. For tests that stand for a runtime.
    pub open_runtime_api: bool,
}

/// An environment to start.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    /// Its number, never used twice.
    pub environment: u64,
    /// 32 hexadecimal digits.
    pub name: String,
    /// Whose files it sees.
    pub root: Root,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments, or the program where there is no entrypoint.
    pub command: Vec<String>,
    /// Where the first process starts; absent: `/`.
    pub working_dir: Option<String>,
    /// All environment variables, but for AWS_LAMBDA_RUNTIME_API.
    pub env: BTreeMap<String, String>,
    /// The most memory that all of its processes may use together, in MiB.
    pub memory_mb: u32,
    /// The size of its /tmp, in MiB.
    pub tmp_mb: u32,
}

impl EnvironmentConfig {
    pub(super) fn directory(&self) -> &str {
        self.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or("/")
    }
}

/// Whose files an environment sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// This machine's, with the bootstrap in front.
    #[default]
    Machine,
    /// An image's.
    Image(ImageRoot),
}

/// The files of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRoot {
    /// Where they are. /tmp, /dev and /proc are directories there.
    pub files: PathBuf,
    /// Files of this machine, and where they belong in the image: a file without a link on the way.
    pub machine_files: Vec<(PathBuf, PathBuf)>,
    /// Whether the bootstrap is in front of the image's program.
    pub front: bool,
}

/// An invocation to hand over.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id.
    pub request_id: String,
    /// What the function is invoked with.
    pub payload: Bytes,
    /// When everything is killed, in milliseconds since 1970.
    pub deadline_ms: i64,
    /// The function.
    pub function_arn: String,
    /// X-Amz-Client-Context, as it came.
    pub client_context: Option<String>,
    /// The X-Ray trace header.
    pub trace_id: String,
}

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Response(Bytes),
    /// With an error that the runtime posted.
    Error {
        /// Lambda-Runtime-Function-Error-Type.
        error_type: String,
        /// What was posted.
        body: Bytes,
    },
    /// The process returned without an answer.
    Exited {
        /// Its status.
        code: i32,
    },
    /// A signal ended the process.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The deadline passed, and everything was killed.
    TimedOut,
    /// The memory was used up, and everything was killed.
    OutOfMemory,
    /// The runtime posted an error before it asked for an invocation.
    InitError {
        /// Lambda-Runtime-Function-Error-Type.
        error_type: String,
        /// What was posted.
        body: Bytes,
    },
}

/// What the runner saw. The events of one environment come in the order in which things happened.
#[derive(Clone, Debug)]
pub enum RunnerEvent {
    /// A line of output.
    Line {
        /// Who wrote it.
        environment: u64,
        /// When it was read, in milliseconds since 1970.
        at_ms: i64,
        /// Without its newline; bytes that are no UTF-8 are replaced.
        text: String,
    },
    /// The environment asked for its first invocation.
    Ready {
        /// Which one.
        environment: u64,
        /// Since its start.
        init_ms: f64,
    },
    /// An invocation ended. All lines that were written before come before.
    Ended {
        /// Where.
        environment: u64,
        /// Which one; empty: the environment ended by itself before it asked for any.
        request_id: String,
        /// How.
        end: End,
        /// Since it was handed over; 0 if it never was.
        duration_ms: f64,
        /// The most memory that the environment has used so far, in MiB.
        max_memory_mb: u32,
    },
    /// All processes of the environment have ended: the last event of every environment that was started.
    Gone {
        /// Which one.
        environment: u64,
    },
}

/// Why the runner cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// [`RunnerConfig::bootstrap`] is empty.
    #[error("no bootstrap is configured, so there is nothing to run")]
    NoBootstrap,
    /// As AWS's Runtime.InvalidWorkingDir.
    #[error("chdir {path}: {source}")]
    WorkingDir {
        /// What was asked for.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// As AWS's Runtime.InvalidEntrypoint.
    #[error("fork/exec {program}: {source}")]
    Exec {
        /// What was to be executed.
        program: String,
        /// Why that is not possible.
        source: io::Error,
    },
    /// The image's root cannot be entered on this machine.
    #[error("the image's root cannot be entered: {0}")]
    Isolate(#[source] io::Error),
    /// The process or what it needs could not be made.
    #[error("the environment could not be started: {0}")]
    Start(#[from] io::Error),
    /// It was never started, or is gone.
    #[error("there is no environment {0}")]
    UnknownEnvironment(u64),
    /// Too many invocations are waiting for it.
    #[error("environment {0} has too many invocations waiting")]
    Busy(u64),
}
