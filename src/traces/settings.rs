//! OpenTelemetry's variables, as far as they say where traces go and how.
//!
//! What they ask for and this exporter cannot do stops the daemon, as a wrong value of the configuration does: who asks
//! for traces must not find out later that there are none. The SDK reads the others by itself: the service's name, the
//! resource's attributes, the sampler, the batches, the headers.

use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use opentelemetry_otlp::Protocol;

use super::export::TracesError;
use super::{ENDPOINT, EXPORTER, TRACES_ENDPOINT, asked_for};
use crate::config::Environment;

/// Where a collector takes traces, below its address.
const PATH: &str = "/v1/traces";
/// How long a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const COMPRESSION: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const WAIT: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
/// What is done by others: rustls reads the system's authorities, or those of SSL_CERT_FILE.
const CERTIFICATES: [&str; 6] = [
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
];

/// Where traces go, and how.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: Uri,
    pub(super) protocol: Protocol,
    pub(super) timeout: Duration,
}

impl Settings {
    /// What the environment asks for. `None`: nothing is to be exported.
    pub(super) fn of(environment: &Environment) -> Result<Option<Self>, TracesError> {
        let Some((variable, address)) = asked_for(environment) else { return Ok(None) };
        let one_of = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = environment.get(name)?.trim();
                (!value.is_empty()).then_some((*name, value))
            })
        };
        let wrong = |variable, allowed| Err(TracesError::Setting { variable, allowed });
        if let Some((variable, value)) = one_of(&[EXPORTER])
            && !value.eq_ignore_ascii_case("otlp")
        {
            return wrong(variable, "otlp or none");
        }
        if let Some((variable, value)) = one_of(&COMPRESSION)
            && !value.eq_ignore_ascii_case("none")
        {
            return wrong(variable, "none");
        }
        if let Some((variable, _)) = one_of(&CERTIFICATES) {
            return wrong(variable, "nothing: the authorities are the system's, or those in SSL_CERT_FILE");
        }
        let protocol = match one_of(&PROTOCOL) {
            None | Some((_, "http/protobuf")) => Protocol::HttpBinary,
            Some((_, "http/json")) => Protocol::HttpJson,
            Some((variable, _)) => return wrong(variable, "http/protobuf or http/json"),
        };
        let timeout = match one_of(&WAIT) {
            None => TIMEOUT,
            Some((variable, value)) => match value.parse() {
                Ok(millis) => Duration::from_millis(millis),
                Err(_) => return wrong(variable, "a number of milliseconds"),
            },
        };
        Ok(Some(Self { endpoint: endpoint(variable, address)?, protocol, timeout }))
    }

    /// Whether the collector is spoken to with TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.endpoint.scheme() == Some(&Scheme::HTTPS)
    }
}

/// The address for traces alone is taken as it is, the general one is completed: so says the specification.
fn endpoint(variable: &'static str, address: &str) -> Result<Uri, TracesError> {
    let whole = match variable {
        TRACES_ENDPOINT => address.to_owned(),
        _ => format!("{}{PATH}", address.trim_end_matches('/')),
    };
    let uri: Option<Uri> = whole.parse().ok();
    let usable = |uri: &Uri| {
        uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS) && uri.host().is_some()
    };
    let example = match variable {
        ENDPOINT => "an address such as http://localhost:4318",
        _ => "an address such as http://localhost:4318/v1/traces",
    };
    uri.filter(usable).ok_or(TracesError::Setting { variable, allowed: example })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: (&str, &str) = (ENDPOINT, "http://localhost:4318");

    fn settings(variables: &[(&str, &str)]) -> Result<Option<Settings>, TracesError> {
        Settings::of(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_general_address_is_completed_and_the_special_one_is_not() {
        for (variable, address, whole) in [
            (ENDPOINT, "http://localhost:4318", "http://localhost:4318/v1/traces"),
            (ENDPOINT, "https://otel.example/base/", "https://otel.example/base/v1/traces"),
            (TRACES_ENDPOINT, "http://localhost:4318/mine", "http://localhost:4318/mine"),
        ] {
            let settings = settings(&[(variable, address)]).unwrap().unwrap();
            assert_eq!(settings.endpoint.to_string(), whole);
            assert_eq!(settings.is_encrypted(), address.starts_with("https"));
            assert_eq!((settings.protocol, settings.timeout), (Protocol::HttpBinary, TIMEOUT));
        }
        assert!(settings(&[]).unwrap().is_none());
    }

    #[test]
    fn what_is_chosen_is_done() {
        let chosen = [BASE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")];
        let settings = settings(&chosen).unwrap().unwrap();
        assert_eq!((settings.protocol, settings.timeout), (Protocol::HttpJson, Duration::from_millis(250)));
    }

    #[test]
    fn what_cannot_be_done_is_said_with_the_variable() {
        for wrong in [
            (ENDPOINT, "localhost:4318"),
            (ENDPOINT, "ftp://localhost"),
            (TRACES_ENDPOINT, "/v1/traces"),
            (EXPORTER, "jaeger"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ] {
            let error = settings(&[BASE, wrong]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: allowed is ", wrong.0)), "{error}");
            assert!(!error.contains("localhost:4318\""), "values stay out: {error}");
        }
    }
}
