//! The mark: a file beside the database that says how many commits it has had.
//!
//! A database can lose its newest commits without a sign in itself: its write-ahead log is cut off, or an older copy is
//! put in its place. To go on from there would invoke again what was invoked already. So commits are counted, in the
//! database and, after each of them, in the mark; whoever opens the database next compares the two. The mark names the
//! file, too: a copy of a database that is in use would go on beside it, and run what it runs once more.
//!
//! # Guarantees
//! - The mark is never ahead of a database that has lost nothing: it is written when the commit is durable.
//!
//! # Assumptions
//! - A mark that is behind proves nothing: a power cut or a full disk may keep it so.
//! - Who puts the database, its log and its mark back all at once in their own places, as a snapshot of the whole disk
//!   does, is not found out here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use super::{Result, StateError, file, instance};

/// Why a database that is open for reading may have lost commits. Another daemon may be writing to it.
pub(super) async fn look(database: &Path, readers: &SqlitePool) -> Result<Option<String>> {
    let path = file::beside(database, ".mark");
    // The mark first: it is behind then, if anything.
    let said = read(&path).map_err(|error| failed(database, &path, &error))?;
    let file = Inode::of(database).map_err(|error| failed(database, &path, &error))?;
    let count = instance::count_commits(&mut *readers.acquire().await?).await?;
    Ok(doubt(said.as_ref(), &count, file, &path))
}

fn failed(database: &Path, mark: &Path, error: &io::Error) -> StateError {
    file::unusable(database, format!("its mark {} fails: {error}", mark.display()))
}

/// What the database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// The instance's id.
    pub(super) id: String,
    /// Its commits.
    pub(super) commits: u64,
    /// Its daemon has closed it.
    pub(super) closed: bool,
}

/// Which file of its file system it is. A copy is another one; a file that is renamed, or whose file system is mounted
/// elsewhere, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    number: u64,
    /// When it was made, in nanoseconds since 1970: numbers are given out again. 0: the file system does not tell.
    born: u64,
}

impl Inode {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Ok(Self { number: metadata.ino(), born })
    }

    fn is(self, other: Self) -> bool {
        self.number == other.number && (self.born == other.born || self.born == 0 || other.born == 0)
    }
}

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// The instance's id.
    id: String,
    commits: u64,
    /// The database.
    file: Inode,
}

/// The open mark of an open database.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    id: String,
    database: Inode,
    /// The last attempt to write it failed, which was said.
    failing: bool,
}

impl Mark {
    /// Compares the mark with the database, records a doubt in the database for good, and takes both into use.
    pub(super) async fn take_up(database: &Path, connection: &mut SqliteConnection) -> Result<Self> {
        let path = file::beside(database, ".mark");
        let failed = |error: io::Error| failed(database, &path, &error);
        let count = instance::count_commits(connection).await?;
        let said = read(&path).map_err(failed)?;
        let inode = Inode::of(database).map_err(failed)?;
        let doubt = doubt(said.as_ref(), &count, inode, &path);
        let file = file::open_private(&path).map_err(failed)?;
        let mut mark = Self { file, id: count.id, database: inode, failing: false };
        if doubt.is_none() {
            // Before the database says that it was taken into use: from then on the mark must not be missing.
            mark.write(count.commits).and_then(|()| mark.sync(&path)).map_err(failed)?;
        }
        let commits = instance::take_up(connection, doubt.as_deref()).await?;
        mark.set(commits);
        Ok(mark)
    }

    /// So many commits are durable.
    pub(super) fn set(&mut self, commits: u64) {
        match (self.write(commits), self.failing) {
            (Ok(()), _) => self.failing = false,
            (Err(error), false) => {
                self.failing = true;
                tracing::warn!(%error, "the mark beside the database cannot be written; it stays behind");
            }
            (Err(_), true) => {}
        }
    }

    fn write(&self, commits: u64) -> io::Result<()> {
        self.file.write_all_at(text(&self.id, commits, self.database).as_bytes(), 0)
    }

    /// Makes it survive a power cut: that it is there, not each number.
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        File::open(file::directory_of(path))?.sync_all()
    }
}

