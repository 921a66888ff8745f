//! What is wanted of a container. Written by the API only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Everything a user has wished for one container. A wish is a level, not a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Counts the wishes: every change of one of the fields below raises it.
    pub generation: u64,
    /// How often a start was wished. Start number `starts` is wanted until it has ended.
    pub starts: u64,
    /// When the last start was wished.
    pub started_at: Option<Timestamp>,
    /// Starts up to this number are not wanted any more, unless they were issued before.
    pub cancelled: u64,
    /// When the last cancellation was wished.
    pub cancelled_at: Option<Timestamp>,
    /// Since when the container is to be gone, with everything that belongs to it in AWS.
    pub remove: Option<Timestamp>,
    /// What was asked for at creation. Never changes.
    pub config: ContainerConfig,
}

impl Spec {
    /// The wish of a container that was just created.
    #[must_use]
    pub fn new(config: ContainerConfig) -> Self {
        Self { generation: 1, starts: 0, started_at: None, cancelled: 0, cancelled_at: None, remove: None, config }
    }
}

/// A container as it was created. The part of the configuration that it depends on is frozen here, so that a change of
/// the daemon's settings never changes a container.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The image as the client named it.
    pub image: String,
    /// The image as the store lists it: with registry, path and tag.
    pub image_reference: String,
    /// The image as Lambda is told.
    pub image_uri: String,
    /// Docker's `Entrypoint`; `None`: the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Docker's `Cmd`; `None`: the image's.
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where the program starts; `None`: where the image says.
    pub working_dir: Option<String>,
    /// Docker's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether output is one raw stream.
    pub tty: bool,
    /// Whether the container goes away by itself after its first run.
    pub auto_remove: bool,
    /// Whether a failed run is repeated.
    pub restart: RestartPolicy,
    /// How the function is made and invoked.
    pub function: FunctionSettings,
    /// Docker's `Config` as it was sent, for `inspect`.
    pub docker_config: serde_json::Value,
    /// Docker's `HostConfig` as it was sent, for `inspect`.
    pub docker_host_config: serde_json::Value,
}

impl ContainerConfig {
    /// A container of which nothing is known but what becomes of its function. It cannot be run.
    #[must_use]
    pub fn unknown(deletion_policy: DeletionPolicy) -> Self {
        Self {
            image: String::new(),
            image_reference: String::new(),
            image_uri: String::new(),
            entrypoint: None,
            cmd: None,
            env: Vec::new(),
            working_dir: None,
            labels: BTreeMap::new(),
            tty: false,
            auto_remove: false,
            restart: RestartPolicy::No,
            function: FunctionSettings {
                role_arn: String::new(),
                memory_mb: 0,
                timeout_s: 0,
                ephemeral_storage_mb: 0,
                architecture: Architecture::default(),
                protocol: Protocol::default(),
                invocation: InvocationKind::default(),
                event_age_s: 0,
                subnet_ids: Vec::new(),
                security_group_ids: Vec::new(),
                log_group: String::new(),
                payload: None,
                deletion_policy,
                unknown_outcome: UnknownOutcome::default(),
            },
            docker_config: serde_json::Value::Null,
            docker_host_config: serde_json::Value::Null,
        }
    }
}

/// Never prints the environment or the payload.
impl std::fmt::Debug for ContainerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerConfig").field("image", &self.image).finish_non_exhaustive()
    }
}

/// How a container's function is made and invoked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSettings {
    /// The function's execution role.
    pub role_arn: String,
    /// MB, 128 to 10,240.
    pub memory_mb: u32,
    /// Seconds, 1 to 900.
    pub timeout_s: u32,
    /// MB of /tmp, 512 to 10,240.
    pub ephemeral_storage_mb: u32,
    /// The processor's kind.
    pub architecture: Architecture,
    /// Who speaks the Runtime API inside the image.
    pub protocol: Protocol,
    /// How it is invoked.
    pub invocation: InvocationKind,
    /// Seconds that Lambda may keep an asynchronous event before it runs, 60 to 21,600.
    pub event_age_s: u32,
    /// VPC subnets; empty: no VPC.
    pub subnet_ids: Vec<String>,
    /// VPC security groups.
    pub security_group_ids: Vec<String>,
    /// The CloudWatch log group.
    pub log_group: String,
    /// JSON given to the invocation.
    pub payload: Option<String>,
    /// What becomes of the function when the container is removed.
    pub deletion_policy: DeletionPolicy,
    /// What follows when nobody can tell how a run ended.
    pub unknown_outcome: UnknownOutcome,
}

/// A processor architecture, in AWS's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "arm64")]
    Arm64,
}

/// Who speaks the Lambda Runtime API inside the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The bootstrap of this project: any program, exact exit codes.
    #[default]
    Bootstrap,
    /// The image's own Lambda runtime: the payload goes to its handler as it is.
    Native,
}

/// How Lambda is asked to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvocationKind {
    /// The answer comes when the run has ended, on the same connection.
    #[default]
    RequestResponse,
    /// Lambda queues the run and answers at once.
    Event,
}

/// What becomes of the function of a removed container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletionPolicy {
    /// It is deleted.
    #[default]
    Delete,
    /// It stays, without the tag that makes it ours.
    Retain,
}

/// What follows when nobody can tell how a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownOutcome {
    /// The run has ended with code 125: at most once.
    #[default]
    Fail,
    /// It is run again, though it may have run already: at least once.
    Rerun,
}

/// Docker's restart policy, as far as it makes sense for a run that ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// One run a start.
    #[default]
    No,
    /// Again after a failure, at most `max` times; 0: without limit.
    OnFailure {
        /// Docker's `MaximumRetryCount`.
        max: u32,
    },
}
