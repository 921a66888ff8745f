//! How large things may become, and how late. Sizes are the daemon's own limits.

use sockerless_lambda::api::{MAX_BODY_BYTES, MAX_LABEL_BYTES, MAX_NAME, MAX_REFERENCE_BYTES};
use sockerless_lambda::state::model::bounds::{
    MAX_ATTRIBUTE_BYTES, MAX_LONG_NAME_BYTES, MAX_MESSAGE_BYTES, MAX_STATUS_BYTES,
};

/// JSON may write each byte of a text as six.
const ESCAPED: usize = 6;
/// Attributes of an event that are not labels: the image, the name, and three of the event's own.
const OWN_ATTRIBUTES: usize = 5;
/// A container's settings as JSON: a body, of which what JSON escapes is escaped already, and once more the part of it that
/// is recorded as it came.
const MAX_CONFIG_BYTES: usize = 2 * MAX_BODY_BYTES;
/// An event's attributes as JSON.
const MAX_ATTRIBUTES_BYTES: usize = ESCAPED * (MAX_LABEL_BYTES + OWN_ATTRIBUTES * MAX_ATTRIBUTE_BYTES);

/// How many bytes a column may have. A new one has names in it, until it is said here what it has.
pub(crate) fn column_bytes(table: &str, column: &str) -> usize {
    match (table, column) {
        ("container", "config") => MAX_CONFIG_BYTES,
        ("container", "status") => MAX_STATUS_BYTES,
        ("container" | "tombstone", "name") => MAX_NAME,
        ("event", "attributes") => MAX_ATTRIBUTES_BYTES,
        ("tombstone", "error") | ("instance", "doubt") => MAX_MESSAGE_BYTES,
        ("image", "reference") => MAX_REFERENCE_BYTES,
        ("event", "actor_id") => MAX_REFERENCE_BYTES,
        _ => MAX_LONG_NAME_BYTES,
    }
}

/// The error of an exited container as clients see it, in bytes.
pub(crate) const MAX_ERROR_BYTES: usize = MAX_MESSAGE_BYTES;
/// The most memory that this process had in use, in KiB: two worlds at a time with their AWS and all of its log.
pub(crate) const MAX_RESIDENT_KIB: u64 = 1_024 * 1_024;

/// An honest container may end this much later than it does alone, in virtual milliseconds: the log is asked once a second,
/// and CloudWatch's quota of five questions a second is shared. In 10,000 stories it was 4.6 s at most.
pub(crate) const LATE_MS: i64 = 8_000;
/// The same while the log group is flooded with more lines than are read at once: 4.5 s at most. A whole pass over the flood
/// takes [`super::account::FLOOD_LINES`] ÷ [`super::world::FLOOD_SCAN`] questions, at five a second: who waited for that
/// would be 120 s late.
pub(crate) const LATE_IN_A_FLOOD_MS: i64 = 10_000;
/// The same when the daemon is killed behind the flood: 10 s at most.
pub(crate) const LATE_AFTER_A_KILL_MS: i64 = 20_000;
/// A world takes no longer, in real seconds; this ends one that never comes to rest.
pub(crate) const REAL_LIMIT_S: u64 = 240;