/// Always of the same length, so that a newer one replaces an older one whole.
fn text(id: &str, commits: u64, Inode { number, born }: Inode) -> String {
    format!("{id} {commits:020} {number:020} {born:020}\n")
}

/// What a mark says; `None`: there is none, or it makes no sense.
fn read(path: &Path) -> io::Result<Option<Said>> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [id, commits, number, born] = words[..] else { return Ok(None) };
    let (Ok(commits), Ok(number), Ok(born)) = (commits.parse(), number.parse(), born.parse()) else { return Ok(None) };
    Ok(Some(Said { id: id.to_owned(), commits, file: Inode { number, born } }))
}

/// Why the database may have lost commits. PURE.
fn doubt(said: Option<&Said>, count: &Count, file: Inode, mark: &Path) -> Option<String> {
    let mark = mark.display();
    match said {
        None if count.commits > 0 && !count.closed => Some(format!(
            "its last daemon did not close it, and its mark {mark}, which tells whether commits are lost, is missing"
        )),
        // A database that has just been made may find the mark of one that was deleted.
        Some(said) if said.id != count.id && count.commits > 0 && !count.closed => {
            Some(format!("its last daemon did not close it, and the mark {mark} is another database's"))
        }
        Some(said) if said.id == count.id && said.commits > count.commits => Some(format!(
            "it has had {} commits, and holds {} of them: the last ones are lost",
            said.commits, count.commits
        )),
        Some(said) if said.id == count.id && !count.closed && !said.file.is(file) => {
            Some("it is a copy of a database that its daemon has not closed".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Inode = Inode { number: 5, born: 9 };

    fn said(id: &str, commits: u64, file: Inode) -> Option<Said> {
        Some(Said { id: id.to_owned(), commits, file })
    }

    #[test]
    fn what_raises_a_doubt() {
        let count = |commits, closed| Count { id: "0a".to_owned(), commits, closed };
        let other = |number, born| said("0a", 7, Inode { number, born });
        for (said, count, expected) in [
            (None, count(0, false), None),
            (None, count(7, true), None),
            (None, count(7, false), Some("is missing")),
            (said("0a", 7, FILE), count(7, false), None),
            (said("0a", 6, FILE), count(7, false), None),
            (said("0a", 8, FILE), count(7, false), Some("8 commits, and holds 7")),
            (said("0a", 8, FILE), count(7, true), Some("8 commits, and holds 7")),
            (said("0b", 1, FILE), count(7, false), Some("another database")),
            (said("0b", 1, FILE), count(0, false), None),
            (said("0b", 9, FILE), count(7, true), None),
            (other(6, 9), count(7, false), Some("a copy")),
            (other(5, 8), count(7, false), Some("a copy")),
            (other(5, 0), count(7, false), None),
            (other(6, 9), count(7, true), None),
        ] {
            let found = doubt(said.as_ref(), &count, FILE, Path::new("/x.mark"));
            assert_eq!(found.is_some(), expected.is_some(), "{said:?} {count:?} {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{said:?} {count:?}");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.mark");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(&path, text("0a1b2c3d4e", 77, FILE)).unwrap();
        assert_eq!(read(&path).unwrap(), said("0a1b2c3d4e", 77, FILE));
        for nonsense in ["", "0a", "0a x", "0a 7", "0a 7 5 x", "\u{0}\u{0}\u{0}"] {
            fs::write(&path, nonsense).unwrap();
            assert_eq!(read(&path).unwrap(), None, "{nonsense:?}");
        }
        assert!(read(directory.path()).is_err(), "a directory");
    }

    #[test]
    fn a_copy_is_another_file_and_a_renamed_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let [first, copy, renamed] = ["a", "b", "c"].map(|name| directory.path().join(name));
        fs::write(&first, "x").unwrap();
        fs::copy(&first, &copy).unwrap();
        let file = Inode::of(&first).unwrap();
        assert!(!file.is(Inode::of(&copy).unwrap()));
        fs::rename(&first, &renamed).unwrap();
        assert!(file.is(Inode::of(&renamed).unwrap()));
    }
}
