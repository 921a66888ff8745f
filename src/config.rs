//! The configuration: defaults < YAML < environment < flags, into one typed, validated, immutable [`Config`].
//!
//! Every key stands once in the table [`KEYS`]: its name, default, meaning and rule. The flags, the environment
//! variables, the documentation and the checks all come from that table. A value that breaks its rule stops the
//! process, with the key, where the value came from, and what is allowed.

mod error;
mod keys;
mod load;
mod print;
mod rules;
mod sources;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::state::Binding;
use crate::state::model::{Architecture, InvocationKind, Protocol, UnknownOutcome};

pub use error::{ConfigError, Problem};
pub use keys::{KEYS, Setting};
pub use load::{Effective, Loaded, Place, SYSTEM_FILE, Sources, load};
pub use print::{effective_yaml, markdown_table};
pub use rules::{Shape, duration};
pub use sources::{Environment, Flags, state_directory};

/// What stands for the account of the embedded sandbox, whichever role is configured.
const SANDBOX_ACCOUNT: &str = "sandbox";

/// Everything that can be set, validated. Built once at start.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// AWS region.
    pub region: String,
    /// Execution role of the functions.
    pub role_arn: String,
    /// CloudWatch log group of the functions.
    pub log_group: String,
    /// CloudWatch log group of the claims; never one that functions write to.
    pub claims_log_group: String,
    /// Days that CloudWatch keeps log events; `None`: for ever. One of the values that PutRetentionPolicy takes.
    pub log_retention_days: Option<u32>,
    /// MB, 128 to 10,240.
    pub memory_size: u32,
    /// Seconds, 1 to 900.
    pub timeout: u32,
    /// VPC subnets, at most 16.
    pub subnet_ids: Vec<String>,
    /// VPC security groups, at most 5.
    pub security_group_ids: Vec<String>,
    /// Processor architecture.
    pub architecture: Architecture,
    /// MB of /tmp, 512 to 10,240.
    pub ephemeral_storage: u32,
    /// How functions are invoked.
    pub invocation_type: InvocationKind,
    /// Seconds that Lambda may keep an asynchronous event, 60 to 21,600.
    pub event_age: u32,
    /// Who speaks the Runtime API inside images.
    pub protocol: Protocol,
    /// What follows when nobody can tell how a run ended.
    pub unknown_outcome: UnknownOutcome,
    /// Completes short image names, such as `123456789012.dkr.ecr.eu-west-1.amazonaws.com`.
    pub image_registry: Option<String>,
    /// Runs at once, at most.
    pub max_running: u32,
    /// Our part of the account's 15 control-plane requests a second: above 0, at most 1.
    pub api_share: f64,
    /// Beginning of every function name: letters, digits, `-`, `_`; at most 16.
    pub function_prefix: String,
    /// Where AWS is, for the sandbox and for VPC endpoints.
    pub endpoint_url: Option<String>,
    /// Whether the Docker spelling answers as Docker's clients need, or exactly as the internal API.
    pub docker_api: DockerApi,
    /// Where the API listens.
    pub listen: Vec<Listen>,
    /// What the TCP listeners speak TLS with.
    pub tls: Option<Tls>,
    /// Names under which loopback TCP listeners are reached, beside IP addresses and `localhost`; at most 16.
    pub allowed_hosts: Vec<String>,
    /// The SQLite file.
    pub database: PathBuf,
    /// Where `/metrics` listens.
    pub metrics_listen: Option<SocketAddr>,
    /// A tracing filter, such as `info` or `sockerless_lambda=debug`.
    pub log_level: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// How often every container is looked at again.
    pub resync_interval: Duration,
    /// How often AWS is swept for drift and orphans.
    pub gc_interval: Duration,
    /// How long an orphan must have been seen before it is deleted.
    pub gc_grace: Duration,
    /// How long a shutdown waits for requests and acts in flight.
    pub drain_timeout: Duration,
    /// Lambda and CloudWatch Logs are the embedded sandbox.
    pub sandbox: bool,
    /// Where the sandbox looks for images, absolute.
    pub sandbox_images: Vec<PathBuf>,
    /// Takes a database that lost its claim (a copy, a restored backup) into use.
    pub adopt: bool,
}

impl Config {
    /// This region, this role, and the defaults: no file, no environment, no flag.
    ///
    /// # Errors
    ///
    /// When the region or the role breaks its rule.
    pub fn new(region: &str, role_arn: &str) -> Result<Self, ConfigError> {
        let flags =
            [(keys::REGION.name(), vec![region.to_owned()]), (keys::ROLE_ARN.name(), vec![role_arn.to_owned()])];
        let sources = Sources {
            file: None,
            system_file: PathBuf::new(),
            environment: Environment::default(),
            flags: Flags::from(flags),
            place: Place::System,
            sandbox_images: Vec::new(),
            adopt: false,
        };
        load(&sources).map(|loaded| loaded.config)
    }

    /// Where in AWS functions and claims are with these settings.
    #[must_use]
    pub fn binding(&self) -> Binding {
        let account = self.role_arn.split(':').nth(4).unwrap_or_default();
        Binding {
            function_prefix: self.function_prefix.clone(),
            region: self.region.clone(),
            account: if self.sandbox { SANDBOX_ACCOUNT } else { account }.to_owned(),
            claims_log_group: self.claims_log_group.clone(),
        }
    }
}

/// The files of TLS, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The daemon's certificate and what leads to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are let in; `None`: clients are not verified.
    pub client_authorities: Option<PathBuf>,
}

/// How the Docker spelling of the API answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerApi {
    /// As Docker's clients need it.
    #[default]
    Compatible,
    /// Exactly as the internal API.
    Strict,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://host:port`; port 0 takes a free one.
    Tcp(SocketAddr),
}

/// As it is written in the configuration.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
