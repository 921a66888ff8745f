//! Times and durations in Docker's words. PURE.

use std::time::Duration;

use crate::clock::Timestamp;

/// What Docker writes for a time that was never set.
pub(super) const UNSET: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with nanoseconds, or Docker's zero.
pub(super) fn or_unset(time: Option<Timestamp>) -> String {
    time.map_or_else(|| UNSET.to_owned(), |time| time.to_string())
}

/// A duration for people: moby's `units.HumanDuration`.
pub(super) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // moby rounds hours.
    let hours = (seconds + 1_800) / 3_600;
    match (seconds, minutes, hours) {
        (0, _, _) => "Less than a second".to_owned(),
        (1, _, _) => "1 second".to_owned(),
        (2..=59, _, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..=59, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..=47) => format!("{hours} hours"),
        (_, _, 48..=335) => format!("{} days", hours / 24),
        (_, _, 336..=1_439) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1_440..=17_519) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_mobys() {
        const HOUR: u64 = 3_600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (45, "45 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1_799, "About an hour"),
            (HOUR + 1_800, "2 hours"),
            (24 * HOUR, "24 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (400 * DAY, "13 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }
}
