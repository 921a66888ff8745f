//! The files of an image while it is unpacked. Whatever a layer says, nothing outside is touched: every path is walked
//! from the root, link by link, and a link never leads out of it.
//!
//! Nobody else writes here meanwhile: the directory belongs to the one who unpacks.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::stat::Mode;

/// How many links are followed on the way to one file, as in the kernel.
const MAX_LINKS: usize = 40;
/// How many directories are entered on the way to one file, those of links included.
const MAX_STEPS: usize = 4_096;
/// The mode of a directory that no layer names.
const DIRECTORY: u32 = 0o755;
/// What is kept of a mode.
const MODE_BITS: u32 = 0o7777;

/// Who a file belongs to and what may be done with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
}

/// A root that is being filled.
pub(super) struct Tree {
    root: PathBuf,
    /// Whether files can be given to others.
    privileged: bool,
    /// Set at the end: a directory that must not be written to is written to until then.
    directories: BTreeMap<PathBuf, Attributes>,
}

impl Tree {
    /// Of an empty directory.
    pub(super) fn new(root: &Path, privileged: bool) -> Self {
        Self { root: root.to_owned(), privileged, directories: BTreeMap::new() }
    }

    /// Where this path is: all directories on the way are there and none is a link; the last part may be anything.
    /// `None`: the root itself.
    pub(super) fn place(&self, name: &Path) -> io::Result<Option<PathBuf>> {
        if name.components().any(|component| component == Component::ParentDir) {
            return Err(outside(name));
        }
        let mut parts = parts(name);
        let Some(last) = parts.pop_back() else { return Ok(None) };
        Ok(self.walk(parts, name, Missing::Made)?.map(|directory| directory.join(last)))
    }

