//! OCI image layouts: `oci-layout`, `index.json` and blobs by digest, in a directory or in a tar.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, Digest, DigestAlgorithm, ImageIndex, ImageManifest, MediaType};

use super::blob::Holder;
use super::manifest;
use super::{OwnImage, Problem};

/// Every layout has it.
pub(super) const INDEX: &str = "index.json";
/// How deep an index may lie in another.
const MAX_DEPTH: usize = 3;
/// How many manifests and indexes of a layout are read: an index may name another one many times over.
const MAX_MANIFESTS: usize = 10_000;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image of a layout, in all its architectures.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Option<Given>,
    pub(super) images: Vec<OwnImage>,
}

/// How a layout names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// By its whole name.
    Name(String),
    /// By one word, which may be the name or the tag.
    Word(String),
}

/// All images of a layout.
pub(super) fn images(holder: &Holder) -> Result<(Vec<Found>, Vec<Problem>), Problem> {
    let index: ImageIndex = manifest::parse(holder, INDEX)?;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut left = MAX_MANIFESTS;
    for descriptor in index.manifests() {
        let mut images = Vec::new();
        match collect(holder, descriptor, &mut images, MAX_DEPTH, &mut left) {
            Ok(()) if images.is_empty() => {}
            Ok(()) => found.push(Found { name: given(descriptor.annotations().as_ref()), images }),
            Err(problem) => problems.push(problem),
        }
        if left == 0 {
            break;
        }
    }
    Ok((found, problems))
}

fn given(annotations: Option<&HashMap<String, String>>) -> Option<Given> {
    let annotation = |name| annotations?.get(name).filter(|value| !value.is_empty()).cloned();
    annotation(CONTAINERD_NAME).map(Given::Name).or_else(|| {
        let reference = annotation(REF_NAME)?;
        Some(if reference.contains(['/', ':', '@']) { Given::Name(reference) } else { Given::Word(reference) })
    })
}

/// The images behind a descriptor: its own, or those of an index. What is no image (signatures, attestations) is left
/// out.
fn collect(
    holder: &Holder,
    descriptor: &Descriptor,
    images: &mut Vec<OwnImage>,
    depth: usize,
    left: &mut usize,
) -> Result<(), Problem> {
    let too_many = || holder.problem(format!("it names more than {MAX_MANIFESTS} manifests"));
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    let path = blob_path(holder, descriptor.digest())?;
    match kind(descriptor.media_type()) {
        Kind::Index if depth > 0 => {
            let index: ImageIndex = manifest::parse_verified(holder, &path, descriptor.digest().digest())?;
            for inner in index.manifests().iter().filter(|inner| is_for_a_machine(inner)) {
                collect(holder, inner, images, depth - 1, left)?;
            }
            Ok(())
        }
        Kind::Index => Err(holder.problem("its indexes lie too deep in each other")),
        Kind::Manifest => {
            images.extend(read_image(holder, descriptor, &path)?);
            Ok(())
        }
        Kind::Other => Ok(()),
    }
}

/// BuildKit's attestations are for the platform `unknown/unknown`.
fn is_for_a_machine(descriptor: &Descriptor) -> bool {
    descriptor.platform().as_ref().is_none_or(|platform| platform.os().to_string() != "unknown")
}

fn read_image(holder: &Holder, descriptor: &Descriptor, path: &str) -> Result<Option<OwnImage>, Problem> {
    let digest = descriptor.digest().digest();
    let manifest: ImageManifest = manifest::parse_verified(holder, path, digest)?;
    if !is_configuration(manifest.config().media_type()) {
        return Ok(None);
    }
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        let path = blob_path(holder, layer.digest())?;
        let blob = holder.find(&path).ok_or_else(|| holder.problem(format!("{path} is missing")))?;
        layers.push((blob, Some(layer.digest().to_string())));
    }
    let its_digest = manifest.config().digest();
    let configuration = blob_path(holder, its_digest)?;
    manifest::image(holder, digest, (&configuration, its_digest.digest()), layers).map(Some)
}

fn blob_path(holder: &Holder, digest: &Digest) -> Result<String, Problem> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 => Ok(format!("blobs/sha256/{}", digest.digest())),
        other => Err(holder.problem(format!("digests by {other} are not known here, only those by sha256"))),
    }
}

enum Kind {
    Index,
    Manifest,
    Other,
}

fn kind(media_type: &MediaType) -> Kind {
    match media_type {
        MediaType::ImageIndex => Kind::Index,
        MediaType::ImageManifest => Kind::Manifest,
        other => match other.to_string().as_str() {
            "application/vnd.docker.distribution.manifest.list.v2+json" => Kind::Index,
            "application/vnd.docker.distribution.manifest.v2+json" => Kind::Manifest,
            _ => Kind::Other,
        },
    }
}

fn is_configuration(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageConfig => true,
        other => other.to_string() == "application/vnd.docker.container.image.v1+json",
    }
}
