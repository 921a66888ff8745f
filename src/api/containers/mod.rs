//! Containers: wishes in, facts out.

mod create;
mod feed;
mod lifecycle;
mod list;
mod remove;
mod show;
mod wait;

pub(super) use create::create;
pub(super) use feed::{Feed, Item, Unsent};
pub(super) use lifecycle::{kill, restart, start, stop};
pub(super) use list::list;
pub(super) use remove::{prune, remove, rename};
pub(super) use show::{inspect, stats};
pub(super) use wait::wait;

use super::ApiContext;
use super::call::Call;
use super::error::ApiError;
use crate::state::StateError;
use crate::state::model::{Container, ContainerId};

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
