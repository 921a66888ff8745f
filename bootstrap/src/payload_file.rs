//! The payload as a file, for programs that would rather read a file than stdin.

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What the name of every such file begins with.
const PREFIX: &str = "sockerless-payload-";
/// How often another name is tried.
const TRIES: usize = 8;

/// A file that goes away with its owner.
pub(crate) struct PayloadFile(PathBuf);

impl PayloadFile {
    /// Writes the payload to a new file that only this user can read. Its name is random: it says nothing of the
    /// invocation, and nobody can have put something else there.
    pub(crate) fn create(temp_dir: &Path, payload: &[u8]) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            // The standard library's only random number: the keys of a hash table, hashed.
            let word = RandomState::new().build_hasher().finish();
            let path = temp_dir.join(format!("{PREFIX}{word:016x}"));
            tries += 1;
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    let created = Self(path);
                    file.write_all(payload)?;
                    return Ok(created);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PayloadFile {
    fn drop(&mut self) {
        // The program may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes the files that a bootstrap has left that was killed in this environment: they are another run's.
pub(crate) fn remove_all(temp_dir: &Path) {
    for entry in std::fs::read_dir(temp_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            // What cannot be removed is not this user's.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_file_has_a_random_name_and_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let files = [(); 2].map(|()| PayloadFile::create(directory.path(), b"given").unwrap());
        assert_ne!(files[0].path(), files[1].path());
        assert_eq!(std::fs::read(files[0].path()).unwrap(), b"given");
        drop(files);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn payload_files_of_an_earlier_bootstrap_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::mem::forget(PayloadFile::create(directory.path(), b"given").unwrap());
        std::fs::write(directory.path().join("other"), "").unwrap();
        remove_all(directory.path());
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }
}
