//! Traces: a request, the reconciles that its wish caused and their calls of AWS hang together, and go to a collector by
//! OTLP.
//!
//! Only in a build with the cargo feature `otlp`, and only if OpenTelemetry's environment variables name a collector;
//! otherwise everything here does nothing. Any room may name this one, as it may name the metrics. Nothing is ever decided
//! by a trace: what caused what is known in memory only, and is lost with the process.
//!
//! Attributes carry names, numbers and AWS's codes. Never an environment, a payload, a command or a message.

#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
mod nothing;
#[cfg(feature = "otlp")]
mod settings;
#[cfg(feature = "otlp")]
mod spans;
#[cfg(feature = "otlp")]
mod transport;

#[cfg(feature = "otlp")]
pub(crate) use export::layer;
#[cfg(feature = "otlp")]
pub use export::{TracesError, finish};
#[cfg(not(feature = "otlp"))]
pub(crate) use nothing::{Cause, Reconcile, aws_answered, aws_call, request_answered, request_span, run_span};
#[cfg(feature = "otlp")]
pub(crate) use spans::{Cause, Reconcile, aws_answered, aws_call, request_answered, request_span, run_span};

use crate::config::Environment;

/// Marks our spans: they go to the collector, and log lines do without them. No module is named so.
pub(crate) const TARGET: &str = "sockerless_traces";
/// The address of a collector for traces alone, with its path.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// The address of a collector for everything.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// `true`: nothing is exported, whatever else is set.
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// `none`: no traces are exported.
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";

/// The variable that asks for traces, with its value. `None`: nothing is to be exported.
pub(crate) fn asked_for(environment: &Environment) -> Option<(&'static str, &str)> {
    let is = |name, value: &str| environment.get(name).is_some_and(|given| given.trim().eq_ignore_ascii_case(value));
    if is(DISABLED, "true") || is(EXPORTER, "none") {
        return None;
    }
    [TRACES_ENDPOINT, ENDPOINT].into_iter().find_map(|name| {
        let endpoint = environment.get(name)?.trim();
        (!endpoint.is_empty()).then_some((name, endpoint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        asked_for(&environment).map(|(name, value)| (name, value.to_owned()))
    }

    #[test]
    fn an_endpoint_asks_for_traces_unless_they_are_switched_off() {
        let general = (ENDPOINT, "http://collector:4318");
        let special = (TRACES_ENDPOINT, "http://collector:4318/traces");
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(ENDPOINT, " "), (TRACES_ENDPOINT, "")]), None);
        assert_eq!(asked(&[general]), Some((general.0, general.1.to_owned())));
        assert_eq!(asked(&[general, special]), Some((special.0, special.1.to_owned())));
        assert_eq!(asked(&[general, (DISABLED, "TRUE")]), None);
        assert_eq!(asked(&[general, (EXPORTER, "none")]), None);
        assert!(asked(&[general, (DISABLED, "false"), (EXPORTER, "otlp")]).is_some());
    }
}
