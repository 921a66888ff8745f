//! `docker save` archives: a tar with `manifest.json`.

use std::path::Path;

use serde::Deserialize;

use super::blob::Holder;
use super::manifest;
use super::{OwnImage, Problem};

/// Every archive of `docker save` has it.
pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image with its names.
type Named = (Vec<String>, OwnImage);

/// The images of an archive with their names.
pub(super) fn images(holder: &Holder) -> Result<(Vec<Named>, Vec<Problem>), Problem> {
    let all: Vec<Saved> = manifest::parse(holder, MANIFEST)?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for saved in all {
        match read_image(holder, &saved) {
            Ok(image) => found.push((saved.repo_tags.unwrap_or_default(), image)),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((found, problems))
}

fn read_image(holder: &Holder, saved: &Saved) -> Result<OwnImage, Problem> {
    let mut layers = Vec::new();
    for name in saved.layers.iter().flatten() {
        let blob = holder.find(name).ok_or_else(|| holder.problem(format!("{name} is missing")))?;
        layers.push((blob, None));
    }
    let digest = digest_of(&saved.config)
        .ok_or_else(|| holder.problem(format!("{} is not named by the image's digest", saved.config)))?;
    manifest::image(holder, digest, (&saved.config, digest), layers)
}

/// `DIGEST.json`, or `blobs/sha256/DIGEST` since Docker 25.
fn digest_of(config: &str) -> Option<&str> {
    let name = Path::new(config).file_name()?.to_str()?;
    let digest = name.strip_suffix(".json").unwrap_or(name);
    let is_digest = digest.len() == 64 && digest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then_some(digest)
}
