//! The daemon itself: ping, version, info, disk usage, credentials, capabilities.

use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::ApiContext;
use super::call::Call;
use super::error::ApiError;
use super::images;
use super::reply::{self, Reply};
use super::wire::{self, Counts};
use crate::state::model::Container;
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
    let instance = api.reader.instance().await?.id;
    let counts = counts(api, &api.reader.containers().await?).await?;
    if call.is_internal() {
        return Ok(reply::ok(&wire::internal_info(&api.config, &instance, counts)));
    }
    let problems = super::health::problems(&api.health, api.clock.now());
    let warnings: Vec<String> =
        problems.into_iter().map(|(check, reason)| format!("WARNING: {check}: {reason}")).collect();
    Ok(reply::ok(&wire::info(&api.config, &instance, counts, &warnings, api.clock.now())))
}

async fn counts(api: &ApiContext, containers: &[Container]) -> Result<Counts, ApiError> {
    Ok(Counts {
        containers: containers.len(),
        running: containers.iter().filter(|container| is_running(&container.spec, &container.status)).count(),
        images: api.reader.images().await?.len(),
    })
}

/// `docker system df`: everything is in AWS, so nothing takes place here.
pub(super) async fn disk_usage(call: Call) -> Result<Reply, ApiError> {
    let api = call.api();
    let now = api.clock.now();
    let containers = api.reader.containers().await?;
    let recorded = api.reader.images().await?;
    let id_of = |container: &Container| {
        let reference = images::canonical(&container.spec.config.image).unwrap_or_default();
        recorded.iter().find(|image| image.reference == reference).map_or("", |image| image.id.as_str())
    };
    let shown_containers: Vec<_> = containers
        .iter()
        .map(|container| {
            let mut item = wire::list_item(container, id_of(container), now);
            item["SizeRw"] = json!(0);
            item["SizeRootFs"] = json!(0);
            item["Health"] = json!({ "Status": "none", "FailingStreak": 0 });
            item
        })
        .collect();
    Ok(reply::ok(&json!({
        "LayersSize": 0,
        "Images": images::items(&recorded, &containers),
        "Containers": shown_containers,
        "Volumes": [],
        "BuildCache": [],
    })))
}

/// `docker login`: says what is true.
pub(super) async fn auth(mut call: Call) -> Result<Reply, ApiError> {
    call.json().await?;
    let status = "Credentials are not used: Lambda pulls images from Amazon ECR with its own role";
    Ok(reply::ok(&json!({ "Status": status, "IdentityToken": "" })))
}
