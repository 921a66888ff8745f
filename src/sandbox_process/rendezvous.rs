//! The file by which a daemon finds the sandbox of its database.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Listen;

/// What the file says. The identity is a secret: whoever knows it has read the file, so the process that tells it is
/// the one that wrote it, and not another one on the same port. The keys are secret, too: they are what the sandbox
/// demands of every request, so only who may read the file can use it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rendezvous {
    pub(super) endpoint: String,
    pub(super) pid: u32,
    pub(super) identity: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
}

/// Never prints the secrets.
impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("endpoint", &self.endpoint).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Rendezvous {
    /// What the file says; `None` if there is none, or it makes no sense: then it is stale.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Puts the file there at once and whole, readable for its owner only.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = Path::new(&new);
        match fs::remove_file(new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }

    /// The endpoint as an address.
    pub(super) fn address(&self) -> Option<Listen> {
        self.endpoint.strip_prefix("http://")?.parse().ok().map(Listen::Tcp)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn rendezvous(endpoint: &str) -> Rendezvous {
        Rendezvous {
            endpoint: endpoint.to_owned(),
            pid: 1,
            identity: "secret identity".to_owned(),
            access_key_id: "SANDBOX1".to_owned(),
            secret_access_key: "secret key".to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sandbox");
        assert_eq!(Rendezvous::read(&path), None);
        for pid in [1, 2] {
            let written = Rendezvous { pid, ..rendezvous("http://127.0.0.1:4566") };
            assert!(!format!("{written:?}").contains("secret"));
            written.write(&path).unwrap();
            assert_eq!(Rendezvous::read(&path), Some(written));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn nonsense_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.sandbox");
        for text in ["", "{", "{\"endpoint\": 5}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(Rendezvous::read(&path), None, "{text:?}");
        }
        assert_eq!(rendezvous("https://x").address(), None);
    }
}
