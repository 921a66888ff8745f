//! `docker inspect` and `docker stats` of one container.

use http::StatusCode;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::{image_id, read_named};
use crate::api::call::{Call, Room};
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply, Writer};
use crate::api::stream::json_line;
use crate::api::{limits, unsupported, wire};
use crate::state::StateError;
use crate::state::model::{Container, ContainerId};

/// All that is known of a container.
pub(in crate::api) async fn inspect(call: Call) -> Result<Reply, ApiError> {
    let mut shown = match read_named(&call).await {
        Ok(container) => wire::inspect(&container, &image_id(call.api(), &container).await?),
        Err(ApiError::State(StateError::Unreadable(dead))) => wire::dead_inspect(&dead),
        Err(error) => return Err(error),
    };
    if call.query.flag("size") {
        // No byte of a container is kept on this machine.
        shown["SizeRw"] = json!(0);
        shown["SizeRootFs"] = json!(0);
    }
    Ok(reply::ok(&shown))
}

/// What is known of the last run's use, once or, as Docker does unless told otherwise, every second.
pub(in crate::api) async fn stats(call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        return Err(unsupported::STATS.error());
    }
    let container = read_named(&call).await?;
    if call.query.get("stream").is_some() && !call.query.flag("stream") {
        return Ok(reply::ok(&wire::stats(&container, call.api().clock.now())));
    }
    let (writer, body) = reply::streamed();
    let room = call.room.clone();
    tokio::spawn(async move {
        let sampled = tokio::select! {
            sampled = sample(&room, container.id, &writer) => sampled,
            () = writer.gone() => return,
            () = room.stop.cancelled() => return,
        };
        match sampled {
            Ok(()) => writer.finish().await,
            Err(error) => tracing::error!(container = %container.id, %error, "a stream of samples was cut off"),
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

/// Samples until the container or the client has gone.
async fn sample(room: &Room, id: ContainerId, writer: &Writer) -> Result<(), StateError> {
    let api = &room.api;
    let mut seconds = tokio::time::interval(limits::STATS_INTERVAL);
    // A client that was slow is not given what it has missed, all at once.
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let turn = room.turn().await;
        let found = api.reader.container(&id).await?.filter(|container: &Container| !container.is_removed());
        drop(turn);
        let Some(container) = found else { return Ok(()) };
        if writer.send(json_line(&wire::stats(&container, api.clock.now()))).await.is_err() {
            return Ok(());
        }
    }
}
