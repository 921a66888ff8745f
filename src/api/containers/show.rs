//! `docker inspect` and `docker stats` of one container.

use super::{image_id, read_named};
use crate::api::call::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::{unsupported, wire};

/// All that is known of a container.
pub(in crate::api) async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let container = read_named(&call).await?;
    let image_id = image_id(call.api(), &container).await?;
    Ok(reply::ok(&wire::inspect(&container, &image_id)))
}

/// One sample: Lambda tells nothing while a function runs, so a stream would only repeat it.
pub(in crate::api) async fn stats(call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        return Err(unsupported::STATS.error());
    }
    let container = read_named(&call).await?;
    Ok(reply::ok(&wire::stats(&container, call.api().clock.now())))
}
