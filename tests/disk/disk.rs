//! Disks that are small, and places that cannot be written. Mounting needs root: without, a test says so and is skipped.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Says why a test is skipped, past the harness, which shows no output of a test that passes.
pub(crate) fn skipped(test: &str, why: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
}

/// Something mounted, until it is dropped.
#[derive(Debug)]
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A disk of its own over a directory.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    mounted: Mounted,
}

impl SmallDisk {
    /// Puts an empty disk of so many KiB over the directory. `None`, said aloud: this user cannot mount.
    pub(crate) fn over(directory: &Path, kib: u32, test: &str) -> Option<Self> {
        fs::create_dir_all(directory).unwrap();
        let options = format!("mode=700,size={kib}k");
        match mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => Some(Self { mounted: Mounted(directory.to_owned()) }),
            Err(error) => {
                skipped(test, format_args!("a disk cannot be mounted here ({error}); run it as root"));
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.mounted.0.join("ballast")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for chunk in [64 * 1_024, 4_096] {
            let zeros = vec![0; chunk];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    /// Gives the room back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

/// A file or directory that cannot be written, until this is dropped.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    mounts: Vec<Mounted>,
    mode: Option<(PathBuf, Permissions)>,
}

impl ReadOnly {
    /// For root by a mount that is read-only, for others by the mode. `None`, said aloud: neither is possible.
    pub(crate) fn make(path: &Path, test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            let before = fs::metadata(path).unwrap().permissions();
            let mode = before.mode() & !0o222;
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            return Some(Self { mounts: Vec::new(), mode: Some((path.to_owned(), before)) });
        }
        let none = None::<&str>;
        let bound = mount(Some(path), path, none, MsFlags::MS_BIND, none);
        let mounted = bound.map(|()| Mounted(path.to_owned()));
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        match mounted.and_then(|mounted| mount(none, path, none, flags, none).map(|()| mounted)) {
            Ok(mounted) => Some(Self { mounts: vec![mounted], mode: None }),
            Err(error) => {
                skipped(test, format_args!("nothing can be mounted read-only here: {error}"));
                None
            }
        }
    }

    /// As [`ReadOnly::make`], for a directory whose files can still be written.
    pub(crate) fn but_for_files(directory: &Path, test: &str) -> Option<Self> {
        let files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        let held: Vec<File> = files.iter().map(|path| File::open(path).unwrap()).collect();
        let mut made = Self::make(directory, test)?;
        if made.mode.is_some() {
            return Some(made);
        }
        for (path, file) in files.iter().zip(&held) {
            // The file as it was opened before its directory became read-only.
            let source = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            // First off again: it lies over the directory.
            made.mounts.insert(0, Mounted(path.clone()));
        }
        Some(made)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if let Some((path, before)) = self.mode.take() {
            let _ = fs::set_permissions(path, before);
        }
    }
}
