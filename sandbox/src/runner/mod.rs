//! Runs programs through Lambda's Runtime API. This is a stub: it starts nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;

use bytes::Bytes;
use tokio::sync::mpsc;

/// How environments are started.
#[derive(Clone, Debug, Default)]
pub struct RunnerConfig {
    /// The command put in front in image `host`.
    pub bootstrap: Vec<OsString>,
    /// Whether environments get namespaces of their own.
    pub isolate: bool,
}

/// An environment to start.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    /// Its number.
    pub environment: u64,
    /// 32 hexadecimal digits.
    pub name: String,
    /// ImageConfig's EntryPoint and Command; empty: the image's own.
    pub command: Vec<String>,
    /// Where the command starts.
    pub working_dir: Option<String>,
    /// The environment variables, but for AWS_LAMBDA_RUNTIME_API.
    pub env: BTreeMap<String, String>,
    /// MemorySize.
    pub memory_mb: u32,
}

/// An invocation to hand over.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its id.
    pub request_id: String,
    /// What it is invoked with.
    pub payload: Bytes,
    /// When it is killed, in milliseconds since the epoch.
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
    /// The process ended.
    Exited {
        /// Its status.
        code: i32,
    },
    /// A signal ended the process.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The time was up.
    TimedOut,
    /// The memory was used up.
    OutOfMemory,
    /// The runtime posted an error before it asked for an invocation.
    InitError {
        /// Lambda-Runtime-Function-Error-Type.
        error_type: String,
        /// What was posted.
        body: Bytes,
    },
}

/// What the runner saw.
#[derive(Clone, Debug)]
pub enum RunnerEvent {
    /// A line of output.
    Line {
        /// Who wrote it.
        environment: u64,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
        /// Without its newline.
        text: String,
    },
    /// The environment asked for its first invocation.
    Ready {
        /// Which one.
        environment: u64,
        /// Since its start.
        init_ms: f64,
    },
    /// An invocation ended.
    Ended {
        /// Where.
        environment: u64,
        /// Which one.
        request_id: String,
        /// How.
        end: End,
        /// How long it took.
        duration_ms: f64,
        /// The most memory it used.
        max_memory_mb: u32,
    },
    /// The environment is no more.
    Gone {
        /// Which one.
        environment: u64,
    },
}

/// Why the runner cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// This build has no runner.
    #[error("this build cannot run programs")]
    Unavailable,
}

/// The runner.
#[derive(Debug)]
pub struct Runner {
    _config: RunnerConfig,
    _events: mpsc::Sender<RunnerEvent>,
}

impl Runner {
    /// A runner that reports to `events`.
    #[must_use]
    pub fn new(config: RunnerConfig, events: mpsc::Sender<RunnerEvent>) -> Self {
        Self { _config: config, _events: events }
    }

    /// Starts an environment.
    ///
    /// # Errors
    /// Always: this is a stub.
    pub async fn start(&self, _config: EnvironmentConfig) -> Result<(), RunnerError> {
        Err(RunnerError::Unavailable)
    }

    /// Hands an invocation to an environment.
    ///
    /// # Errors
    /// Always: this is a stub.
    pub async fn invoke(&self, _environment: u64, _invocation: Invocation) -> Result<(), RunnerError> {
        Err(RunnerError::Unavailable)
    }

    /// Ends an environment.
    pub async fn kill(&self, _environment: u64) {}

    /// Ends all environments.
    pub async fn shutdown(&self) {}
}
