//! Where the bytes of an image are: in files of their own, or within a tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::bounded::{Meter, check_name, invalid};
use super::{Problem, unreadable};

/// Entries of an archive that are looked at, at most: an image has far fewer.
const MAX_ENTRIES: usize = 100_000;
/// The names in an archive together, in bytes: they are kept in memory.
const MAX_NAMES_BYTES: usize = 16 * 1_024 * 1_024;
/// A manifest or a configuration, in bytes; Docker's registries take no more either.
const MAX_JSON_BYTES: u64 = 4 * 1_024 * 1_024;
/// How many links in an archive are followed from one to the next.
const MAX_LINKS: usize = 8;

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    file: PathBuf,
    offset: u64,
    length: u64,
}

impl Blob {
    pub(super) fn open(&self) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.length))
    }

    /// All of a small one.
    fn read(&self) -> Result<Vec<u8>, Problem> {
        let problem = |reason| Problem { path: self.file.clone(), reason };
        if self.length > MAX_JSON_BYTES {
            return Err(problem(format!("a manifest of {} bytes is too long", self.length)));
        }
        let mut bytes = Vec::new();
        self.open().and_then(|mut blob| blob.read_to_end(&mut bytes)).map_err(|error| problem(unreadable(&error)))?;
        Ok(bytes)
    }

    /// The first bytes.
    pub(super) fn begins(&self) -> io::Result<[u8; 4]> {
        let mut first = [0; 4];
        let mut blob = self.open()?.take(4);
        let mut length = 0;
        loop {
            match blob.read(first.get_mut(length..).unwrap_or_default())? {
                0 => return Ok(first),
                read => length += read,
            }
        }
    }
}

/// What a directory or an archive holds, by relative path.
#[derive(Debug)]
pub(super) enum Holder {
    Directory(PathBuf),
    Archive { path: PathBuf, entries: HashMap<PathBuf, Entry> },
}

/// A file of an archive, or the path that a link in it leads to.
#[derive(Debug)]
pub(super) enum Entry {
    File { offset: u64, length: u64 },
    Link(PathBuf),
}

impl Holder {
    /// Reads the table of a tar; its files are left where they are.
    pub(super) fn archive(path: &Path) -> Result<Self, Problem> {
        let entries =
            entries_of(path).map_err(|error| Problem { path: path.to_owned(), reason: unreadable(&error) })?;
        Ok(Self::Archive { path: path.to_owned(), entries })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive { path, .. } => path,
        }
    }

    pub(super) fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem { path: self.path().to_owned(), reason: reason.into() }
    }

    /// A file, if it is there.
    pub(super) fn find(&self, name: &str) -> Option<Blob> {
        match self {
            Self::Directory(path) => {
                let file = path.join(plain(Path::new(name))?);
                let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
                Some(Blob { file, offset: 0, length: metadata.len() })
            }
            Self::Archive { path, entries } => {
                let mut name = plain(Path::new(name))?;
                for _ in 0..MAX_LINKS {
                    match entries.get(&name)? {
                        Entry::File { offset, length } => {
                            return Some(Blob { file: path.clone(), offset: *offset, length: *length });
                        }
                        Entry::Link(target) => name.clone_from(target),
                    }
                }
                None
            }
        }
    }

    /// A small file.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, Problem> {
        self.find(name).ok_or_else(|| self.problem(format!("{name} is missing")))?.read()
    }
}

/// The sha256 of some bytes, in hexadecimal digits.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entries_of(path: &Path) -> io::Result<HashMap<PathBuf, Entry>> {
    let mut entries = HashMap::new();
    let meter = Meter::new();
    let mut archive = tar::Archive::new(meter.read(File::open(path)?));
    let mut found = archive.entries_with_seek()?;
    let (mut count, mut names) = (0, 0);
    loop {
        meter.before_entry();
        let Some(entry) = found.next() else { break };
        let entry = entry?;
        (count, names) = (count + 1, names + entry.path_bytes().len());
        if count > MAX_ENTRIES || names > MAX_NAMES_BYTES {
            return Err(invalid(format!("it has more than {MAX_ENTRIES} files, or {MAX_NAMES_BYTES} bytes of names")));
        }
        check_name(&entry.path()?)?;
        let Some(name) = plain(&entry.path()?) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            entries.insert(name, Entry::File { offset: entry.raw_file_position(), length: entry.size() });
        } else if let Some(target) = entry.link_name()?.filter(|_| kind.is_symlink() || kind.is_hard_link()) {
            check_name(&target)?;
            // A symlink begins where it is, a hard link at the archive's root.
            let from = name.parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
            if let Some(target) = plain(&from.join(target)) {
                entries.insert(name, Entry::Link(target));
            }
        }
    }
    Ok(entries)
}

/// A relative path without `.` and `..`. `None`: it leads outside.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir if plain.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, expected) in
            [("a/b", Some("a/b")), ("./a/../b", Some("b")), ("a/../../b", None), ("/a", None), ("", Some(""))]
        {
            assert_eq!(plain(Path::new(path)), expected.map(PathBuf::from), "{path}");
        }
    }

    #[test]
    fn an_archives_files_are_found_through_its_links() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let mut file = tar::Header::new_gnu();
        file.set_size(5);
        builder.append_data(&mut file, "x/layer.tar", &b"hello"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "y/layer.tar", "../x/layer.tar").unwrap();
        builder.append_link(&mut link, "z/layer.tar", "../../x").unwrap();
        builder.append_link(&mut link, "loop", "loop").unwrap();
        builder.finish().unwrap();
        let holder = Holder::archive(&path).unwrap();
        for name in ["x/layer.tar", "y/layer.tar"] {
            assert_eq!(holder.read(name).unwrap(), b"hello", "{name}");
            assert_eq!(&holder.find(name).unwrap().begins().unwrap(), b"hell");
        }
        for name in ["z/layer.tar", "loop", "none", "../a.tar"] {
            assert_eq!(holder.find(name), None, "{name}");
        }
        assert_eq!(Holder::Directory(directory.path().to_owned()).find("../a.tar"), None);
    }
}
