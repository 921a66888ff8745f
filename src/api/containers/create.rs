//! `POST /containers/create`: the wish for a container. The reconciler makes its function.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::admit::admit;
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{images, limits, names, reference};
use crate::state::model::{ContainerConfig, ContainerId};
use crate::state::{CreateRefused, MAX_CONTAINERS, NewContainer};

/// Characters of a shortened image id, which may stand for the image.
const SHORT_ID: usize = 12;
/// Characters of a whole image id.
const LONG_ID: usize = 64;

/// Creates a container.
pub(in crate::api) async fn create(mut call: Call) -> Result<Reply, ApiError> {
    let no_body = || ApiError::BadRequest("invalid JSON: got EOF while reading request body".to_owned());
    let mut body = call.json()?.ok_or_else(no_body)?;
    let name = call.query.get("name").map(names::checked).transpose()?.map(str::to_owned);
    name_image_of_id(&call, &mut body).await?;
    let tag = image_of_tag(&call, &mut body).await?;
    let platform =
        call.query.get("platform").or_else(|| body.get("Platform")?.as_str()).filter(|text| !text.is_empty());
    let mut admitted = admit(&body, platform, &call.api().config)?;
    if let Some(tag) = tag {
        admitted.config.image_reference = images::canonical(&tag)?;
        admitted.config.image = tag;
    }
    images::record(call.api(), &admitted.config.image_reference, "pull").await?;
    let id = match name {
        Some(name) => match record(&call, names::new_id()?, name.clone(), admitted.config).await? {
            Ok(id) => id,
            Err(by) => return Err(ApiError::NameInUse { name, by }),
        },
        None => record_with_random_name(&call, admitted.config).await?,
    };
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id.to_string(), "Warnings": admitted.warnings })))
}

/// Records the container, or tells who has the name.
async fn record(
    call: &Call,
    id: ContainerId,
    name: String,
    config: ContainerConfig,
) -> Result<Result<ContainerId, ContainerId>, ApiError> {
    let api = call.api();
    let new = NewContainer { id, name, at: api.clock.now(), config };
    Ok(match api.wishes.create(new).await? {
        Ok(container) => Ok(container.id),
        Err(CreateRefused::NameInUse { by }) => Err(by),
        Err(CreateRefused::Full) => {
            return Err(ApiError::Conflict(format!(
                "there are {MAX_CONTAINERS} containers, which is the most that are kept: remove some (docker container prune)"
            )));
        }
    })
}

async fn record_with_random_name(call: &Call, config: ContainerConfig) -> Result<ContainerId, ApiError> {
    let id = names::new_id()?;
    for draw in 0..limits::NAME_DRAWS {
        if let Ok(id) = record(call, id, names::random_name(draw)?, config.clone()).await? {
            return Ok(id);
        }
    }
    let name = names::name_of_last_resort(&id);
    record(call, id, name.clone(), config).await?.map_err(|by| ApiError::NameInUse { name, by })
}

/// An image may also be named by its id: then the newest reference that means it is taken.
async fn name_image_of_id(call: &Call, body: &mut Value) -> Result<(), ApiError> {
    let Some(text) = body.get("Image").and_then(Value::as_str) else { return Ok(()) };
    let looks_like_id = text.starts_with("sha256:") || matches!(text.len(), SHORT_ID | LONG_ID);
    if !looks_like_id || reference::id_prefix(text).is_none() {
        return Ok(());
    }
    let images = call.api().reader.images().await?;
    match images::by_id(&images, text).first() {
        Some(image) => body["Image"] = json!(images::familiar(&image.reference)),
        None if text.starts_with("sha256:") => return Err(ApiError::NoSuchImage(text.to_owned())),
        None => {}
    }
    Ok(())
}

/// A tag that was given here means the image that it was made of, which is what Lambda is told; gives the tag, under
/// which the container is shown.
async fn image_of_tag(call: &Call, body: &mut Value) -> Result<Option<String>, ApiError> {
    let Some(text) = body.get("Image").and_then(Value::as_str).map(str::to_owned) else { return Ok(None) };
    let Ok(canonical) = images::canonical(&text) else { return Ok(None) };
    let reader = &call.api().reader;
    let Some(image) = reader.image(&canonical).await?.filter(|image| !images::is_original(image)) else {
        return Ok(None);
    };
    let images = reader.images().await?;
    let original = images.iter().find(|other| other.id == image.id && images::is_original(other));
    let Some(original) = original else { return Ok(None) };
    body["Image"] = json!(images::familiar(&original.reference));
    Ok(Some(text))
}
