//! What reading an archive may cost. The tar reader takes what stands in front of a file (a long name, a long link, pax
//! records, the map of a sparse file) into memory as a whole, however long an archive says it is.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::rc::Rc;

/// A path, in bytes: PATH_MAX of Linux. No longer one could be opened.
pub(super) const MAX_NAME_BYTES: usize = 4_096;
/// Directories of a path, one in the other. Real images have a tenth of it.
const MAX_DEPTH: usize = 256;
/// The pax records of a file, in bytes, as in Go's reader of archives, which builds and pushes most images.
const MAX_PAX_BYTES: u64 = 1_024 * 1_024;
/// Everything in front of a file, in bytes: pax records, two long names, and their headers and padding.
const MAX_FRONT_BYTES: u64 = MAX_PAX_BYTES + 32 * 1_024;

/// Refuses a path that no image needs.
pub(super) fn check_name(name: &Path) -> io::Result<()> {
    let length = name.as_os_str().len();
    if length > MAX_NAME_BYTES {
        return Err(invalid(format!("a name of {length} bytes is longer than {MAX_NAME_BYTES}")));
    }
    let depth = name.components().filter(|component| matches!(component, Component::Normal(_))).count();
    if depth > MAX_DEPTH {
        return Err(invalid(format!("a path of {depth} parts is deeper than {MAX_DEPTH}")));
    }
    Ok(())
}

pub(super) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Bounds what is read for the next entry. Its owner says when an entry's own bytes begin, which go to a file.
#[derive(Clone, Default)]
pub(super) struct Meter {
    /// How much may still be read; `None`: as much as there is.
    left: Rc<Cell<Option<u64>>>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// From here on there is nothing but what stands in front of the next file.
    pub(super) fn before_entry(&self) {
        self.left.set(Some(MAX_FRONT_BYTES));
    }

    /// From here on there are a file's own bytes.
    pub(super) fn within_entry(&self) {
        self.left.set(None);
    }

    pub(super) fn read<R>(&self, inner: R) -> Metered<R> {
        Metered { inner, meter: self.clone() }
    }
}

/// A reader that fails where its meter ends.
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.meter.left.get() else { return self.inner.read(buffer) };
        if left == 0 && !buffer.is_empty() {
            return Err(invalid(format!("names and pax records of a file are longer than {MAX_FRONT_BYTES} bytes")));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.meter.left.set(Some(left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX))));
        Ok(length)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}
