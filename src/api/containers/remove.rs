//! Remove, prune and rename.

use http::StatusCode;

use super::named;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{limits, names};
use crate::state::model::ContainerId;
use crate::state::model::life::is_running;
use crate::state::{MAX_BATCH, Removed, Renamed, StateError};

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

/// Removes everything that is not running, a page at a time.
pub(in crate::api) async fn prune(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let filters = call.query.filters(&["until", "label", "label!"])?;
    let until = filters.until(now)?;
    let (mut deleted, mut below) = (String::new(), None);
    loop {
        let page = api.reader.containers(below, limits::CONTAINER_PAGE).await?;
        if page.next.is_none() {
            break;
        }
        below = page.next;
        // Whether one that cannot be read is running is not known.
        let wanted = page.readable().filter(|container| {
            filters.labels(&container.spec.config.labels)
                && until.is_none_or(|until| container.created_at < until)
                && !is_running(&container.spec, &container.status)
        });
        let wanted: Vec<ContainerId> = wanted.map(|container| container.id).collect();
        for batch in wanted.chunks(MAX_BATCH) {
            // The store refuses a container that was started meanwhile.
            for id in api.wishes.remove_idle(batch.to_vec(), now).await? {
                let comma = if deleted.is_empty() { "" } else { "," };
                deleted.push_str(&format!("{comma}\"{id}\""));
            }
        }
    }
    let text = format!("{{\"ContainersDeleted\":[{deleted}],\"SpaceReclaimed\":0}}\n");
    Ok(reply::text(StatusCode::OK, "application/json", text))
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
