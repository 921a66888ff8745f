//! The only reader of time.
//!
//! Policy never asks what time it is: it is told. Whoever needs the time holds a [`Clock`], which is this machine's
//! clock in a running daemon and a number set by hand in a test.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A point in time: nanoseconds since the Unix epoch, from 1677 to 2262; arithmetic saturates at the ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since the Unix epoch, the unit of AWS.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_MILLI))
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(NANOS_PER_MILLI)
    }

    /// Seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// This much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with nanoseconds, as Docker writes times.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0)).map_err(|_| fmt::Error)?;
        write!(f, "{time:.9}")
    }
}

/// Tells the time. Cloning gives the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    set: Option<Arc<Hand>>,
}

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(Mutex<Dial>);

/// The time of such a clock, and those who wait for it to move. As on a machine, sleeps and stopwatches go by a time
/// of their own, which stands still when the clock is set back.
#[derive(Debug)]
struct Dial {
    now: Timestamp,
    /// By how much the clock was set back, all in all.
    set_back: Duration,
    /// By [`Dial::steady`] times.
    alarms: BTreeMap<(Timestamp, u64), Waker>,
    count: u64,
}

impl Dial {
    /// A time of this clock as one that never goes back.
    fn steady(&self, time: Timestamp) -> Timestamp {
        time.after(self.set_back)
    }
}

impl Hand {
    fn dial(&self) -> MutexGuard<'_, Dial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    /// This machine's clock.
    #[must_use]
    pub fn real() -> Self {
        Self::default()
    }

    /// A clock that stands at `now` until [`Clock::set`] moves it.
    #[must_use]
    pub fn fixed(now: Timestamp) -> Self {
        let dial = Dial { now, set_back: Duration::ZERO, alarms: BTreeMap::new(), count: 0 };
        Self { set: Some(Arc::new(Hand(Mutex::new(dial)))) }
    }

    /// Moves a fixed clock, and all its clones; a real clock does not care.
    pub fn set(&self, now: Timestamp) {
        let Some(hand) = &self.set else { return };
        let later = {
            let mut dial = hand.dial();
            let step = dial.now.since(now);
            dial.set_back += step;
            dial.now = now;
            let steady = dial.steady(now);
            let later = dial.alarms.split_off(&(steady, u64::MAX));
            std::mem::replace(&mut dial.alarms, later)
        };
        later.into_values().for_each(Waker::wake);
    }

    /// The time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.set {
            Some(hand) => hand.dial().now,
            None => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Timestamp(nanos(since_epoch))
            }
        }
    }

    /// The first time that somebody waits for on a fixed clock. `None`: nobody does, or the clock goes by itself.
    #[must_use]
    pub fn next_alarm(&self) -> Option<Timestamp> {
        let hand = self.set.as_ref()?;
        let dial = hand.dial();
        dial.alarms.first_key_value().map(|((at, _), _)| at.before(dial.set_back))
    }

    /// Returns when it is `then`: a fixed clock must be moved there.
    pub async fn sleep_until(&self, then: Timestamp) {
        match &self.set {
            Some(hand) => {
                let at = hand.dial().steady(then);
                Alarm { hand, at, number: None }.await;
            }
            None => tokio::time::sleep(then.since(self.now())).await,
        }
    }

    /// Returns after `duration`: a fixed clock must be moved by that much.
    pub async fn sleep(&self, duration: Duration) {
        match &self.set {
            Some(_) => self.sleep_until(self.now().after(duration)).await,
            None => tokio::time::sleep(duration).await,
        }
    }

    /// Now, by a time that never goes back; only differences of it mean anything.
    fn steady(&self) -> Timestamp {
        self.set.as_ref().map_or_else(
            || self.now(),
            |hand| {
                let dial = hand.dial();
                dial.steady(dial.now)
            },
        )
    }

    /// Begins to measure: the time that passes on a fixed clock, otherwise that of a clock that nobody sets.
    #[must_use]
    pub fn stopwatch(&self) -> Stopwatch {
        match &self.set {
            Some(_) => Stopwatch(Start::Fixed(self.clone(), self.steady())),
            None => Stopwatch::start(),
        }
    }
}

