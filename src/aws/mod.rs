//! # AWS: Lambda and CloudWatch Logs in our words
//!
//! The only room that names the SDK. It knows nothing of containers, wishes or retries: one call in, one answer out,
//! each within its quota, each error mapped once. Nothing is tried twice here (SDK retries are off).
//! Knows no other room.
//!
//! `lambda` and `logs` have the calls, `call` what they have in common, `error` their failures, `classify` (pure) what AWS's
//! codes mean. `limits` (pure) and `gates` keep them within the quotas. `connect` and `transport` set up the SDK, `convert` translates.

mod call;
mod classify;
mod connect;
mod convert;
mod error;
mod gates;
mod lambda;
mod limits;
mod logs;
mod probe;
mod transport;
mod types;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use gates::{Gates, Quota, Reserved};

#[cfg(all(test, feature = "sandbox"))]
pub(crate) use error::kind_of_answer;
pub use gates::Need;
pub use limits::Lane;
pub use probe::FirstAnswer;
pub use types::{
    AwsError, AwsErrorKind, CallHook, CallPoint, FailedUpdate, FunctionDescription, FunctionPage, FunctionShape,
    HookedCall, InvokeReply, InvokeRequest, LogEvent, LogGroupNeeds, LogPage, LogQuery, NewFunction, ReadLogs,
    ReadLogsFuture, StreamNames,
};

/// What is needed to reach AWS, or the sandbox.
#[derive(Clone, PartialEq)]
pub struct CloudSettings {
    /// The region.
    pub region: String,
    /// Where both services are, instead of the region's own addresses.
    pub endpoint_url: Option<String>,
    /// Key id and secret, the sandbox's: then the environment, files and other sources are not asked.
    pub static_credentials: Option<(String, String)>,
    /// Our part of the account's control-plane quotas: above 0, at most 1.
    pub api_share: f64,
}

/// Never prints the credentials.
impl std::fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudSettings")
            .field("region", &self.region)
            .field("endpoint_url", &self.endpoint_url)
            .field("api_share", &self.api_share)
            .finish_non_exhaustive()
    }
}

/// What a test may put in the place of the world around the calls. In a daemon: the machine's clock, and no hook.
#[derive(Clone, Default)]
pub struct CloudSeams {
    /// The time of quotas and time-outs.
    pub clock: Clock,
    /// Called around each call.
    pub hook: Option<CallHook>,
}

/// AWS. Every method waits for its turn within the quota, makes one call (those that say so: a few), and answers.
/// Whoever drops the future while it waits has not called.
#[derive(Clone)]
pub struct Cloud {
    lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    gates: Arc<Gates>,
    hook: Option<CallHook>,
    lane: Lane,
    calls: Arc<AtomicU64>,
    /// Tokens of calls that this handle and its clones will make.
    reserved: Arc<Mutex<Vec<Reserved>>>,
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Cloud {
    /// Sets up the clients. Never fails and calls nobody: credentials are looked for by the first call.
    /// Starts in [`Lane::User`].
    pub async fn connect(settings: &CloudSettings) -> Self {
        Self::connect_with(settings, CloudSeams::default()).await
    }

    /// As [`Cloud::connect`], with another world around the calls.
    pub async fn connect_with(settings: &CloudSettings, seams: CloudSeams) -> Self {
        let CloudSeams { clock, hook } = seams;
        let (lambda, logs) = connect::clients(settings, &clock).await;
        let gates = Arc::new(Gates::new(settings.api_share, &clock));
        Self { lambda, logs, gates, hook, lane: Lane::User, calls: Arc::default(), reserved: Arc::default() }
    }

    /// How many calls were made, in all lanes.
    #[must_use]
    pub fn calls_made(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A handle that holds the tokens for what `need` says: its calls do not wait. Never waits; all tokens or none, and
    /// those that are not used are given back when the handle and its clones are dropped.
    ///
    /// # Errors
    /// How long no token comes free, at least. `waited`: how long the caller has waited for them, for the metrics.
    pub(crate) fn reserve(&self, need: Need, lane: Lane, waited: Duration) -> Result<Self, Duration> {
        let reserved = self.gates.reserve(need, lane, waited)?;
        Ok(Self { lane, reserved: Arc::new(Mutex::new(reserved)), ..self.clone() })
    }

    fn take_reserved(&self, quota: Quota) -> Option<Reserved> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let at = reserved.iter().position(|reserved| reserved.quota() == quota)?;
        Some(reserved.swap_remove(at))
    }

    /// The same connections and quotas, for calls on another behalf.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> Self {
        Self { lane, ..self.clone() }
    }
}
