//! The container's output: read from CloudWatch Logs while somebody listens, never kept.

mod given;
mod lines;
mod listening;
mod names;
mod output;
mod queries;
mod reading;
mod session;
mod streams;

use http::StatusCode;

pub(super) use output::Wanted;
pub(super) use session::{History, Session};

use super::call::Call;
use super::containers;
use super::error::ApiError;
use super::limits;
use super::reply::{self, Reply};
use super::stream;
use crate::state::model::life::is_running;

/// `docker logs`.
pub(super) async fn logs(call: Call) -> Result<Reply, ApiError> {
    let wanted = wanted(&call)?;
    let container = containers::read_named(&call).await?;
    let config = &container.spec.config;
    let wanted = Wanted { bare: config.tty, ..wanted };
    let content_type = content_type(&call, config.tty);
    let follows = call.query.flag("follow") && !call.is_internal() && is_running(&container.spec, &container.status);
    let (writer, body) = reply::streamed();
    let mut session = Session::new(&call.room, container, wanted, writer, History::Shown);
    session.wait_for_the_rest = !call.is_internal();
    // What AWS refuses is still an answer with a status now; later it could only break off.
    session.begin().await?;
    if follows {
        session.listen();
    }
    tokio::spawn(async move {
        if follows {
            session.follow().await;
        } else {
            session.complete().await;
        }
    });
    Ok(reply::with_body(StatusCode::OK, content_type, body))
}

fn wanted(call: &Call) -> Result<Wanted, ApiError> {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::BadRequest("must specify at least one of 'stdout' or 'stderr'".to_owned()));
    }
    Ok(Wanted {
        stdout,
        stderr,
        since: query.unix_time("since")?,
        until: query.unix_time("until")?,
        tail: query.get("tail").and_then(|text| text.parse().ok()).filter(|lines| *lines <= limits::MAX_TAIL_LINES),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        bare: false,
    })
}

/// What a stream of output is announced as.
pub(super) fn content_type(call: &Call, tty: bool) -> &'static str {
    if tty || call.api_minor < limits::MULTIPLEXED_SINCE_MINOR { stream::RAW } else { stream::MULTIPLEXED }
}
