//! Failures as a client sees them: a status and `{"message":"…"}`.

use http::StatusCode;
use serde_json::json;

use super::reply::{self, Reply};
use crate::aws::{AwsError, AwsErrorKind};
use crate::state::model::{ContainerId, Failure, FailureKind};
use crate::state::{ResolveError, StateError};

/// Why a request is not answered as it was meant.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request is wrong: a parameter, its JSON, a value that Lambda cannot take.
    #[error("{0}")]
    BadRequest(String),
    /// The request comes from a page of another site.
    #[error("requests from other origins are refused: {0}")]
    ForeignOrigin(String),
    /// The request names a host that this loopback listener does not have.
    #[error("the host {0} is not allowed here: use an IP address or localhost, or add it to allowed_hosts")]
    ForeignHost(String),
    /// There is no such container.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// There is no such image.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// There is no such thing of another kind.
    #[error("{0}")]
    NotFound(String),
    /// There is no such route.
    #[error("page not found")]
    NoSuchPage,
    /// Something else stands against it.
    #[error("{0}")]
    Conflict(String),
    /// The name of a new container is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name, without the slash.
        name: String,
        /// Who has it.
        by: ContainerId,
    },
    /// The backend cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// Docker's answer to everything about swarms.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NotASwarmManager,
    /// The request's line and headers are larger than the limit.
    #[error("the request's line and headers are larger than {0} bytes")]
    HeadTooLarge(usize),
    /// The body is larger than the limit.
    #[error("the request's body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// As many connections as can be taken over are taken over.
    #[error("too many clients are attached; try again when some have gone")]
    TooManyAttached,
    /// The body did not arrive in time.
    #[error("the request's body did not arrive within {0} seconds")]
    BodyTooSlow(u64),
    /// The body came too slowly while others needed the memory that it held.
    #[error("the request's body came too slowly, and was given up for others; try again")]
    BodyStalled,
    /// The last attempt failed, and trying again cannot help.
    #[error("{}", .0.message)]
    Terminal(Failure),
    /// AWS failed while logs were read.
    #[error("{0}")]
    Aws(Box<AwsError>),
    /// The store failed.
    #[error("{0}")]
    State(#[from] StateError),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl ApiError {
    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::ForeignOrigin(_) | Self::ForeignHost(_) => StatusCode::FORBIDDEN,
            Self::NoSuchContainer(_) | Self::NoSuchImage(_) | Self::NotFound(_) | Self::NoSuchPage => {
                StatusCode::NOT_FOUND
            }
            Self::Conflict(_) | Self::NameInUse { .. } => StatusCode::CONFLICT,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyAttached => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooSlow(_) | Self::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Self::NotASwarmManager => StatusCode::SERVICE_UNAVAILABLE,
            Self::Terminal(failure) => failure_status(failure.kind),
            Self::Aws(error) => aws_status(error.kind),
            Self::State(StateError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::State(StateError::Unreadable(_)) => StatusCode::CONFLICT,
            Self::State(StateError::Unstorable(_)) => StatusCode::BAD_REQUEST,
            Self::State(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer.
    pub(super) fn reply(&self) -> Reply {
        reply::json(self.status(), &json!({ "message": self.to_string() }))
    }

    /// What a name, id or prefix that a client gave came to.
    pub(super) fn resolving(text: &str, error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound => Self::NoSuchContainer(text.to_owned()),
            ResolveError::Ambiguous => Self::BadRequest(format!("multiple IDs found with provided prefix: {text}")),
            ResolveError::State(error) => Self::State(error),
        }
    }
}

/// The status of an AWS failure that the reconciler met.
fn failure_status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::AccessDenied => StatusCode::FORBIDDEN,
        FailureKind::NotFound | FailureKind::ImageNotFound => StatusCode::NOT_FOUND,
        FailureKind::Conflict => StatusCode::CONFLICT,
        FailureKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
        FailureKind::InvalidParameter
        | FailureKind::TooLarge
        | FailureKind::RoleNotReady
        | FailureKind::DependencyNotReady
        | FailureKind::Refused => StatusCode::BAD_REQUEST,
        FailureKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::ServiceError | FailureKind::FunctionFailed => StatusCode::BAD_GATEWAY,
        FailureKind::NoAnswer => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status of an AWS failure that we met ourselves.
impl From<AwsError> for ApiError {
    fn from(error: AwsError) -> Self {
        Self::Aws(Box::new(error))
    }
}

fn aws_status(kind: AwsErrorKind) -> StatusCode {
    match kind {
        AwsErrorKind::AccessDenied => StatusCode::FORBIDDEN,
        AwsErrorKind::NotFound | AwsErrorKind::ImageNotFound => StatusCode::NOT_FOUND,
        AwsErrorKind::Conflict => StatusCode::CONFLICT,
        AwsErrorKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
        AwsErrorKind::InvalidParameter
        | AwsErrorKind::TooLarge
        | AwsErrorKind::RoleNotReady
        | AwsErrorKind::DependencyNotReady
        | AwsErrorKind::Refused => StatusCode::BAD_REQUEST,
        AwsErrorKind::Credentials | AwsErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        AwsErrorKind::ServiceError | AwsErrorKind::EnvironmentNotReady => StatusCode::BAD_GATEWAY,
        AwsErrorKind::NoAnswer | AwsErrorKind::Malformed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aws_failure_keeps_its_meaning() {
        for (kind, status) in [
            (FailureKind::AccessDenied, 403),
            (FailureKind::NotFound, 404),
            (FailureKind::Conflict, 409),
            (FailureKind::Throttled, 429),
            (FailureKind::InvalidParameter, 400),
            (FailureKind::TooLarge, 400),
            (FailureKind::RoleNotReady, 400),
            (FailureKind::DependencyNotReady, 400),
            (FailureKind::ImageNotFound, 404),
            (FailureKind::Refused, 400),
            (FailureKind::FunctionFailed, 502),
            (FailureKind::Unreachable, 503),
            (FailureKind::ServiceError, 502),
            (FailureKind::NoAnswer, 500),
        ] {
            assert_eq!(failure_status(kind).as_u16(), status, "{kind:?}");
        }
        for (kind, status) in [
            (AwsErrorKind::AccessDenied, 403),
            (AwsErrorKind::NotFound, 404),
            (AwsErrorKind::Conflict, 409),
            (AwsErrorKind::Throttled, 429),
            (AwsErrorKind::InvalidParameter, 400),
            (AwsErrorKind::Credentials, 503),
            (AwsErrorKind::Unreachable, 503),
            (AwsErrorKind::ServiceError, 502),
            (AwsErrorKind::NoAnswer, 500),
        ] {
            assert_eq!(aws_status(kind).as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn messages_are_dockers() {
        let by: ContainerId = "ab".repeat(32).parse().unwrap();
        let taken = ApiError::NameInUse { name: "ax".to_owned(), by };
        assert_eq!(
            taken.to_string(),
            format!(
                "Conflict. The container name \"/ax\" is already in use by container \"{by}\". You have to remove \
                 (or rename) that container to be able to reuse that name."
            )
        );
        assert_eq!(ApiError::NoSuchContainer("x".to_owned()).to_string(), "No such container: x");
        assert_eq!(ApiError::NoSuchImage("x:1".to_owned()).to_string(), "No such image: x:1");
        let reply = ApiError::NoSuchPage.reply();
        assert_eq!(reply.status(), 404);
        assert_eq!(reply.headers()["content-type"], "application/json");
    }
}
