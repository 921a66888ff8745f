//! Which images there are: what is found in the directories that the user has named.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::archive;
use super::blob::Holder;
use super::layout::{self, Given};
use super::names::Name;
use super::{OwnImage, Problem, unreadable};
use crate::settings::HOST_IMAGE;

const LAYOUT_MARK: &str = "oci-layout";
/// How a compressed archive's name ends.
const COMPRESSED: [&str; 5] = [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"];

/// What was found: images by `repository:tag`, each in its architectures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By their short names.
    pub images: BTreeMap<String, Vec<Arc<OwnImage>>>,
    /// What could not be used.
    pub problems: Vec<Problem>,
}

/// What was found where, to see whether it is worth looking again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature(Vec<(PathBuf, Option<SystemTime>, u64)>);

/// Looks into directories. Each of them may be a layout, or hold layouts and archives; a file may be an archive.
#[must_use]
pub fn look(directories: &[PathBuf]) -> Catalog {
    let mut looking = Looking::default();
    for directory in directories {
        looking.look_at(directory);
    }
    looking.finish()
}

/// Changes when images come or go. Cheap: no file is opened.
#[must_use]
pub fn signature(directories: &[PathBuf]) -> Signature {
    let mut seen = Vec::new();
    for directory in directories {
        for path in std::iter::once(directory.clone()).chain(children(directory).unwrap_or_default()) {
            for path in [path.join(layout::INDEX), path] {
                if let Ok(metadata) = path.metadata() {
                    seen.push((path, metadata.modified().ok(), metadata.len()));
                }
            }
        }
    }
    Signature(seen)
}

fn children(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut children: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    children.sort();
    Ok(children)
}

#[derive(Default)]
struct Looking {
    /// Names that are written there.
    given: BTreeMap<String, Vec<Arc<OwnImage>>>,
    /// Names that were made of a file's name or of one word; a given name counts more.
    guessed: BTreeMap<String, Vec<Arc<OwnImage>>>,
    problems: Vec<Problem>,
}

impl Looking {
    fn look_at(&mut self, path: &Path) {
        if path.is_file() {
            self.archive(path);
        } else if is_layout(path) {
            self.layout(&Holder::Directory(path.to_owned()));
        } else {
            match children(path) {
                Ok(children) => children.iter().for_each(|child| self.look_at_child(child)),
                Err(error) => self.problems.push(Problem { path: path.to_owned(), reason: unreadable(&error) }),
            }
        }
    }

    fn look_at_child(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if is_layout(path) {
                self.layout(&Holder::Directory(path.to_owned()));
            }
        } else if name.ends_with(".tar") {
            self.archive(path);
        } else if COMPRESSED.iter().any(|end| name.ends_with(end)) {
            let reason = "the archive as a whole is compressed: decompress it to a .tar first".to_owned();
            self.problems.push(Problem { path: path.to_owned(), reason });
        }
    }

    /// Docker's archives have been layouts, too, since version 25; the layout tells more, the manifest the tags.
    fn archive(&mut self, path: &Path) {
        let holder = match Holder::archive(path) {
            Ok(holder) => holder,
            Err(problem) => return self.problems.push(problem),
        };
        if holder.find(layout::INDEX).is_some() {
            self.layout(&holder);
        } else if holder.find(archive::MANIFEST).is_some() {
            self.saved(&holder);
        } else {
            self.problems.push(holder.problem("it is neither an archive of docker save nor of an OCI layout"));
        }
    }

    fn layout(&mut self, holder: &Holder) {
        match layout::images(holder) {
            Ok((found, problems)) => {
                self.problems.extend(problems);
                for found in found {
                    let images = found.images.into_iter().map(Arc::new).collect();
                    self.name(holder, found.name, images);
                }
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn saved(&mut self, holder: &Holder) {
        match archive::images(holder) {
            Ok((found, problems)) => {
                self.problems.extend(problems);
                for (names, image) in found {
                    let images = vec![Arc::new(image)];
                    if names.is_empty() {
                        self.name(holder, None, images.clone());
                    }
                    for name in names {
                        self.name(holder, Some(Given::Name(name)), images.clone());
                    }
                }
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn name(&mut self, holder: &Holder, given: Option<Given>, images: Vec<Arc<OwnImage>>) {
        let stem = stem(holder);
        match given {
            Some(Given::Name(name)) => match Name::parse(&name) {
                Some(name) => self.put_given(holder, name.key(), images),
                None => self.problems.push(holder.problem(format!("{name:?} is no name of an image"))),
            },
            // The tag of an image that is called like the layout, or an image's name without a tag: nobody can tell.
            Some(Given::Word(word)) => {
                for guess in [format!("{stem}:{word}"), word] {
                    self.put_guess(&guess, &images);
                }
            }
            None => self.put_guess(&stem, &images),
        }
    }

    fn put_given(&mut self, holder: &Holder, key: String, images: Vec<Arc<OwnImage>>) {
        if key == HOST_IMAGE {
            return self.problems.push(holder.problem(format!("{HOST_IMAGE} is this machine's own file system")));
        }
        match self.given.entry(key) {
            Entry::Vacant(place) => drop(place.insert(images)),
            Entry::Occupied(place) if digests(place.get()) == digests(&images) => {}
            Entry::Occupied(place) => {
                let reason =
                    format!("another image is called {}, too; the one that was found first is used", place.key());
                self.problems.push(holder.problem(reason));
            }
        }
    }

    fn put_guess(&mut self, guess: &str, images: &[Arc<OwnImage>]) {
        let key = Name::parse(guess).map(|name| name.key()).filter(|key| key != HOST_IMAGE);
        if let Some(key) = key {
            self.guessed.entry(key).or_insert_with(|| images.to_vec());
        }
    }

    fn finish(self) -> Catalog {
        let Self { given: mut images, guessed, problems } = self;
        for (key, guess) in guessed {
            images.entry(key).or_insert(guess);
        }
        Catalog { images, problems }
    }
}

fn digests(images: &[Arc<OwnImage>]) -> Vec<&str> {
    images.iter().map(|image| image.digest.as_str()).collect()
}

fn is_layout(path: &Path) -> bool {
    path.join(LAYOUT_MARK).is_file() && path.join(layout::INDEX).is_file()
}

/// What an image without a name is called: like its file or directory.
fn stem(holder: &Holder) -> String {
    let name = holder.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.strip_suffix(".tar").unwrap_or(&name).to_owned()
}
