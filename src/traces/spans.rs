//! The spans, and what may hang on what.
//!
//! A reconcile hangs on a request, and a run on a reconcile, by their ids alone: a span that is the parent of another one
//! inside this process is told to the collector only after all of its children, and a run may take a quarter of an hour.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::TARGET;
use crate::clock::Stopwatch;
use crate::state::model::ContainerId;

/// So long after the request a reconcile is part of its trace. Later ones begin a trace of their own, with a link: a trace
/// must end at some time, and a container may be looked at for months.
const TRACE_HOLDS: Duration = Duration::from_secs(3_600);
/// From here on a status is the daemon's own failure.
const SERVER_ERRORS: u16 = 500;

/// The request that a wish came from.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    request: SpanContext,
    since: Stopwatch,
}

impl Cause {
    /// The request that is being answered. `None`: nobody traces it.
    pub(crate) fn current() -> Option<Self> {
        let request = context_of(&Span::current());
        request.is_valid().then(|| Self { request, since: Stopwatch::start() })
    }

    fn is(&self, other: &Self) -> bool {
        self.request.span_id() == other.request.span_id()
    }
}

/// A turn of a container: a span, or one for each wish that the turn met.
pub(crate) struct Reconcile {
    id: ContainerId,
    cause: Option<Cause>,
    span: Span,
}

impl Reconcile {
    pub(crate) fn of(id: ContainerId) -> Self {
        Self { id, cause: None, span: Span::none() }
    }

    /// From here on the turn acts for the wish of this request. A request that nobody knows changes nothing.
    pub(crate) fn follow(&mut self, cause: Option<Cause>) {
        let is_new = match (&self.cause, &cause) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => !old.is(new),
        };
        if !is_new && !self.span.is_none() {
            return;
        }
        self.end();
        self.span = tracing::info_span!(
            target: TARGET, parent: None, "reconcile",
            container.id = %self.id, sockerless.because = Empty, otel.status_code = Empty,
        );
        if let Some(Cause { request, since }) = &cause {
            if since.elapsed() <= TRACE_HOLDS {
                below(&self.span, request.clone());
            } else {
                self.span.add_link(request.clone());
            }
        }
        self.cause = cause;
    }

    /// What the plan says of the next step.
    pub(crate) fn decided(&self, because: &'static str) {
        self.span.record("sockerless.because", because);
    }

    /// What the turn does now hangs on this.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The turn is over.
    pub(crate) fn ended(self, failed: bool) {
        if failed {
            self.span.record("otel.status_code", "ERROR");
        }
        self.end();
    }

    /// A span ends when it was left for the last time, which is now, and not when the last act was over.
    fn end(&self) {
        self.span.in_scope(|| ());
    }
}

/// A request that a route knows. A trace that the client has begun goes on.
pub(crate) fn request_span(method: &'static str, route: &'static str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET, parent: None, "request",
        otel.name = format!("{method} {route}"), otel.kind = "server", otel.status_code = Empty,
        http.request.method = method, http.route = route, http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        hang_on(&span, TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
    }
    span
}

/// The request has its answer.
pub(crate) fn request_answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= SERVER_ERRORS {
        span.record("otel.status_code", "ERROR");
    }
}

/// A run in flight, which hangs on the turn that began it.
pub(crate) fn run_span(id: &ContainerId) -> Span {
    let span = tracing::info_span!(target: TARGET, parent: None, "run", container.id = %id);
    let turn = context_of(&Span::current());
    if turn.is_valid() {
        below(&span, turn);
    }
    span
}

/// A call of AWS, from the moment that it is sent. `operation`: its name in words, as the metrics have it.
pub(crate) fn aws_call(service: &str, operation: &str) -> Span {
    tracing::info_span!(
        target: TARGET, "aws",
        otel.name = format!("{}/{}", service_name(service), method_name(operation)),
        otel.kind = "client", otel.status_code = Empty,
        rpc.system = "aws-api", rpc.service = service_name(service), rpc.method = method_name(operation),
        aws.request_id = Empty, error.type = Empty,
    )
}

/// AWS has answered, or there was no answer. `failure`: AWS's code, or our word where there is none.
pub(crate) fn aws_answered(span: &Span, failure: Option<&str>, request_id: Option<&str>) {
    if let Some(request_id) = request_id {
        span.record("aws.request_id", request_id);
    }
    if let Some(failure) = failure {
        span.record("error.type", failure);
        span.record("otel.status_code", "ERROR");
    }
}

