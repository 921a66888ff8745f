//! Remove, prune and rename.

use std::ops::ControlFlow;

use http::StatusCode;
use serde_json::json;

use super::named;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::names;
use crate::api::reply::{self, Reply};
use crate::state::model::life::is_running;
use crate::state::{Removed, Renamed, StateError};

/// Wants the container and all that belongs to it gone. It is invisible at once.
pub(in crate::api) async fn remove(call: Call) -> Result<Reply, ApiError> {
    let (api, force) = (call.api(), call.query.flag("force"));
    let removed = match named(&call).await {
        Ok(id) => api.wishes.remove(&id, force, api.clock.now()).await?,
        Err(ApiError::State(StateError::Unreadable(dead))) if force => {
            api.wishes.remove_unidentified(dead.seq, api.clock.now()).await?
        }
        Err(error) => return Err(error),
    };
    match removed {
        Removed::Recorded => Ok(reply::empty(StatusCode::NO_CONTENT)),
        Removed::Running => Err(ApiError::Conflict(format!(
            "cannot remove container \"{}\": container is running: stop the container before removing or force remove",
            call.param("id").trim_start_matches('/')
        ))),
        Removed::Unidentified => Err(ApiError::Conflict(format!(
            "cannot remove container \"{}\": its id cannot be read, and its function, which is to be kept, cannot be \
             released without it: delete its row from the database by hand",
            call.param("id").trim_start_matches('/')
        ))),
        Removed::NotFound => Err(super::gone(&call)),
    }
}

/// Removes everything that is not running.
pub(in crate::api) async fn prune(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let filters = call.query.filters(&["until", "label", "label!"])?;
    let until = filters.until(now)?;
    let mut wanted = Vec::new();
    super::each(api, |row| {
        // Whether one that cannot be read is running is not known.
        let Ok(container) = row else { return ControlFlow::Continue(()) };
        let is_wanted = filters.labels(&container.spec.config.labels)
            && until.is_none_or(|until| container.created_at < until)
            && !is_running(&container.spec, &container.status);
        wanted.extend(is_wanted.then_some(container.id));
        ControlFlow::Continue(())
    })
    .await?;
    let mut deleted = Vec::new();
    for id in wanted {
        // The store refuses a container that was started meanwhile.
        match api.wishes.remove(&id, false, now).await {
            Ok(Removed::Recorded) => deleted.push(id.to_string()),
            Err(StateError::Unreadable(_)) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reply::ok(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": 0 })))
}

/// Gives a container another name.
pub(in crate::api) async fn rename(call: Call) -> Result<Reply, ApiError> {
    let Some(name) = call.query.get("name") else {
        return Err(ApiError::BadRequest("Neither old nor new names may be empty".to_owned()));
    };
    let name = names::checked(name)?;
    let id = named(&call).await?;
    let api = call.api();
    match api.wishes.rename(&id, name, api.clock.now()).await? {
        Renamed::Recorded => Ok(reply::empty(StatusCode::NO_CONTENT)),
        Renamed::NameInUse { by } => Err(ApiError::Conflict(format!(
            "Error when allocating new name: {}",
            ApiError::NameInUse { name: name.to_owned(), by }
        ))),
        Renamed::NotFound => Err(super::gone(&call)),
    }
}
