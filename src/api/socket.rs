//! The Unix socket's file: one daemon at a time, never a moment with the wrong rights, gone at the end.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::listeners::BindError;

/// Owner and group may connect.
const SOCKET_MODE: u32 = 0o660;
/// How often a lock file that was taken away under our hands is made again.
const LOCK_ATTEMPTS: usize = 10;

/// The file of a socket that listens. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
    /// Held as long as we listen; beside the socket, because a socket itself cannot be locked.
    _lock: LockFile,
}

impl SocketFile {
    /// Listens at `path`. A socket that nobody listens at is replaced.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), BindError> {
        let failed = |reason: io::Error| BindError::Unix { path: path.to_owned(), reason };
        directory(path)?;
        let lock = LockFile::take(path)?;
        refuse_what_is_in_use(path)?;
        // Bound beside its place and then moved there: a client never meets it with other rights.
        let beside = with_suffix(path, ".new");
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        fs::set_permissions(&beside, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((Self { path: path.to_owned(), inode, _lock: lock }, listener))
    }

    /// Whether [`SocketFile::bind`] would succeed, as far as looking tells.
    pub(super) fn try_path(path: &Path) -> Result<(), BindError> {
        let directory = directory(path)?;
        nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK)
            .map_err(|error| BindError::Unix { path: path.to_owned(), reason: error.into() })?;
        refuse_what_is_in_use(path)
    }
}

fn directory(path: &Path) -> Result<&Path, BindError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(BindError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() })
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_what_is_in_use(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket { path: path.to_owned() }),
        Ok(_) => match BlockingStream::connect(path) {
            Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
            Err(_) => Ok(()),
        },
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// `PATH.lock`, locked. The kernel gives the lock back also after a crash.
#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    fn take(socket: &Path) -> Result<Self, BindError> {
        let path = with_suffix(socket, ".lock");
        let failed = |reason: io::Error| BindError::Unix { path: path.clone(), reason };
        for _ in 0..LOCK_ATTEMPTS {
            let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(BindError::InUse { path: socket.to_owned() }),
                Err(TryLockError::Error(reason)) => return Err(failed(reason)),
            }
            // The one before us may have removed the file between our opening and our locking: then ours is no lock.
            let ours = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|found| found.ino() == ours) {
                return Ok(Self { path, file });
            }
        }
        Err(BindError::InUse { path: socket.to_owned() })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // Closing is not enough: a child process has a copy of the descriptor until it executes its program.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_daemon_at_a_time_and_nothing_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sock");
        let (file, listener) = SocketFile::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert!(matches!(SocketFile::bind(&path), Err(BindError::InUse { .. })));
        drop(listener);
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_dead_socket_is_taken_over_and_a_live_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sock");
        let foreign = UnixListener::bind(&path).unwrap();
        assert!(matches!(SocketFile::bind(&path), Err(BindError::InUse { .. })));
        drop(foreign);
        assert!(path.exists());
        let (_file, _listener) = SocketFile::bind(&path).unwrap();
        assert!(BlockingStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketFile::bind(&path), Err(BindError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let missing = directory.path().join("no/d.sock");
        let error = SocketFile::bind(&missing).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }
}
