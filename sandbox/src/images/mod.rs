//! Images with files of their own: found in a directory of the user's, unpacked once, and given to environments as
//! their root.
//!
//! They stand for what would be in ECR. An image is taken from an OCI layout (a directory, or a tar of one) or from a
//! `docker save` archive; [`catalog`] finds it by its names, [`store`] unpacks it when a function is made of it.

pub mod catalog;
pub mod names;
pub mod store;

mod archive;
mod blob;
mod bounded;
mod layout;
mod manifest;
mod tree;
mod unpack;

use std::io;
use std::path::PathBuf;

/// What cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Problem {
    /// A file or directory.
    pub path: PathBuf,
    /// A sentence.
    pub reason: String,
}

/// An image of one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnImage {
    /// 64 hexadecimal digits: of the manifest, or of the configuration where there is no manifest.
    pub digest: String,
    /// In Lambda's words (x86_64, arm64), or else in the image's.
    pub architecture: String,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    /// Where the program starts; empty: `/`.
    pub working_dir: String,
    /// The user that the image asks for. Lambda does not obey it.
    pub user: String,
    /// Why Lambda would refuse the image, whatever it is used for.
    pub unsupported: Option<String>,
    pub(crate) layers: Vec<Layer>,
}

/// One layer of an image, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    blob: blob::Blob,
    /// The digest of the blob as it is, where the manifest tells it.
    digest: Option<String>,
    /// The digest of the tar in it.
    diff_id: Option<String>,
}

/// Reads of a file that nobody has checked.
fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}
