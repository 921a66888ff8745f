//! What kind of AWS the sandbox plays: names, images, delays, quotas and faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::faults::Faults;
use crate::images::OwnImage;
use crate::images::names::Name;

/// Everything that the model's behaviour depends on, but for the calls and their times.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region in every ARN.
    pub region: String,
    /// The twelve digits of the account in every ARN.
    pub account_id: String,
    /// Where the random numbers (ids, delays within their span, probabilities) start.
    pub seed: u64,
    /// What "ECR" has: `name:tag` to image.
    pub images: BTreeMap<String, Image>,
    /// The processor of this machine, in Lambda's words: images for others cannot run.
    pub machine: String,
    /// A function with this tag gets the runner's bootstrap in front of its image's program; every other image with
    /// files of its own is started as it is, as in AWS.
    pub front_tag: Option<(String, String)>,
    /// How long things take.
    pub timing: Timing,
    /// How much is allowed.
    pub quotas: Quotas,
    /// What goes wrong from the start; can be replaced while the sandbox runs.
    pub faults: Faults,
    /// How failed invocations look in logs of the Text format.
    pub log_style: LogStyle,
}

/// An image that functions can be made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Where its files are.
    pub source: ImageSource,
    /// A function of this image ends in the state `Failed`, with this reason; `None`: it becomes `Active`.
    pub fails: Option<StateReason>,
    /// CreateFunction is refused because Lambda may not read the image.
    pub access_denied: bool,
}

/// Where an image's files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// This machine's own file system, with the runner's bootstrap in front.
    #[default]
    Host,
    /// The image's own, in each of its architectures.
    Own(Vec<Arc<OwnImage>>),
}

/// Why a function is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateReason {
    /// One of Lambda's `StateReasonCode`s, such as `ImageDeleted`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// How a failed invocation shows in logs of the Text format. Both are seen in AWS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStyle {
    /// The REPORT line carries `Status:` and, for errors, `Error Type:`.
    #[default]
    Status,
    /// The REPORT line carries no status; a line before END or after REPORT tells the failure.
    Lines,
}

/// A duration that is drawn anew each time, from `min` to `max` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The shortest, in milliseconds.
    pub min: i64,
    /// The longest, in milliseconds.
    pub max: i64,
}

impl Span {
    /// Always the same.
    #[must_use]
    pub const fn exactly(ms: i64) -> Self {
        Self { min: ms, max: ms }
    }

    /// From `min` to `max` milliseconds.
    #[must_use]
    pub const fn between(min: i64, max: i64) -> Self {
        Self { min, max }
    }
}

/// How long things take, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From CreateFunction to `Active` or `Failed`.
    pub pending: Span,
    /// From an update to `Successful`.
    pub update: Span,
    /// From a log line to its visibility in CloudWatch Logs.
    pub log_delivery: Span,
    /// By how much `lastEventTimestamp` of DescribeLogStreams lags.
    pub stream_index_lag: i64,
    /// From the answer to an Event invocation to its first try.
    pub event_delay: Span,
    /// From a failed try of an Event to the next one: the first and the second wait.
    pub event_error_retry: [i64; 2],
    /// Between tries of an Event that found no free concurrency.
    pub event_throttle_retry: Span,
    /// How long an unused environment is kept.
    pub environment_idle: i64,
    /// How long an environment may take until it asks for its first invocation, on top of the function's timeout.
    pub init_limit: i64,
    /// How long an unused function stays Active; `None`: for ever. Lambda's is several weeks.
    pub inactive_after: Option<i64>,
}

impl Timing {
    const INSTANT: Self = Self {
        pending: Span::exactly(0),
        update: Span::exactly(0),
        log_delivery: Span::exactly(0),
        stream_index_lag: 0,
        event_delay: Span::exactly(0),
        event_error_retry: [0, 0],
        event_throttle_retry: Span::exactly(10),
        environment_idle: 300_000,
        init_limit: 10_000,
        inactive_after: None,
    };
    const QUICK: Self = Self {
        pending: Span::exactly(300),
        update: Span::exactly(200),
        log_delivery: Span::between(250, 350),
        stream_index_lag: 5_000,
        event_delay: Span::between(5, 30),
        event_error_retry: [1_000, 2_000],
        event_throttle_retry: Span::between(200, 1_000),
        ..Self::INSTANT
    };
    const REALISTIC: Self = Self {
        pending: Span::between(2_000, 20_000),
        update: Span::between(1_000, 10_000),
        log_delivery: Span::between(1_000, 10_000),
        stream_index_lag: 3_600_000,
        event_delay: Span::between(20, 500),
        event_error_retry: [60_000, 120_000],
        event_throttle_retry: Span::between(1_000, 300_000),
        environment_idle: 600_000,
        init_limit: 10_000,
        inactive_after: Some(30 * 86_400_000),
    };
}

