//! Lays the layers of an image over each other, in one directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

use super::blob::hex;
use super::bounded::{Meter, check_name};
use super::tree::{Attributes, Tree};
use super::{Layer, OwnImage};

/// The largest image that Lambda takes, uncompressed, in bytes.
const MAX_IMAGE_BYTES: u64 = 10 * 1_024 * 1_024 * 1_024;
/// Files of an image, at most: each takes memory while the image is unpacked, and an inode. Large images have 300,000.
const MAX_ENTRIES: u64 = 1_000_000;
/// The names of an image's files together, in bytes: they are kept in memory while a layer is unpacked.
const MAX_NAMES_BYTES: u64 = 128 * 1_024 * 1_024;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How much is read at once, in bytes.
const CHUNK: usize = 64 * 1_024;
/// A file with this beginning of its name takes away the rest of the name.
const WHITEOUT: &[u8] = b".wh.";
/// Takes away all that lower layers have in the directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other files of the storage driver that invented whiteouts.
const META: &[u8] = b".wh..wh.";

/// Where something of the machine or of the environment is put later. Always real directories.
const MOUNT_POINTS: [(&str, u32); 4] = [("tmp", 0o1777), ("proc", 0o555), ("dev", 0o755), ("sys", 0o555)];
/// The same, for files.
const MACHINE_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("layer {place}: {source}")]
    Layer { place: usize, source: io::Error },
    #[error("layer {place} does not have the digest {digest}")]
    Digest { place: usize, digest: String },
    #[error("it is larger than {} GB, unpacked", MAX_IMAGE_BYTES >> 30)]
    TooLarge,
    #[error("it has more than {MAX_ENTRIES} files")]
    TooManyFiles,
    #[error("the names of its files are longer than {} MB together", MAX_NAMES_BYTES >> 20)]
    TooManyNames,
    #[error("its files cannot be finished: {0}")]
    Finish(io::Error),
}

/// What is told of an unpacked image.
pub(super) struct Unpacked {
    /// [`MACHINE_FILES`], and where they really are in the image.
    pub(super) machine_files: Vec<(PathBuf, PathBuf)>,
    /// The program that is started first, if it is a file.
    pub(super) program: Option<PathBuf>,
}

/// Unpacks into an empty directory.
pub(super) fn unpack(image: &OwnImage, root: &Path) -> Result<Unpacked, UnpackError> {
    let mut tree = Tree::new(root, geteuid().is_root());
    let mut left = Left { bytes: MAX_IMAGE_BYTES, entries: MAX_ENTRIES, names: MAX_NAMES_BYTES };
    for (place, layer) in image.layers.iter().enumerate() {
        let place = place + 1;
        apply(layer, &mut tree, &mut left, place)?;
    }
    finish(image, tree).map_err(UnpackError::Finish)
}

/// What an image may still take.
struct Left {
    bytes: u64,
    entries: u64,
    names: u64,
}

fn apply(layer: &Layer, tree: &mut Tree, left: &mut Left, place: usize) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Layer { place, source };
    let blob = Hashing::new(layer.blob.open().map_err(failed)?);
    let mut blob = BufReader::with_capacity(CHUNK, blob);
    let is_gzip = blob.fill_buf().map_err(failed)?.starts_with(&GZIP);
    let diff_id = if is_gzip {
        let mut tar = Hashing::new(MultiGzDecoder::new(&mut blob));
        extract(&mut tar, tree, left, place)?;
        tar.digest()
    } else {
        let mut tar = Hashing::new(&mut blob);
        extract(&mut tar, tree, left, place)?;
        tar.digest()
    };
    io::copy(&mut blob, &mut io::sink()).map_err(failed)?;
    let digest = blob.into_inner().digest();
    for (wanted, found) in [(&layer.diff_id, diff_id), (&layer.digest, digest)] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| **wanted != found) {
            return Err(UnpackError::Digest { place, digest: wanted.clone() });
        }
    }
    Ok(())
}

/// Takes all entries out, and reads to the end, so that the digest is that of the whole.
fn extract(tar: &mut impl Read, tree: &mut Tree, left: &mut Left, place: usize) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Layer { place, source };
    // A byte more than there may be shows that there is more.
    let mut tar = tar.take(left.bytes.saturating_add(1));
    let meter = Meter::new();
    let mut archive = Archive::new(meter.read(&mut tar));
    let mut layer = Applied { tree, added: BTreeSet::new(), cleared: BTreeSet::new(), written: 0 };
    let mut entries = archive.entries().map_err(failed)?;
    loop {
        meter.before_entry();
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(failed)?;
        meter.within_entry();
        left.entries = left.entries.checked_sub(1).ok_or(UnpackError::TooManyFiles)?;
        let name = u64::try_from(entry.path_bytes().len()).unwrap_or(u64::MAX);
        left.names = left.names.checked_sub(name).ok_or(UnpackError::TooManyNames)?;
        // A sparse file is longer than what there is of it in the archive.
        if entry.size().saturating_add(layer.written) > left.bytes {
            return Err(UnpackError::TooLarge);
        }
        layer.take(&mut entry).map_err(failed)?;
        // What was not taken is no part of what stands in front of the next.
        io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
    }
    meter.within_entry();
    let written = layer.written;
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    let read = left.bytes.saturating_add(1) - tar.limit();
    left.bytes = left.bytes.checked_sub(read.max(written)).ok_or(UnpackError::TooLarge)?;
    Ok(())
}

