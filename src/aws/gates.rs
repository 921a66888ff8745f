//! Where calls wait for our share of a quota: the buckets of [`super::limits`] with a clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::{Bucket, Lane, Ticket, Turn};
use crate::clock::{Clock, Stopwatch};
use crate::telemetry::{AWS_QUOTA_LIMIT, AWS_QUOTA_WAIT};

/// Control-plane calls a second, all of them together, for the whole account and region (AWS, "Lambda quotas").
const CONTROL_PLANE_PER_S: f64 = 15.0;

/// GetFunction has a quota of its own (AWS, "Lambda quotas").
const GET_FUNCTION_PER_S: f64 = 100.0;

/// Invoke: ten times the account's concurrency, which is 1,000 unless AWS says otherwise. This is our own, lower bound.
const INVOKE_PER_S: f64 = 100.0;

/// FilterLogEvents: 5 to 25 by region (AWS, "CloudWatch Logs quotas").
const FILTER_LOG_EVENTS_PER_S: f64 = 5.0;

/// The other calls of CloudWatch Logs that we make: 5 to 25 each; together they are kept below this.
const LOGS_PER_S: f64 = 10.0;

/// Which quota a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    ControlPlane,
    GetFunction,
    Invoke,
    FilterLogEvents,
    Logs,
}

/// What a piece of work will call, as far as quotas are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// GetFunction.
    Look,
    /// One other control-plane call.
    Change,
    /// GetFunction, then one other control-plane call.
    LookAndChange,
}

impl Need {
    fn quotas(self) -> &'static [Quota] {
        match self {
            Self::Look => &[Quota::GetFunction],
            Self::Change => &[Quota::ControlPlane],
            Self::LookAndChange => &[Quota::GetFunction, Quota::ControlPlane],
        }
    }
}

/// A token that is taken for a call that follows soon; given back when it is dropped unused.
#[derive(Debug)]
pub(super) struct Reserved {
    gates: Arc<Gates>,
    quota: Quota,
    lane: Lane,
    sent: bool,
}

impl Reserved {
    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// The call is sent now.
    pub(super) fn send(mut self) {
        self.sent = true;
        let gate = self.gates.of(self.quota);
        gate.bucket().send_reserved(self.lane, gate.since.elapsed());
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.sent {
            self.gates.of(self.quota).bucket().give_back(self.lane);
        }
    }
}

/// One gate a quota.
#[derive(Debug)]
pub(super) struct Gates {
    control_plane: Gate,
    get_function: Gate,
    invoke: Gate,
    filter_log_events: Gate,
    logs: Gate,
}

impl Gates {
    /// `api_share`: our part of the quotas that we share with the rest of the account.
    pub(super) fn new(api_share: f64, clock: &Clock) -> Self {
        let gate = |name, per_second| Gate::new(name, per_second, clock);
        Self {
            control_plane: gate("control_plane", CONTROL_PLANE_PER_S * api_share),
            get_function: gate("get_function", GET_FUNCTION_PER_S * api_share),
            invoke: gate("invoke", INVOKE_PER_S),
            filter_log_events: gate("filter_log_events", FILTER_LOG_EVENTS_PER_S),
            logs: gate("logs", LOGS_PER_S),
        }
    }

    /// Takes the tokens that `need` asks for without waiting, all or none. `Err`: not before so long. `waited`: how long
    /// the caller has had to wait for them.
    pub(super) fn reserve(
        self: &Arc<Self>,
        need: Need,
        lane: Lane,
        waited: Duration,
    ) -> Result<Vec<Reserved>, Duration> {
        let mut all = Vec::new();
        for quota in need.quotas() {
            let gate = self.of(*quota);
            gate.bucket().reserve(lane, gate.since.elapsed())?;
            all.push(Reserved { gates: Arc::clone(self), quota: *quota, lane, sent: false });
        }
        for quota in need.quotas() {
            metrics::histogram!(AWS_QUOTA_WAIT, "bucket" => self.of(*quota).name).record(waited.as_secs_f64());
        }
        Ok(all)
    }

