//! The SDK's clients, and what is set for all of their calls.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{
    AsyncSleep, Credentials, IdentityCache, Region, SharedAsyncSleep, SharedCredentialsProvider, Sleep,
    StalledStreamProtectionConfig,
};

use super::CloudSettings;
use super::transport;
use crate::clock::Clock;

/// A connection (name, TCP, TLS) is made within this time, or the call fails as unreachable.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// An answer to a call other than Invoke begins within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The body of such an answer may take this much longer.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Credentials are found within this time, or the call fails: a chain asks files, processes and addresses in turn.
const CREDENTIALS_WITHIN: Duration = Duration::from_secs(10);

/// The name that the SDK gives to credentials from our own settings.
const STATIC_PROVIDER: &str = "settings";

/// Clients of both services, over one pool of connections.
pub(super) async fn clients(
    settings: &CloudSettings,
    clock: &Clock,
) -> (aws_sdk_lambda::Client, aws_sdk_cloudwatchlogs::Client) {
    let sleep = SharedAsyncSleep::new(ByClock(clock.clone()));
    let shared = shared_config(settings).await;
    let http_client = transport::http_client(settings.endpoint_url.as_deref());
    let lambda = aws_sdk_lambda::config::Builder::from(&shared)
        .http_client(http_client.clone())
        .sleep_impl(sleep.clone())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(ANSWER_WITHIN, BODY_WITHIN))
        // It watches the speed of bodies; Invoke is silent for minutes, and every call has its time-out.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let logs = aws_sdk_cloudwatchlogs::config::Builder::from(&shared)
        .http_client(http_client)
        .sleep_impl(sleep)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(ANSWER_WITHIN, BODY_WITHIN))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    (aws_sdk_lambda::Client::from_conf(lambda.build()), aws_sdk_cloudwatchlogs::Client::from_conf(logs.build()))
}

/// Time-outs go by our clock.
#[derive(Debug)]
struct ByClock(Clock);

impl AsyncSleep for ByClock {
    fn sleep(&self, duration: Duration) -> Sleep {
        let clock = self.0.clone();
        Sleep::new(async move { clock.sleep(duration).await })
    }
}

/// With static credentials nothing is read from the environment or from files. Otherwise the SDK's own chain is used,
/// with its own connections and retries for finding credentials, which are asked for when the first call needs them;
/// the cache asks once, however many calls wait.
async fn shared_config(settings: &CloudSettings) -> SdkConfig {
    let region = Region::new(settings.region.clone());
    let Some((key_id, secret)) = &settings.static_credentials else {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(region)
            .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_WITHIN).build());
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        return loader.load().await;
    };
    let credentials = Credentials::new(key_id, secret, None, None, STATIC_PROVIDER);
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    builder.set_endpoint_url(settings.endpoint_url.clone());
    builder.build()
}

/// The time-outs of one call. The read time-out runs from the wait for a connection to the answer's header. The one for
/// the attempt bounds what the others leave out, credentials and body; it cannot tell whether the call was sent.
pub(super) fn timeouts(answer_within: Duration, body_within: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(answer_within)
        .operation_attempt_timeout(CREDENTIALS_WITHIN + answer_within + body_within)
        .build()
}
