//! Images as Docker's clients see them: what is known without a byte of them. PURE.

use serde_json::{Value, json};

use crate::api::reference::Reference;
use crate::state::Image;

/// One entry of the list; `tags` are all references of one image, newest first.
pub(in crate::api) fn image_item(tags: &[&Image], containers: usize) -> Value {
    json!({
        "Id": tags.first().map_or("", |image| image.id.as_str()),
        "ParentId": "",
        "RepoTags": repo_tags(tags),
        "RepoDigests": repo_digests(tags),
        "Created": created(tags).map_or(0, |image| image.created_at.as_secs()),
        "Size": 0,
        "SharedSize": 0,
        "VirtualSize": 0,
        "Labels": {},
        "Containers": containers,
    })
}

/// The answer to inspect.
pub(in crate::api) fn image_detail(tags: &[&Image], architecture: &str) -> Value {
    let created = created(tags).map(|image| image.created_at);
    json!({
        "Id": tags.first().map_or("", |image| image.id.as_str()),
        "RepoTags": repo_tags(tags),
        "RepoDigests": repo_digests(tags),
        "Parent": "",
        "Comment": "",
        "Created": created.unwrap_or_default().to_string(),
        "DockerVersion": "",
        "Author": "",
        "Config": {
            "User": "",
            "Env": [],
            "Cmd": null,
            "Entrypoint": null,
            "Volumes": null,
            "WorkingDir": "",
            "OnBuild": null,
            "Labels": {},
        },
        "Architecture": architecture,
        "Os": "linux",
        "Size": 0,
        "GraphDriver": { "Data": {}, "Name": "lambda" },
        "RootFS": { "Type": "layers", "Layers": [] },
        "Metadata": { "LastTagTime": created.unwrap_or_default().to_string() },
    })
}

/// The answer to history: one layer of which nothing is known.
pub(in crate::api) fn image_history(tags: &[&Image]) -> Value {
    json!([{
        "Id": tags.first().map_or("", |image| image.id.as_str()),
        "Created": created(tags).map_or(0, |image| image.created_at.as_secs()),
        "CreatedBy": "",
        "Tags": repo_tags(tags),
        "Size": 0,
        "Comment": "the image's layers are in its registry only",
    }])
}

fn created<'a>(tags: &[&'a Image]) -> Option<&'a Image> {
    tags.iter().copied().min_by_key(|image| image.created_at)
}

fn references(tags: &[&Image]) -> impl Iterator<Item = Reference> {
    tags.iter().filter_map(|image| Reference::parse(&image.reference).ok())
}

fn repo_tags(tags: &[&Image]) -> Vec<String> {
    references(tags).map(|reference| reference.familiar()).filter(|tag| !tag.contains('@')).collect()
}

fn repo_digests(tags: &[&Image]) -> Vec<String> {
    let known = tags.iter().filter_map(|image| {
        let reference = Reference::parse(&image.reference).ok()?;
        let digest = image.digest.as_deref()?;
        let digest = digest.rsplit_once('@').map_or(digest, |(_, digest)| digest);
        Some(format!("{}@{digest}", reference.familiar_name()))
    });
    let mut digests: Vec<String> =
        known.chain(references(tags).map(|reference| reference.familiar()).filter(|name| name.contains('@'))).collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}
