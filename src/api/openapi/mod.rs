//! The interface as an OpenAPI 3.1 document, for generating clients and for testing.
//!
//! It is made of three sources, none of which says what another one does: the route table has the paths, methods, spellings
//! and refusals; `operations.yaml` has parameters, bodies and statuses; `schemas.yaml` and `shape.rs` have the JSON.

mod document;
mod schemas;

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;

use super::call::Call;
use super::error::ApiError;
use super::reply::{self, Reply};
use document::DocumentError;

/// Made once: nothing in it changes while the daemon lives.
static DOCUMENT: LazyLock<Result<Bytes, DocumentError>> =
    LazyLock::new(|| document::document().map(|document| document.to_string().into()));

/// The document.
pub(super) async fn serve(_call: Call) -> Result<Reply, ApiError> {
    match &*DOCUMENT {
        Ok(text) => Ok(reply::text(StatusCode::OK, "application/json", text.clone())),
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be made");
            Err(ApiError::Internal("the OpenAPI document cannot be made"))
        }
    }
}
