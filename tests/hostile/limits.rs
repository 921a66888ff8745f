//! How large things may become, and how late.

/// A container's settings, in bytes: the body of a request has at most 4 MiB, and JSON may escape it once more.
pub(crate) const MAX_CONFIG_BYTES: i64 = 8 * 1_024 * 1_024;
/// A container's status, in bytes. The largest texts in it are 64 KiB of a function's answer and 4 KiB of its log, of which
/// JSON may write each byte as six; 200 names of log streams; an exit's message and a failure's.
pub(crate) const MAX_STATUS_BYTES: i64 = 640 * 1_024;
/// An event's attributes, in bytes: 64 KiB of labels, of which JSON may write each byte as six, and some texts beside them.
pub(crate) const MAX_ATTRIBUTES_BYTES: i64 = 512 * 1_024;
/// A name, a reference, an action, an id or a sentence, in bytes.
pub(crate) const MAX_TEXT_BYTES: i64 = 16 * 1_024;
/// The error of an exited container as clients see it, in bytes.
pub(crate) const MAX_ERROR_BYTES: usize = 16 * 1_024;
/// The most memory that this process had in use, in KiB: two worlds at a time with their AWS and all of its log.
pub(crate) const MAX_RESIDENT_KIB: u64 = 1_024 * 1_024;

/// An honest container may end this much later than it does alone, in virtual milliseconds: the log is asked once a second,
/// and CloudWatch's quota of five questions a second is shared.
pub(crate) const LATE_MS: i64 = 30_000;
/// The same while the log group is flooded with more lines than are read at once. A pass over the flood takes
/// [`super::account::FLOOD_LINES`] ÷ [`super::world::FLOOD_SCAN`] questions, at five a second: some 150 s.
pub(crate) const LATE_IN_A_FLOOD_MS: i64 = 360_000;
/// A world takes no longer, in real seconds; this ends one that never comes to rest.
pub(crate) const REAL_LIMIT_S: u64 = 240;
