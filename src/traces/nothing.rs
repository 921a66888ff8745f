//! The words of `spans` in a build without the feature: they do nothing, and cost nothing.

use http::HeaderMap;
use tracing::Span;

use crate::state::model::ContainerId;

/// The request that a wish came from: none is known.
#[derive(Clone, Debug)]
pub(crate) struct Cause;

impl Cause {
    pub(crate) fn current() -> Option<Self> {
        None
    }
}

/// A turn of a container.
pub(crate) struct Reconcile;

impl Reconcile {
    pub(crate) fn of(_id: ContainerId) -> Self {
        Self
    }

    pub(crate) fn follow(&mut self, _cause: Option<Cause>) {}

    pub(crate) fn decided(&self, _because: &'static str) {}

    pub(crate) fn span(&self) -> Span {
        Span::none()
    }

    pub(crate) fn ended(self, _failed: bool) {}
}

pub(crate) fn request_span(_method: &'static str, _route: &'static str, _headers: &HeaderMap) -> Span {
    Span::none()
}

pub(crate) fn request_answered(_span: &Span, _status: u16) {}

pub(crate) fn run_span(_id: &ContainerId) -> Span {
    Span::none()
}

pub(crate) fn aws_call(_service: &str, _operation: &str) -> Span {
    Span::none()
}

pub(crate) fn aws_answered(_span: &Span, _failure: Option<&str>, _request_id: Option<&str>) {}
