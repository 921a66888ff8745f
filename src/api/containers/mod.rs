//! Containers: wishes in, facts out.

mod create;
mod lifecycle;
mod list;
mod remove;
mod show;
mod wait;

pub(super) use create::create;
pub(super) use lifecycle::{kill, restart, start, stop};
pub(super) use list::list;
pub(super) use remove::{prune, remove, rename};
pub(super) use show::{inspect, stats};
pub(super) use wait::wait;

use std::ops::ControlFlow;

use super::call::Call;
use super::error::ApiError;
use super::{ApiContext, limits};
use crate::state::model::{Container, ContainerId};
use crate::state::{Row, StateError};

/// The id of an image that is not recorded any more.
const NO_IMAGE_ID: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// The visible container that the path names.
pub(super) async fn named(call: &Call) -> Result<ContainerId, ApiError> {
    let text = call.param("id");
    call.api().reader.resolve(text).await.map_err(|error| ApiError::resolving(text, error))
}

/// As `named`, with all that is known of it.
pub(super) async fn read_named(call: &Call) -> Result<Container, ApiError> {
    let id = named(call).await?;
    match call.api().reader.container(&id).await {
        Err(StateError::Unreadable(row)) if row.removed => Err(gone(call)),
        found => found?.filter(|container| !container.is_removed()).ok_or_else(|| gone(call)),
    }
}

/// Looks at every visible container, those that cannot be read included, newest first, a page at a time, until `look`
/// breaks off.
pub(super) async fn each(
    api: &ApiContext,
    mut look: impl FnMut(Row<Container>) -> ControlFlow<()> + Send,
) -> Result<(), ApiError> {
    let mut below = None;
    loop {
        let page = api.reader.containers(below, limits::CONTAINER_PAGE).await?;
        if page.next.is_none() {
            return Ok(());
        }
        below = page.next;
        for container in page.rows {
            if look(container).is_break() {
                return Ok(());
            }
        }
    }
}

/// The container went away while the request was being answered.
pub(super) fn gone(call: &Call) -> ApiError {
    ApiError::NoSuchContainer(call.param("id").to_owned())
}

/// The id of a container's image.
async fn image_id(api: &ApiContext, container: &Container) -> Result<String, ApiError> {
    let Ok(reference) = super::images::canonical(&container.spec.config.image) else {
        return Ok(NO_IMAGE_ID.to_owned());
    };
    let image = api.reader.image(&reference).await?;
    Ok(image.map_or_else(|| NO_IMAGE_ID.to_owned(), |image| image.id))
}
