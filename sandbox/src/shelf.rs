//! The images that the sandbox has: looked for again when a function is to be made, so that new ones are found without
//! a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::driver::Driver;
use crate::images::catalog::{self, Catalog, Signature};
use crate::images::store::Store;
use crate::sandbox::ImageOptions;

/// Directories with images, at most.
const MAX_DIRECTORIES: usize = 64;

/// What is known of the directories.
#[derive(Default)]
struct Known {
    directories: Vec<PathBuf>,
    signature: Option<Signature>,
    listing: Listing,
}

/// What there is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Listing {
    /// Where images are looked for.
    directories: Vec<PathBuf>,
    /// By name.
    images: BTreeMap<String, Vec<Entry>>,
    /// What could not be used, and why.
    problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    digest: String,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsupported: Option<String>,
}

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    #[error("{} is neither a directory nor a file", .0.display())]
    Missing(PathBuf),
    #[error("there are more than {MAX_DIRECTORIES} directories of images")]
    TooMany,
    #[error("this sandbox has no place for images")]
    NoStore,
}

pub(crate) struct Shelf {
    has_store: bool,
    known: Mutex<Known>,
}

impl Shelf {
    /// A shelf that has not looked anywhere yet.
    pub(crate) fn new(options: Option<&ImageOptions>) -> Self {
        let directories = options.map(|options| options.directories.clone()).unwrap_or_default();
        Self { has_store: options.is_some(), known: Mutex::new(Known { directories, ..Known::default() }) }
    }

    /// Looks there, too, from now on.
    pub(crate) async fn add(&self, driver: &Driver, directories: Vec<PathBuf>) -> Result<Listing, ShelfError> {
        if !self.has_store && !directories.is_empty() {
            return Err(ShelfError::NoStore);
        }
        if let Some(missing) = directories.iter().find(|directory| !directory.exists()) {
            return Err(ShelfError::Missing(missing.clone()));
        }
        let mut known = self.known.lock().await;
        for directory in directories {
            if !known.directories.contains(&directory) {
                if known.directories.len() >= MAX_DIRECTORIES {
                    return Err(ShelfError::TooMany);
                }
                known.directories.push(directory);
            }
        }
        known.refresh(driver).await;
        Ok(known.listing.clone())
    }

    /// Looks again if something has changed.
    pub(crate) async fn refresh(&self, driver: &Driver) {
        self.known.lock().await.refresh(driver).await;
    }
}

impl Known {
    async fn refresh(&mut self, driver: &Driver) {
        if self.directories.is_empty() {
            return;
        }
        let (directories, before) = (self.directories.clone(), self.signature.clone());
        let looked = spawn_blocking(move || {
            let signature = catalog::signature(&directories);
            (before.as_ref() != Some(&signature)).then(|| (catalog::look(&directories), signature))
        });
        // It fails only when the runtime ends.
        let Ok(Some((catalog, signature))) = looked.await else { return };
        self.listing = listing(self.directories.clone(), &catalog);
        tracing::info!(images = ?catalog.images.keys().collect::<Vec<_>>(), "images were found");
        for problem in &catalog.problems {
            tracing::warn!(%problem, "an image cannot be used");
        }
        driver.set_images(catalog.images);
        self.signature = Some(signature);
    }
}

fn listing(directories: Vec<PathBuf>, catalog: &Catalog) -> Listing {
    let entry = |image: &Arc<crate::images::OwnImage>| Entry {
        digest: format!("sha256:{}", image.digest),
        architecture: image.architecture.clone(),
        unsupported: image.unsupported.clone(),
    };
    let named = |(name, images): (&String, &Vec<_>)| (name.clone(), images.iter().map(entry).collect());
    Listing {
        directories,
        images: catalog.images.iter().map(named).collect(),
        problems: catalog.problems.iter().map(ToString::to_string).collect(),
    }
}

/// The store that the options ask for.
pub(crate) fn store(options: Option<&ImageOptions>) -> Option<Arc<Store>> {
    options.map(|options| Arc::new(Store::new(options.store.clone(), options.front_mark.clone())))
}