/// As AWS's SDKs call the service.
fn service_name(service: &str) -> &str {
    match service {
        "lambda" => "Lambda",
        "logs" => "CloudWatch Logs",
        other => other,
    }
}

/// `create function` is CreateFunction.
fn method_name(operation: &str) -> String {
    if operation == "untag" {
        return "UntagResource".to_owned();
    }
    let mut name = String::with_capacity(operation.len());
    for word in operation.split(' ') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

fn context_of(span: &Span) -> SpanContext {
    span.context().span().span_context().clone()
}

fn below(span: &Span, parent: SpanContext) {
    hang_on(span, Context::new().with_remote_span_context(parent));
}

fn hang_on(span: &Span, parent: Context) {
    // It fails only for a span that nobody collects: ours have not begun when this is called.
    drop(span.set_parent(parent));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::{Clock, Timestamp};

    const ID: ContainerId = ContainerId::from_bytes([0; 32]);

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// The spans that end while this is done.
    fn spans_of(act: impl FnOnce()) -> Vec<SpanData> {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_context_activation(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        let spans = kept.0.lock().unwrap();
        spans.clone()
    }

    fn cause(route: &'static str) -> Cause {
        request_span("POST", route, &HeaderMap::new()).in_scope(Cause::current).unwrap()
    }

    fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
        spans.iter().filter(|span| span.name == name).collect()
    }

    #[test]
    fn a_turn_that_meets_another_wish_goes_on_under_its_request() {
        let spans = spans_of(|| {
            let (create, start) = (cause("/create"), cause("/start"));
            let mut turn = Reconcile::of(ID);
            turn.follow(Some(create.clone()));
            turn.span().in_scope(|| drop(aws_call("lambda", "create function")));
            turn.follow(Some(create));
            turn.follow(None);
            turn.follow(Some(start));
            turn.span().in_scope(|| drop(aws_call("lambda", "get function")));
            turn.span().in_scope(|| drop(run_span(&ID)));
            turn.ended(false);
        });
        let turns = named(&spans, "reconcile");
        assert_eq!(turns.len(), 2, "{spans:?}");
        for (turn, request) in turns.iter().zip(["POST /create", "POST /start"]) {
            let request = named(&spans, request)[0];
            assert_eq!(turn.parent_span_id, request.span_context.span_id());
            assert_eq!(turn.span_context.trace_id(), request.span_context.trace_id());
        }
        let parent = |name| named(&spans, name)[0].parent_span_id;
        assert_eq!(parent("Lambda/CreateFunction"), turns[0].span_context.span_id());
        assert_eq!(parent("Lambda/GetFunction"), turns[1].span_context.span_id());
        assert_eq!(parent("run"), turns[1].span_context.span_id());
    }

    #[test]
    fn a_turn_long_after_its_request_is_a_trace_with_a_link() {
        let clock = Clock::fixed(Timestamp::from_secs(0));
        let spans = spans_of(|| {
            let old = Cause { since: clock.stopwatch(), ..cause("/create") };
            clock.set(Timestamp::from_secs(0).after(TRACE_HOLDS + Duration::from_secs(1)));
            let mut turn = Reconcile::of(ID);
            turn.follow(Some(old));
            turn.ended(true);
        });
        let (turn, request) = (named(&spans, "reconcile")[0], named(&spans, "POST /create")[0]);
        assert_ne!(turn.span_context.trace_id(), request.span_context.trace_id());
        let links: Vec<_> = turn.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [request.span_context.span_id()]);
        assert!(matches!(turn.status, opentelemetry::trace::Status::Error { .. }), "{:?}", turn.status);
    }

    #[test]
    fn operations_have_the_names_that_aws_gave_them() {
        for (words, name) in [
            ("invoke", "Invoke"),
            ("create function", "CreateFunction"),
            ("put event invoke config", "PutEventInvokeConfig"),
            ("untag", "UntagResource"),
        ] {
            assert_eq!(method_name(words), name);
        }
        assert_eq!([service_name("lambda"), service_name("logs")], ["Lambda", "CloudWatch Logs"]);
    }

    #[test]
    fn without_a_collector_a_wish_has_no_cause() {
        let request = request_span("POST", "/create", &HeaderMap::new());
        assert!(request.in_scope(Cause::current).is_none());
    }
}