    pub(super) fn of(&self, quota: Quota) -> &Gate {
        match quota {
            Quota::ControlPlane => &self.control_plane,
            Quota::GetFunction => &self.get_function,
            Quota::Invoke => &self.invoke,
            Quota::FilterLogEvents => &self.filter_log_events,
            Quota::Logs => &self.logs,
        }
    }
}

/// A bucket with a clock.
#[derive(Debug)]
pub(super) struct Gate {
    name: &'static str,
    clock: Clock,
    since: Stopwatch,
    bucket: Mutex<Bucket>,
}

impl Gate {
    fn new(name: &'static str, per_second: f64, clock: &Clock) -> Self {
        metrics::gauge!(AWS_QUOTA_LIMIT, "bucket" => name).set(per_second);
        let bucket = Mutex::new(Bucket::per_second(per_second));
        Self { name, clock: clock.clone(), since: clock.stopwatch(), bucket }
    }

    /// Waits for the turn, and gives false as soon as it is seen to take longer than `at_most`. Whoever stops waiting gives
    /// up the place.
    pub(super) async fn pass(&self, lane: Lane, at_most: Duration) -> bool {
        let came = self.since.elapsed();
        let waited = || self.since.elapsed().saturating_sub(came);
        let place = Place { gate: self, ticket: self.bucket().enter(lane, came) };
        while let Some(wait) = place.wait() {
            if waited().saturating_add(wait) > at_most {
                return false;
            }
            self.clock.sleep(wait).await;
        }
        metrics::histogram!(AWS_QUOTA_WAIT, "bucket" => self.name).record(waited().as_secs_f64());
        true
    }

    /// AWS refused a call as too many.
    pub(super) fn pause(&self, retry_after: Option<Duration>) {
        self.bucket().pause(retry_after, self.since.elapsed());
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place<'a> {
    gate: &'a Gate,
    ticket: Ticket,
}

impl Place<'_> {
    /// `None`: it is our turn.
    fn wait(&self) -> Option<Duration> {
        match self.gate.bucket().ask(self.ticket, self.gate.since.elapsed()) {
            Turn::Go => None,
            Turn::Wait(wait) => Some(wait),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.bucket().leave(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_that_comes_too_late_is_not_waited_for() {
        let gate = Gate::new("test", 4.0, &Clock::real());
        assert!(gate.pass(Lane::User, Duration::ZERO).await, "the bucket is full");
        gate.pause(Some(Duration::from_secs(20)));
        assert!(!gate.pass(Lane::User, Duration::from_secs(19)).await);
        assert_eq!(gate.bucket().waiting(), 0);
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_the_line() {
        let gate = Gate::new("test", 4.0, &Clock::real());
        gate.pause(Some(Duration::from_secs(20)));
        let passed = tokio::time::timeout(Duration::from_millis(1), gate.pass(Lane::User, Duration::MAX)).await;
        assert!(passed.is_err());
        assert_eq!(gate.bucket().waiting(), 0);
    }

    #[test]
    fn tokens_are_reserved_all_or_none_and_given_back_unused() {
        let gates = Arc::new(Gates::new(1.0, &Clock::fixed(crate::clock::Timestamp::from_secs(1))));
        let reserve = |need| gates.reserve(need, Lane::User, Duration::ZERO);
        let mut held: Vec<_> = (0..15).map(|_| reserve(Need::Change).unwrap()).collect();
        assert!(reserve(Need::LookAndChange).is_err());
        let looks: Vec<_> = (0..100).map(|_| reserve(Need::Look).unwrap()).collect();
        assert!(reserve(Need::Look).is_err(), "and what was refused has kept none");
        drop(looks);
        held.pop();
        let both = reserve(Need::LookAndChange).unwrap();
        both.into_iter().for_each(Reserved::send);
        assert!(reserve(Need::Change).is_err(), "it was used up");
    }

    #[tokio::test]
    async fn a_free_gate_is_passed_at_once() {
        let gate = Gate::new("test", 15.0, &Clock::real());
        for lane in [Lane::User, Lane::Retry, Lane::Housekeeping] {
            gate.pass(lane, Duration::MAX).await;
        }
        assert_eq!(gate.bucket().waiting(), 0);
    }
}
