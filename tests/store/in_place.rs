//! Copies of a database's files that stand for the files themselves, as a killed process leaves them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Makes the mark beside a database name this very file, so that it is not taken for a copy of a live one.
pub(crate) fn in_place(database: &Path) {
    let mark = database.with_extension("db.mark");
    let Ok(text) = std::fs::read_to_string(&mark) else { return };
    let (said, _born) = text.trim_end().rsplit_once(' ').unwrap();
    let (said, _number) = said.rsplit_once(' ').unwrap();
    let metadata = std::fs::metadata(database).unwrap();
    let born = metadata.created().map_or(0, |time| time.duration_since(UNIX_EPOCH).unwrap().as_nanos());
    std::fs::write(mark, format!("{said} {:020} {born:020}\n", metadata.ino())).unwrap();
}
