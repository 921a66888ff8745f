//! The HTTP client below the SDK: one pool of connections for both services, and a witness on every request.
//!
//! After a call that failed one question decides everything: can AWS have seen it? The SDK's own error kinds do not
//! answer it, so the witness does. The pool tells which connection it chose for a request just before it hands the
//! request over; a request that failed before a connection was chosen was never sent.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_lambda::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_lambda::error::{BoxError, ConnectorError};
use aws_smithy_http_client::pool::{Client, ConnectionPool};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

/// A silent connection is probed after this time: NAT gateways and VPC endpoints forget connections that are idle for
/// 350 s (AWS, "NAT gateway basics"), and a synchronous Invoke is silent for up to 900 s.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// An unused connection is closed after this time. Short, since an Invoke on a connection that AWS is just closing
/// ends as "no answer", which is dearer than a new handshake.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// The client for the services. A plain `http://` address is the sandbox or another stand-in on this machine: no TLS,
/// and no proxy in between. The number of connections has no limit here: each carries one call, and the callers are
/// limited.
pub(super) fn http_client(endpoint_url: Option<&str>) -> SharedHttpClient {
    let pool = ConnectionPool::builder().tcp_keepalive(TCP_KEEPALIVE).idle_timeout(POOL_IDLE);
    let pool = if endpoint_url.is_some_and(|url| url.starts_with("http://")) {
        pool.build_http()
    } else {
        pool.proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build_https()
    };
    let client = pool.map_err(|error| error.to_string());
    let client = client.and_then(|pool| Client::new(&pool).map_err(|error| error.to_string()));
    SharedHttpClient::new(WitnessedClient { client })
}

/// A request that failed below the SDK.
#[derive(Debug)]
pub(super) struct SendFailure {
    /// Whether the request was given to a connection: if not, nothing was sent. If it was, nobody knows.
    pub(super) handed_over: bool,
    source: BoxError,
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.handed_over { "no answer came" } else { "nothing was sent" })
    }
}

impl Error for SendFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The pool's client, or why there is none: then every call fails without being sent.
#[derive(Debug)]
struct WitnessedClient {
    client: Result<Client, String>,
}

impl HttpClient for WitnessedClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = match &self.client {
            Ok(client) => Ok(client.http_connector(settings, components)),
            Err(reason) => Err(reason.clone()),
        };
        SharedHttpConnector::new(WitnessedConnector { connector })
    }
}

#[derive(Debug)]
struct WitnessedConnector {
    connector: Result<SharedHttpConnector, String>,
}

impl HttpConnector for WitnessedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let connector = match &self.connector {
            Ok(connector) => connector,
            Err(reason) => {
                return HttpConnectorFuture::ready(Err(failure(ConnectorError::io(reason.as_str().into()), false)));
            }
        };
        // The SDK may have put its own witness there; the pool speaks to one only.
        let chosen = request.extension::<CaptureSmithyConnection>().cloned().unwrap_or_else(|| {
            let chosen = CaptureSmithyConnection::new();
            request.add_extension(chosen.clone());
            chosen
        });
        let answer = connector.call(request);
        HttpConnectorFuture::new(async move { answer.await.map_err(|error| failure(error, chosen.get().is_some())) })
    }
}

fn failure(error: ConnectorError, handed_over: bool) -> ConnectorError {
    let wrap = if error.is_timeout() { ConnectorError::timeout } else { ConnectorError::io };
    wrap(SendFailure { handed_over, source: error.into_source() }.into())
}