    /// Follows directories and links from the root. `None`: a directory is missing.
    fn walk(&self, mut parts: VecDeque<OsString>, name: &Path, missing: Missing) -> io::Result<Option<PathBuf>> {
        let mut here = self.root.clone();
        let (mut links, mut steps) = (0, 0);
        while let Some(part) = parts.pop_front() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(Errno::ENAMETOOLONG.into());
            }
            if part == ".." {
                if here != self.root {
                    here.pop();
                }
                continue;
            }
            let next = here.join(&part);
            match kind(&next)? {
                Some(Kind::Directory) => here = next,
                Some(Kind::Link) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    let target = fs::read_link(&next)?;
                    if target.is_absolute() {
                        here.clone_from(&self.root);
                    }
                    self::parts(&target).into_iter().rev().for_each(|part| parts.push_front(part));
                }
                Some(Kind::Other) => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotADirectory,
                        format!("{} lies below a file", name.display()),
                    ));
                }
                None if matches!(missing, Missing::Made) => {
                    DirBuilder::new().mode(DIRECTORY).create(&next)?;
                    here = next;
                }
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// The file that a path leads to, the last link followed, too; `None`: it leads to no file.
    pub(super) fn file(&self, name: &Path) -> io::Result<Option<PathBuf>> {
        let mut left = parts(name);
        for _ in 0..MAX_LINKS {
            let Some(last) = left.pop_back().filter(|last| last != "..") else { return Ok(None) };
            let Some(directory) = self.walk(left, name, Missing::Left)? else { return Ok(None) };
            let place = directory.join(last);
            match kind(&place)? {
                Some(Kind::Other) => return Ok(place.metadata()?.is_file().then_some(place)),
                Some(Kind::Directory) | None => return Ok(None),
                Some(Kind::Link) => {
                    let target = fs::read_link(&place)?;
                    left = if target.is_absolute() { VecDeque::new() } else { parts(&self.inside(&directory)) };
                    left.extend(parts(&target));
                }
            }
        }
        Err(Errno::ELOOP.into())
    }

    /// A place as a path in the image.
    pub(super) fn inside(&self, place: &Path) -> PathBuf {
        Path::new("/").join(place.strip_prefix(&self.root).unwrap_or(place))
    }

    /// What the directories will have at the end.
    pub(super) fn directory(&mut self, place: Option<&Path>, attributes: Attributes) -> io::Result<()> {
        let place = place.unwrap_or(&self.root).to_owned();
        match kind(&place)? {
            Some(Kind::Directory) => {}
            there => {
                if there.is_some() {
                    fs::remove_file(&place)?;
                }
                DirBuilder::new().mode(DIRECTORY).create(&place)?;
            }
        }
        self.directories.insert(place, attributes);
        Ok(())
    }

    /// Takes away what is there, with all below it.
    pub(super) fn remove(&mut self, place: &Path) -> io::Result<()> {
        match kind(place)? {
            None => Ok(()),
            Some(Kind::Directory) => {
                let below = self.directories.range(place.to_owned()..).map(|(directory, _)| directory);
                let below: Vec<PathBuf> = below.take_while(|directory| directory.starts_with(place)).cloned().collect();
                for directory in below {
                    self.directories.remove(&directory);
                }
                fs::remove_dir_all(place)
            }
            Some(Kind::Link | Kind::Other) => fs::remove_file(place),
        }
    }

    /// A new file with all that can be read, and how much that was.
    pub(super) fn regular(&mut self, place: &Path, attributes: Attributes, content: &mut impl Read) -> io::Result<u64> {
        self.remove(place)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
        let length = io::copy(content, &mut file)?;
        self.dress(&file, attributes)?;
        Ok(length)
    }

    pub(super) fn link(&mut self, place: &Path, target: &Path, attributes: Attributes) -> io::Result<()> {
        self.remove(place)?;
        symlink(target, place)?;
        if self.privileged {
            lchown(place, Some(attributes.uid), Some(attributes.gid))?;
        }
        Ok(())
    }

    /// One more name for a file of this or a lower layer.
    pub(super) fn hard_link(&mut self, place: &Path, target: &Path) -> io::Result<()> {
        let of = self.place(target)?.ok_or_else(|| outside(target))?;
        if of == place {
            return Ok(());
        }
        self.remove(place)?;
        fs::hard_link(of, place)
    }

    pub(super) fn pipe(&mut self, place: &Path, attributes: Attributes) -> io::Result<()> {
        self.remove(place)?;
        nix::unistd::mkfifo(place, Mode::from_bits_truncate(attributes.mode & 0o777))?;
        if self.privileged {
            lchown(place, Some(attributes.uid), Some(attributes.gid))?;
        }
        Ok(())
    }

    fn dress(&self, file: &File, attributes: Attributes) -> io::Result<()> {
        if self.privileged {
            // First: it takes set-user-ID bits away.
            fchown(file, Some(attributes.uid), Some(attributes.gid))?;
        }
        file.set_permissions(Permissions::from_mode(attributes.mode & MODE_BITS))?;
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(attributes.modified));
        file.set_times(modified.map_or_else(FileTimes::new, |at| FileTimes::new().set_modified(at)))
    }

    /// Gives the directories what they should have. Who owns everything anyway must still be able to remove it.
    pub(super) fn finish(self) -> io::Result<()> {
        for (place, attributes) in self.directories.iter().rev() {
            let mode = if self.privileged { attributes.mode } else { attributes.mode | 0o700 };
            self.dress(&File::open(place)?, Attributes { mode, ..*attributes })?;
        }
        Ok(())
    }
}

enum Kind {
    Directory,
    Link,
    Other,
}

/// What is there, links not followed.
fn kind(path: &Path) -> io::Result<Option<Kind>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(Some(Kind::Directory)),
        Ok(metadata) if metadata.is_symlink() => Ok(Some(Kind::Link)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is done about directories that are not there.
#[derive(Clone, Copy)]
enum Missing {
    Made,
    Left,
}

/// The steps of a way that begins at the root or at a directory.
fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

fn outside(name: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} leads out of the image", name.display()))
}
