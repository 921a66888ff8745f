//! When a run has surely ended. PURE.
//!
//! An answer on a connection of ours proves the end of a run. A line of the log does so with the bootstrap, which keeps token and
//! request id from the program. A native program knows its own request id and can write every line that Lambda writes: its run is
//! over for clients when the log says so, and surely over only when its time is up.

use std::time::Duration;

use super::clock_steps;
use super::schedule::LONGEST_PAUSE;
use crate::clock::Timestamp;
use crate::state::model::{Protocol, Run, RunPhase, Spec, Status};

/// Lambda ends an invocation within seconds of its time-out.
const TIMEOUT_SLACK: Duration = Duration::from_secs(10);

/// The time until which a run of the container may go on although it counts as ended: as long, its slot is kept and no other
/// run of the container is issued. `None`: nothing goes on. Times that were noted before the clock was set back put nothing off.
pub(super) fn may_go_on_until(now: Timestamp, spec: &Spec, status: &Status) -> Option<Timestamp> {
    let noted = |status: &Status| {
        let latest = status.run.as_ref().and_then(|run| ended_by_its_log(spec, run));
        latest.max(status.busy_until).filter(|until| *until > now)
    };
    noted(status)?;
    let mut status = status.clone();
    clock_steps::correct(now, LONGEST_PAUSE, &mut status);
    noted(&status)
}

/// The time by which a run has surely ended of which only lines of a native program's log say so. When its REPORT was read it
/// had begun, so it is over by its time-out after that.
fn ended_by_its_log(spec: &Spec, run: &Run) -> Option<Timestamp> {
    let settings = &spec.config.function;
    let issued = run.issued.as_ref()?;
    if settings.protocol != Protocol::Native || !matches!(run.phase, RunPhase::Exited(_)) || run.result.is_some() {
        return None;
    }
    let time = Duration::from_secs(u64::from(settings.timeout_s)) + TIMEOUT_SLACK;
    let begun = run.report.as_ref().map(|report| report.seen_at.after(time));
    Some(begun.map_or(issued.deadline, |over| over.min(issued.deadline)))
}