/// A layer that is being laid over those below.
struct Applied<'a> {
    tree: &'a mut Tree,
    /// What this layer has brought: whiteouts concern those below only.
    added: BTreeSet<PathBuf>,
    /// The directories in which nothing of a lower layer is left.
    cleared: BTreeSet<PathBuf>,
    written: u64,
}

impl Applied<'_> {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        // Devices are the environment's own; everything else is about the archive itself.
        if !is_file(kind) {
            return Ok(());
        }
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        check_name(&name)?;
        let attributes = attributes(entry)?;
        let Some(place) = self.tree.place(&name)? else {
            return if kind.is_dir() { self.tree.directory(None, attributes) } else { Ok(()) };
        };
        let last = place.file_name().unwrap_or_default().as_bytes().to_owned();
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return self.white_out(&place, &last, OsStr::from_bytes(hidden));
        }
        let target = entry.link_name_bytes().map(|target| PathBuf::from(OsStr::from_bytes(&target)));
        target.as_deref().map_or(Ok(()), check_name)?;
        match (kind, target) {
            (EntryType::Directory, _) => self.tree.directory(Some(&place), attributes)?,
            (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, _) => {
                self.written = self.written.saturating_add(self.tree.regular(&place, attributes, entry)?);
            }
            (EntryType::Symlink, Some(target)) => self.tree.link(&place, &target, attributes)?,
            (EntryType::Link, Some(target)) => self.tree.hard_link(&place, &target)?,
            (EntryType::Fifo, _) => self.tree.pipe(&place, attributes)?,
            _ => return Ok(()),
        }
        self.added.insert(place);
        Ok(())
    }

    fn white_out(&mut self, place: &Path, name: &[u8], hidden: &OsStr) -> io::Result<()> {
        let directory = place.parent().unwrap_or(place);
        match name {
            OPAQUE => self.clear(directory),
            name if name.starts_with(META) => Ok(()),
            _ if hidden.is_empty() || hidden == "." || hidden == ".." => Ok(()),
            _ => self.clear_one(&directory.join(hidden)),
        }
    }

    /// Takes away what lower layers have in a directory, once.
    fn clear(&mut self, directory: &Path) -> io::Result<()> {
        if !self.cleared.insert(directory.to_owned()) {
            return Ok(());
        }
        for child in std::fs::read_dir(directory)? {
            self.clear_one(&child?.path())?;
        }
        Ok(())
    }

    fn clear_one(&mut self, place: &Path) -> io::Result<()> {
        let has_news = self.added.range(place.to_owned()..).next().is_some_and(|added| added.starts_with(place));
        match std::fs::symlink_metadata(place) {
            Ok(metadata) if has_news && metadata.is_dir() => self.clear(place),
            Ok(_) if has_news => Ok(()),
            Ok(_) => self.tree.remove(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_file(kind: EntryType) -> bool {
    use EntryType::{Continuous, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    matches!(kind, Continuous | Directory | Fifo | GNUSparse | Link | Regular | Symlink)
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).unwrap_or(0);
    let mut attributes = Attributes {
        mode: header.mode()?,
        uid: id(header.uid()?),
        gid: id(header.gid()?),
        modified: header.mtime().unwrap_or(0),
    };
    // Numbers that do not fit into a header stand in front of it.
    for extension in entry.pax_extensions()?.into_iter().flatten().flatten() {
        let value = extension.value().ok().and_then(|value| value.parse().ok());
        match (extension.key(), value) {
            (Ok("uid"), Some(uid)) => attributes.uid = id(uid),
            (Ok("gid"), Some(gid)) => attributes.gid = id(gid),
            _ => {}
        }
    }
    Ok(attributes)
}

fn finish(image: &OwnImage, mut tree: Tree) -> io::Result<Unpacked> {
    let of_root = |mode| Attributes { mode, uid: 0, gid: 0, modified: 0 };
    for (name, mode) in MOUNT_POINTS {
        if let Some(place) = tree.place(Path::new(name))?
            && !std::fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_dir())
        {
            tree.directory(Some(&place), of_root(mode))?;
        }
    }
    let mut machine_files = Vec::new();
    for name in MACHINE_FILES {
        if let Some(place) = tree.place(Path::new(name))? {
            if !std::fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_file()) {
                tree.regular(&place, of_root(0o644), &mut io::empty())?;
            }
            machine_files.push((PathBuf::from(name), tree.inside(&place)));
        }
    }
    let program = match image.entrypoint.first().or_else(|| image.cmd.first()) {
        Some(program) => tree.file(Path::new(program)).unwrap_or_default(),
        None => None,
    };
    tree.finish()?;
    Ok(Unpacked { machine_files, program })
}

/// Passes bytes on and remembers their digest.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    fn digest(self) -> String {
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// Whether a program, not a script, holds these bytes.
pub(super) fn holds(program: &Path, mark: &[u8]) -> io::Result<bool> {
    const ELF: [u8; 4] = *b"\x7fELF";
    let mut file = BufReader::with_capacity(CHUNK, File::open(program)?);
    if mark.is_empty() || !file.fill_buf()?.starts_with(&ELF) {
        return Ok(false);
    }
    let finder = memchr::memmem::Finder::new(mark);
    let mut window = Vec::new();
    loop {
        let chunk = file.fill_buf()?;
        if chunk.is_empty() {
            return Ok(false);
        }
        window.extend_from_slice(chunk);
        let length = chunk.len();
        file.consume(length);
        if finder.find(&window).is_some() {
            return Ok(true);
        }
        // The mark may lie across two chunks.
        window.drain(..window.len().saturating_sub(mark.len() - 1));
    }
}
