//! Start, stop, kill and restart: wishes for runs.

use http::StatusCode;

use super::named;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::query::is_signal;
use crate::api::reply::{self, Reply};
use crate::state::{Cancelled, Started};

/// Wants one more run.
pub(in crate::api) async fn start(call: Call) -> Result<Reply, ApiError> {
    match wish_a_run(&call).await? {
        Started::AlreadyRunning => Ok(reply::empty(StatusCode::NOT_MODIFIED)),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

/// Starts what is not running. What is running cannot be stopped, so it cannot be restarted either.
pub(in crate::api) async fn restart(call: Call) -> Result<Reply, ApiError> {
    check_signal(&call, "restart")?;
    call.query.number("t")?;
    match wish_a_run(&call).await? {
        Started::AlreadyRunning => Err(ApiError::Conflict(format!(
            "cannot restart container {}: it is running, and Lambda cannot stop an invocation; wait for its end and \
             start it again",
            call.param("id")
        ))),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

/// `Recorded` or `AlreadyRunning`; everything else is an error.
async fn wish_a_run(call: &Call) -> Result<Started, ApiError> {
    let id = named(call).await?;
    let api = call.api();
    match api.wishes.start(&id, api.clock.now()).await? {
        Started::Refused(failure) => Err(ApiError::Terminal(failure)),
        Started::NotFound => Err(super::gone(call)),
        done => Ok(done),
    }
}

/// Wants the current start no more. Lambda cannot cancel an invocation, so an issued one runs on.
pub(in crate::api) async fn stop(call: Call) -> Result<Reply, ApiError> {
    check_signal(&call, "stop")?;
    call.query.number("t")?;
    match cancel(&call).await? {
        Cancelled::NotRunning if !call.is_internal() => Ok(reply::empty(StatusCode::NOT_MODIFIED)),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

/// As `stop`: there is nobody whom a signal could be sent to.
pub(in crate::api) async fn kill(call: Call) -> Result<Reply, ApiError> {
    check_signal(&call, "kill")?;
    match cancel(&call).await? {
        Cancelled::NotRunning if !call.is_internal() => {
            let (name, id) = (call.param("id"), named(&call).await?);
            Err(ApiError::Conflict(format!("cannot kill container: {name}: container {id} is not running")))
        }
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

async fn cancel(call: &Call) -> Result<Cancelled, ApiError> {
    let id = named(call).await?;
    let api = call.api();
    match api.wishes.cancel(&id, api.clock.now()).await? {
        Cancelled::NotFound => Err(super::gone(call)),
        done => Ok(done),
    }
}

fn check_signal(call: &Call, verb: &str) -> Result<(), ApiError> {
    match call.query.get("signal") {
        Some(signal) if !is_signal(signal) => Err(ApiError::BadRequest(format!(
            "cannot {verb} container: {}: invalid signal: {signal}",
            call.param("id")
        ))),
        _ => Ok(()),
    }
}