/// Waits for a fixed clock.
struct Alarm<'a> {
    hand: &'a Hand,
    at: Timestamp,
    number: Option<u64>,
}

impl Future for Alarm<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut dial = self.hand.dial();
        if dial.steady(dial.now) >= self.at {
            return Poll::Ready(());
        }
        dial.count += 1;
        let number = self.number.unwrap_or(dial.count);
        dial.alarms.insert((self.at, number), context.waker().clone());
        drop(dial);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.hand.dial().alarms.remove(&(self.at, number));
        }
    }
}

/// Measures how long something takes, by a clock that nobody sets. For metrics and quotas, never for policy.
#[derive(Clone, Debug)]
pub struct Stopwatch(Start);

#[derive(Clone, Debug)]
enum Start {
    Real(Instant),
    Fixed(Clock, Timestamp),
}

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn start() -> Self {
        Self(Start::Real(Instant::now()))
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Start::Real(start) => start.elapsed(),
            Start::Fixed(clock, start) => clock.steady().since(*start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_writes_nine_digits() {
        assert_eq!(Timestamp::from_nanos(1_795_396_392_190_098_000).to_string(), "2026-11-23T01:13:12.190098000Z");
        assert_eq!(Timestamp::default().to_string(), "1970-01-01T00:00:00.000000000Z");
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_nanos(i64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_secs(1).since(Timestamp::from_secs(2)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(-1).as_secs(), -1);
    }

    #[test]
    fn a_fixed_clock_is_shared_by_its_clones() {
        let clock = Clock::fixed(Timestamp::from_secs(5));
        let clone = clock.clone();
        clock.set(Timestamp::from_secs(9));
        assert_eq!(clone.now(), Timestamp::from_secs(9));
    }

    #[tokio::test]
    async fn who_sleeps_on_a_fixed_clock_wakes_when_it_is_moved() {
        let clock = Clock::fixed(Timestamp::from_secs(5));
        clock.sleep_until(Timestamp::from_secs(5)).await;
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        assert_eq!(clock.next_alarm(), Some(Timestamp::from_secs(65)));
        clock.set(Timestamp::from_secs(64));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.set(Timestamp::from_secs(65));
        sleeper.await.unwrap();
        assert_eq!(clock.next_alarm(), None);
    }

    #[tokio::test]
    async fn who_stops_sleeping_leaves_no_alarm() {
        let clock = Clock::fixed(Timestamp::from_secs(5));
        let mut sleep = Box::pin(clock.sleep(Duration::from_secs(60)));
        for _ in 0..2 {
            tokio::select! {
                biased;
                () = sleep.as_mut() => panic!("the clock stands still"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(clock.next_alarm(), Some(Timestamp::from_secs(65)));
        drop(sleep);
        assert_eq!(clock.next_alarm(), None);
        assert_eq!(Clock::real().next_alarm(), None);
    }

    #[tokio::test]
    async fn sleeps_and_stopwatches_do_not_go_back_with_their_clock() {
        let clock = Clock::fixed(Timestamp::from_secs(100_000));
        let watch = clock.stopwatch();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        clock.set(Timestamp::from_secs(1_000));
        assert_eq!((clock.next_alarm(), watch.elapsed()), (Some(Timestamp::from_secs(1_060)), Duration::ZERO));
        clock.set(Timestamp::from_secs(1_060));
        sleeper.await.unwrap();
        assert_eq!(watch.elapsed(), Duration::from_secs(60));
    }

    #[test]
    fn a_stopwatch_goes_by_its_clock() {
        let clock = Clock::fixed(Timestamp::from_secs(5));
        let watch = clock.stopwatch();
        clock.set(Timestamp::from_secs(9));
        assert_eq!(watch.elapsed(), Duration::from_secs(4));
    }
}
