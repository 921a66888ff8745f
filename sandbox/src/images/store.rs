//! Unpacked images, each once, below one directory:
//!
//! ```text
//! DIGEST/root/         its files
//! DIGEST/image.json    what was learnt on the way
//! .new-PID-NUMBER/     one that is being unpacked
//! ```
//!
//! A directory gets its name when it is complete, so several sandboxes can share them; all of them can be removed while
//! no sandbox runs.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::OwnImage;
use super::unpack;

const ROOT: &str = "root";
const RECORD: &str = "image.json";
const STAGING: &str = ".new-";

/// Where unpacked images are.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Bytes by which the front is known in a program.
    mark: Vec<u8>,
    /// One lock an image: whoever comes second waits for the first.
    locks: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    count: AtomicU64,
}

/// An unpacked image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its files.
    pub root: PathBuf,
    /// What was learnt.
    pub record: Record,
}

/// What is learnt while an image is unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The program that is started first is a front already.
    pub has_front: bool,
    /// Files of this machine, and where they belong in the image: paths without a link on the way.
    pub machine_files: Vec<(PathBuf, PathBuf)>,
}

/// Why there is no unpacked image.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is not what it should be.
    #[error("the image cannot be unpacked: {0}")]
    Image(String),
    /// It cannot be written.
    #[error("the image cannot be unpacked: {}: {source}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl Store {
    /// A store in a directory, which is made when it is needed. Programs that hold `mark` are fronts.
    #[must_use]
    pub fn new(directory: PathBuf, mark: Vec<u8>) -> Self {
        Self { directory, mark, locks: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// The image if it is unpacked.
    #[must_use]
    pub fn get(&self, image: &OwnImage) -> Option<Unpacked> {
        let directory = self.directory.join(&image.digest);
        let record = serde_json::from_slice(&fs::read(directory.join(RECORD)).ok()?).ok()?;
        Some(Unpacked { root: directory.join(ROOT), record })
    }

    /// The image, unpacked now if it is not yet. Takes as long as that takes.
    ///
    /// # Errors
    ///
    /// If the image is not what it should be, or cannot be written.
    pub fn unpacked(&self, image: &OwnImage) -> Result<Unpacked, StoreError> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(image.digest.clone()).or_default())
        };
        let _one_at_a_time = lock.lock().unwrap_or_else(PoisonError::into_inner);
        match self.get(image) {
            Some(unpacked) => Ok(unpacked),
            None => self.unpack(image),
        }
    }

    fn unpack(&self, image: &OwnImage) -> Result<Unpacked, StoreError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::File { path, source }
        };
        make_directory(&self.directory).map_err(file(&self.directory))?;
        self.sweep();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let staging = Staging(self.directory.join(format!("{STAGING}{}-{number}", std::process::id())));
        let root = staging.0.join(ROOT);
        make_directory(&staging.0).map_err(file(&staging.0))?;
        make_directory(&root)
            .and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(0o755)))
            .map_err(file(&root))?;
        let unpacked = unpack::unpack(image, &root).map_err(|error| StoreError::Image(error.to_string()))?;
        let has_front = unpacked.program.is_some_and(|program| unpack::holds(&program, &self.mark).unwrap_or(false));
        let record = Record { has_front, machine_files: unpacked.machine_files };
        let text = serde_json::to_vec(&record).unwrap_or_default();
        fs::write(staging.0.join(RECORD), text).map_err(file(&staging.0))?;
        let place = self.directory.join(&image.digest);
        match fs::rename(&staging.0, &place) {
            Ok(()) => Ok(Unpacked { root: place.join(ROOT), record }),
            // Another sandbox was faster, or something incomplete is in the way.
            Err(error) => self.get(image).ok_or_else(|| file(&place)(error)),
        }
    }

    /// Removes what sandboxes have left that died while they unpacked.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner =
                name.to_str().and_then(|name| name.strip_prefix(STAGING)?.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
                // What cannot be removed now can be the next time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Goes away unless it was renamed.
struct Staging(PathBuf);

impl Drop for Staging {
    fn drop(&mut self) {
        // Not there any more: that is the good end.
        let _ = fs::remove_dir_all(&self.0);
    }
}
