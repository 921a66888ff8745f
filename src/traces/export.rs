//! To the collector: in batches, from a thread of the SDK's own.
//!
//! Whoever ends a span only puts it into a queue of 2,048 spans. While the collector is slow or away, what does not fit is
//! dropped: nobody waits for it.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use super::TARGET;
use super::settings::Settings;
use super::transport::Transport;
use crate::config::Environment;

/// The service's name, unless the environment gives another one.
const SERVICE: &str = "sockerless-backend-lambda";
/// What the SDK calls a service without a name.
const NAMELESS: &str = "unknown_service";
/// How long the last spans may take at the end.
const FLUSH_WAIT: Duration = Duration::from_secs(3);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A variable asks for what cannot be done. Its value stays out of the message: it may hold a password.
    #[error("{variable}: allowed is {allowed}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What it may say.
        allowed: &'static str,
    },
    /// The system's authorities cannot be read.
    #[error("traces: no certificate authorities: {0}")]
    Authorities(std::io::Error),
    /// The exporter cannot be made.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// What takes our spans to the collector that the environment names. `None`: it names none. To be called once, inside the
/// runtime.
pub(crate) fn layer(environment: &Environment) -> Result<Option<Box<dyn Layer<Registry> + Send + Sync>>, TracesError> {
    let Some(settings) = Settings::of(environment)? else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(settings.protocol)
        .with_timeout(settings.timeout)
        .with_endpoint(settings.endpoint.to_string())
        .with_http_client(Transport::new(&settings)?)
        .build()?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SERVICE))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false);
    // A second one would belong to a second subscriber, which is refused.
    drop(PROVIDER.set(provider));
    Ok(Some(layer.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO)).boxed()))
}

fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&Key::from_static_str("service.name"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match name {
        Some(name) if !name.as_str().starts_with(NAMELESS) => builder.build(),
        _ => builder.with_service_name(SERVICE).build(),
    }
}

/// Sends what is left, for a few seconds at most. To be called outside of the runtime, while that still runs.
pub fn finish() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(FLUSH_WAIT)
    {
        tracing::warn!(%error, "the last traces are lost");
    }
}
