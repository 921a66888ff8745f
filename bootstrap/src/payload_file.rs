//! The payload as a file, for programs that would rather read a file than stdin.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that goes away with its owner.
pub(crate) struct PayloadFile(PathBuf);

impl PayloadFile {
    /// Writes the payload to a new file that only this user can read.
    pub(crate) fn create(temp_dir: &Path, request_id: &str, payload: &[u8]) -> io::Result<Self> {
        let word: String = request_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let path = temp_dir.join(format!("sockerless-payload-{word}"));
        // What a crash may have left; if there is nothing, all the better.
        let _ = std::fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let created = Self(path);
        file.write_all(payload)?;
        Ok(created)
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
