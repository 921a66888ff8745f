//! From a manifest's words to an image.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::blob::{Blob, Holder};
use super::{Layer, OwnImage, Problem, unreadable};
use crate::images::blob::hex_digest;

/// Layers of an image, at most: the limit of Docker's storage driver.
const MAX_LAYERS: usize = 127;
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The configuration of an image, as far as running it goes. Not oci-spec's: Docker's own configurations have `null`
/// where the specification wants a list or nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageConfiguration {
    architecture: String,
    os: String,
    config: Option<Execution>,
    rootfs: Option<RootFs>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

/// Reads JSON of a holder.
pub(super) fn parse<T: DeserializeOwned>(holder: &Holder, name: &str) -> Result<T, Problem> {
    parse_bytes(holder, name, &holder.read(name)?)
}

/// The same, of a file that must have a digest (sha256, in hexadecimal digits).
pub(super) fn parse_verified<T: DeserializeOwned>(holder: &Holder, name: &str, digest: &str) -> Result<T, Problem> {
    let bytes = holder.read(name)?;
    if hex_digest(&bytes) != digest {
        return Err(holder.problem(format!("{name} does not have the digest sha256:{digest}")));
    }
    parse_bytes(holder, name, &bytes)
}

fn parse_bytes<T: DeserializeOwned>(holder: &Holder, name: &str, bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| holder.problem(format!("{name} makes no sense: {error}")))
}

/// The image with these layers and the configuration in a file of this digest; `digest` names the image.
pub(super) fn image(
    holder: &Holder,
    digest: &str,
    (configuration, its_digest): (&str, &str),
    layers: Vec<(Blob, Option<String>)>,
) -> Result<OwnImage, Problem> {
    let ImageConfiguration { architecture, os, config, rootfs } = parse_verified(holder, configuration, its_digest)?;
    let diff_ids = rootfs.unwrap_or_default().diff_ids.unwrap_or_default();
    if diff_ids.len() != layers.len() {
        let (told, there) = (diff_ids.len(), layers.len());
        return Err(holder.problem(format!("{configuration} tells of {told} layers, but there are {there}")));
    }
    if layers.len() > MAX_LAYERS {
        return Err(holder.problem(format!("an image of {} layers has more than {MAX_LAYERS}", layers.len())));
    }
    let unsupported = match os.as_str() {
        "" | "linux" => unsupported_layer(&layers).map_err(|error| holder.problem(unreadable(&error)))?,
        other => Some(format!("it is an image for {other}")),
    };
    let layers = layers.into_iter().zip(diff_ids);
    let config = config.unwrap_or_default();
    Ok(OwnImage {
        digest: digest.to_owned(),
        architecture: lambdas_word(&architecture).to_owned(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        unsupported,
        layers: layers.map(|((blob, digest), diff_id)| Layer { blob, digest, diff_id: Some(diff_id) }).collect(),
    })
}

fn unsupported_layer(layers: &[(Blob, Option<String>)]) -> std::io::Result<Option<String>> {
    for (place, (blob, _)) in layers.iter().enumerate() {
        if blob.begins()? == ZSTD {
            return Ok(Some(format!("layer {} is compressed with zstd", place + 1)));
        }
    }
    Ok(None)
}

/// What Lambda calls a processor.
pub(super) fn lambdas_word(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        other => other,
    }
}
