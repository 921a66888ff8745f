//! The tokens of the runs that this environment has begun.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// How many runs of an environment are remembered; the oldest are forgotten first.
const REMEMBERED: usize = 65_536;
/// How much of the file is read, in bytes: [`REMEMBERED`] lines of 16 digits, twice.
const READ_LIMIT: u64 = 2 * 65_536 * 17;
/// In the directory for temporary files.
const FILE_NAME: &str = ".sockerless-seen";

/// Remembers tokens in memory, and in a file that survives a crash of the bootstrap within the environment.
///
/// Only a short hash of a token is kept, from which the token cannot be found again: the program can read the
/// file. It can also spoil it; then the memory remains.
pub(crate) struct Seen {
    hashes: VecDeque<u64>,
    file: Option<File>,
}

impl Seen {
    pub(crate) fn open(temp_dir: &Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(temp_dir.join(FILE_NAME))
            .ok();
        let mut text = String::new();
        if let Some(file) = &file {
            // What cannot be read is not remembered.
            let _ = file.take(READ_LIMIT).read_to_string(&mut text);
        }
        let hashes = text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()).collect();
        Self { hashes, file }
    }

    /// Remembers the token. False: it was there already.
    pub(crate) fn insert(&mut self, token: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        token.hash(&mut hasher);
        let hash = hasher.finish();
        if self.hashes.contains(&hash) {
            return false;
        }
        while self.hashes.len() >= REMEMBERED {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        if let Some(file) = &mut self.file {
            // A full disk costs the memory of a crash, not the run.
            let _ = file.write_all(format!("{hash:016x}\n").as_bytes());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_across_a_crash_but_not_written_down() {
        let directory = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(directory.path());
        assert!(seen.insert("first"));
        assert!(!seen.insert("first"));
        let mut again = Seen::open(directory.path());
        assert!(!again.insert("first"));
        assert!(again.insert("second"));
        assert!(!Seen::open(directory.path()).insert("second"));
        let file = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert!(!file.contains("first"));
    }

    #[test]
    fn without_a_file_the_memory_remains() {
        let mut seen = Seen::open(Path::new("/nonexistent"));
        assert!(seen.insert("first"));
        assert!(!seen.insert("first"));
    }
}