/// How much is allowed. Rates are requests per second; each bucket also holds one second's worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Quotas {
    /// Whether rates are enforced at all; the concurrency and the sizes always are.
    pub enforced: bool,
    /// All control-plane calls of Lambda together, but for GetFunction.
    pub control_plane: f64,
    /// GetFunction.
    pub get_function: f64,
    /// Invoke, per unit of `concurrency`.
    pub invoke_per_concurrency: f64,
    /// Invocations that may run at the same time in the account.
    pub concurrency: usize,
    /// GetLogEvents.
    pub get_log_events: f64,
    /// FilterLogEvents.
    pub filter_log_events: f64,
    /// DescribeLogStreams.
    pub describe_log_streams: f64,
    /// PutLogEvents.
    pub put_log_events: f64,
    /// Every other call of CloudWatch Logs, each kind on its own.
    pub other_logs: f64,
    /// The largest MemorySize of this account, in MB; some accounts are capped at 3008.
    pub memory_mb: u32,
    /// How many stored events one FilterLogEvents call looks at before it answers with a token.
    pub filter_scan_events: usize,
}

impl Quotas {
    const AWS: Self = Self {
        enforced: true,
        control_plane: 15.0,
        get_function: 100.0,
        invoke_per_concurrency: 10.0,
        concurrency: 1_000,
        get_log_events: 10.0,
        filter_log_events: 5.0,
        describe_log_streams: 25.0,
        put_log_events: 5_000.0,
        other_logs: 10.0,
        memory_mb: 10_240,
        filter_scan_events: 10_000,
    };
}

/// The built-in image: this machine's own file system.
pub const HOST_IMAGE: &str = "host:latest";

impl Settings {
    /// For people who try the daemon: short delays, AWS's quotas.
    #[must_use]
    pub fn quick() -> Self {
        Self::with(Timing::QUICK, Quotas::AWS)
    }

    /// For tests: no delays, no rates.
    #[must_use]
    pub fn instant() -> Self {
        Self::with(Timing::INSTANT, Quotas { enforced: false, ..Quotas::AWS })
    }

    /// Delays as they are in AWS, as far as they are known, and AWS's quotas.
    #[must_use]
    pub fn realistic() -> Self {
        Self::with(Timing::REALISTIC, Quotas::AWS)
    }

    fn with(timing: Timing, quotas: Quotas) -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            seed: 1,
            images: BTreeMap::from([(HOST_IMAGE.to_owned(), Image::default())]),
            machine: machine().to_owned(),
            front_tag: None,
            timing,
            quotas,
            faults: Faults::default(),
            log_style: LogStyle::Status,
        }
    }

    /// Finds an image by its URI in any spelling; the tag defaults to `latest`. Of an image without files of its own,
    /// every digest stands for the tag `latest`. Gives the key in [`Settings::images`] too.
    #[must_use]
    pub fn image(&self, uri: &str) -> Option<(&str, &Image)> {
        let name = Name::parse(uri)?;
        let found = match &name.digest {
            None => self.images.get_key_value(&name.key()),
            Some(digest) => self.images.iter().find(|(key, image)| match &image.source {
                ImageSource::Host => **key == format!("{}:latest", name.repository),
                ImageSource::Own(images) => {
                    key.rsplit_once(':').is_some_and(|(repository, _)| repository == name.repository)
                        && images.iter().any(|image| image.digest == *digest)
                }
            }),
        };
        found.map(|(key, image)| (key.as_str(), image))
    }
}

/// The processor that this program was built for, in Lambda's words.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names() {
        let settings = Settings::instant();
        for uri in ["host", "host:latest", "000000000000.dkr.ecr.us-east-1.amazonaws.com/host:latest", "host@sha256:00"]
        {
            assert!(settings.image(uri).is_some(), "{uri}");
        }
        for uri in ["", "host:1", "hosts", "host/other", "registry/other:latest"] {
            assert!(settings.image(uri).is_none(), "{uri}");
        }
    }

    #[test]
    fn an_image_with_files_is_found_by_its_digest() {
        let mut settings = Settings::instant();
        let own = |digest: &str| {
            let image = Arc::new(OwnImage { digest: digest.to_owned(), ..OwnImage::default() });
            Image { source: ImageSource::Own(vec![image]), ..Image::default() }
        };
        settings.images.insert("busybox:1".to_owned(), own("aa"));
        settings.images.insert("busybox:latest".to_owned(), own("bb"));
        let key = |uri| settings.image(uri).map(|(key, _)| key);
        assert_eq!(key("docker.io/library/busybox:1"), Some("busybox:1"));
        assert_eq!(key("busybox@sha256:bb"), Some("busybox:latest"));
        assert_eq!(key("busybox:latest@sha256:aa"), Some("busybox:1"));
        assert_eq!(key("busybox@sha256:cc"), None);
        assert_eq!(key("other@sha256:aa"), None);
    }
}
