//! The daemon itself: ping, version, info, disk usage, credentials, capabilities.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::call::{Call, Room};
use super::containers::{Feed, Item, Unsent};
use super::error::ApiError;
use super::image_feed::ImageFeed;
use super::reply::{self, Body, Reply, Writer};
use super::wire;
use crate::clock::Timestamp;
use crate::state::{Image, Listed, Row, StateError};

/// Says that the daemon is there, and which API it speaks.
pub(super) async fn ping(_call: Call) -> Result<Reply, ApiError> {
    let mut reply = reply::text(StatusCode::OK, "text/plain; charset=utf-8", "OK");
    let headers = reply.headers_mut();
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(reply)
}

/// As `ping`, without the word: a length of 0, as moby says it.
pub(super) async fn ping_head(call: Call) -> Result<Reply, ApiError> {
    let mut reply = ping(call).await?;
    *reply.body_mut() = Body::Whole(None);
    Ok(reply)
}

/// What this backend can do, for a frontend.
pub(super) async fn capabilities(_call: Call) -> Result<Reply, ApiError> {
    Ok(reply::ok(&wire::capabilities()))
}

/// `docker version`.
pub(super) async fn version(call: Call) -> Result<Reply, ApiError> {
    Ok(reply::ok(&wire::version(&call.api().config)))
}

/// `docker info`.
pub(super) async fn info(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    // The rest is served without it; what is wrong stands among the problems.
    let instance = match api.reader.instance().await {
        Err(StateError::Unreadable(_) | StateError::Corrupt(_)) => "unreadable".to_owned(),
        found => found?.id,
    };
    let counts = api.reader.counts().await?;
    if call.is_internal() {
        return Ok(reply::ok(&wire::internal_info(&api.config, &instance, counts)));
    }
    let problems = super::health::problems(&api.health, api.clock.now());
    let warnings: Vec<String> =
        problems.into_iter().map(|(check, reason)| format!("WARNING: {check}: {reason}")).collect();
    Ok(reply::ok(&wire::info(&api.config, &instance, counts, &warnings, api.clock.now())))
}

/// `docker system df`: everything is in AWS, so nothing takes place here.
pub(super) async fn disk_usage(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let item = move |row: &Row<Listed>| Item::Shown(usage_item(row, now));
    let containers = Feed::begin(Arc::clone(&call.room), false, item).await?;
    let room = Arc::clone(&call.room);
    let (writer, body) = reply::streamed();
    tokio::spawn(async move {
        match send_usage(containers, room, &writer).await {
            Ok(()) => writer.finish().await,
            Err(Unsent::Gone) => {}
            Err(error) => tracing::error!(%error, "an answer about disk usage was cut off"),
        }
    });
    Ok(reply::with_body(StatusCode::OK, "application/json", body))
}

async fn send_usage(
    containers: Feed<impl FnMut(&Row<Listed>) -> Item + Send>,
    room: Arc<Room>,
    writer: &Writer,
) -> Result<(), Unsent> {
    writer.send("{\"LayersSize\":0,\"Volumes\":[],\"BuildCache\":[],\"Containers\":[").await?;
    containers.send(writer).await?;
    writer.send("],\"Images\":[").await?;
    ImageFeed::begin(room, |_: &[Image]| true).await?.send(writer).await?;
    Ok(writer.send("]}\n").await?)
}

fn usage_item(row: &Row<Listed>, now: Timestamp) -> Value {
    let mut item = match row {
        Ok(listed) => wire::list_item(&listed.container, listed.image_id.as_deref().unwrap_or_default(), now),
        Err(dead) => wire::dead_item(dead, now),
    };
    item["SizeRw"] = json!(0);
    item["SizeRootFs"] = json!(0);
    item["Health"] = json!({ "Status": "none", "FailingStreak": 0 });
    item
}

/// `docker login`: says what is true.
pub(super) async fn auth(mut call: Call) -> Result<Reply, ApiError> {
    call.json()?;
    let status = "Credentials are not used: Lambda pulls images from Amazon ECR with its own role";
    Ok(reply::ok(&json!({ "Status": status, "IdentityToken": "" })))
}
