//! HTTP to the collector, over the daemon's own stack: hyper and rustls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::crypto::aws_lc_rs;
use tokio::runtime::Handle;

use super::export::TracesError;
use super::settings::Settings;

type Answered = Result<Response<Bytes>, HttpError>;

/// Sends what the SDK's own thread gives it on the daemon's runtime, and says once when that fails, and when it goes again.
pub(super) struct Transport {
    client: Arc<dyn HttpClient>,
    runtime: Handle,
    collector: String,
    fails: Arc<AtomicBool>,
}

impl Transport {
    /// To be called inside the runtime.
    pub(super) fn new(settings: &Settings) -> Result<Self, TracesError> {
        let client: Arc<dyn HttpClient> = if settings.is_encrypted() {
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(aws_lc_rs::default_provider())
                .map_err(TracesError::Authorities)?
                .https_only()
                .enable_http1()
                .build();
            Arc::new(HyperClient::new(connector, settings.timeout, None))
        } else {
            Arc::new(HyperClient::with_default_connector(settings.timeout, None))
        };
        // Without a user and a password, which an address may carry.
        let collector = settings.endpoint.host().unwrap_or_default().to_owned();
        Ok(Self { client, runtime: Handle::current(), collector, fails: Arc::default() })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("collector", &self.collector).finish_non_exhaustive()
    }
}

impl HttpClient for Transport {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Answered> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = Arc::clone(&self.client);
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move {
            let answered = sent.await.unwrap_or_else(|error| Err(error.into()));
            self.tell(&answered);
            answered
        })
    }
}

impl Transport {
    fn tell(&self, answered: &Answered) {
        let failure = match answered {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        let collector = &self.collector;
        match (failure, failed_before) {
            (Some(error), false) => tracing::warn!(collector, error, "the collector takes no traces"),
            (None, true) => tracing::info!(collector, "the collector takes traces again"),
            _ => {}
        }
    }
}
