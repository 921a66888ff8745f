//! The daemon itself: ping, version, info, disk usage, credentials, capabilities.

use std::collections::HashMap;
use std::ops::ControlFlow;

use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::images::{self, Users};
use super::reply::{self, Body, Reply};
use super::wire::{self, Counts};
use super::{ApiContext, containers};
use crate::state::StateError;
use crate::state::model::life::is_running;

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
    let counts = counts(api).await?;
    if call.is_internal() {
        return Ok(reply::ok(&wire::internal_info(&api.config, &instance, counts)));
    }
    let problems = super::health::problems(&api.health, api.clock.now());
    let warnings: Vec<String> =
        problems.into_iter().map(|(check, reason)| format!("WARNING: {check}: {reason}")).collect();
    Ok(reply::ok(&wire::info(&api.config, &instance, counts, &warnings, api.clock.now())))
}

async fn counts(api: &ApiContext) -> Result<Counts, ApiError> {
    let mut counts = Counts { containers: 0, running: 0, images: api.reader.images().await?.len() };
    containers::each(api, |row| {
        counts.containers += 1;
        counts.running += usize::from(row.is_ok_and(|container| is_running(&container.spec, &container.status)));
        ControlFlow::Continue(())
    })
    .await?;
    Ok(counts)
}

/// `docker system df`: everything is in AWS, so nothing takes place here.
pub(super) async fn disk_usage(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let recorded = api.reader.images().await?;
    let ids: HashMap<&str, &str> = recorded.iter().map(|image| (image.reference.as_str(), image.id.as_str())).collect();
    let (mut shown_containers, mut users) = (Vec::new(), Users::default());
    containers::each(api, |row| {
        let mut item = match row {
            Ok(container) => {
                let reference = users.count(&container);
                let id = reference.and_then(|reference| ids.get(reference.as_str()).copied()).unwrap_or_default();
                wire::list_item(&container, id, now)
            }
            Err(dead) => wire::dead_item(&dead, now),
        };
        item["SizeRw"] = json!(0);
        item["SizeRootFs"] = json!(0);
        item["Health"] = json!({ "Status": "none", "FailingStreak": 0 });
        shown_containers.push(item);
        ControlFlow::Continue(())
    })
    .await?;
    Ok(reply::ok(&json!({
        "LayersSize": 0,
        "Images": images::items(&recorded, &users),
        "Containers": shown_containers,
        "Volumes": [],
        "BuildCache": [],
    })))
}

/// `docker login`: says what is true.
pub(super) async fn auth(mut call: Call) -> Result<Reply, ApiError> {
    call.json()?;
    let status = "Credentials are not used: Lambda pulls images from Amazon ECR with its own role";
    Ok(reply::ok(&json!({ "Status": status, "IdentityToken": "" })))
}
