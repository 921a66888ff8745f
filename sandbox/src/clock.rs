//! The only place of the sandbox that reads the time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds since the Unix epoch. Cloning gives the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    set: Option<Arc<Hand>>,
}

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(Mutex<Dial>);

/// Its time, and those who wait for it to move, by their times.
#[derive(Debug)]
struct Dial {
    now_ms: i64,
    alarms: BTreeMap<(i64, u64), Waker>,
    count: u64,
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

    /// A clock that stands at `now_ms` until [`Clock::set`] moves it. For scripted programs only: real ones do not wait.
    #[must_use]
    pub fn fixed(now_ms: i64) -> Self {
        Self { set: Some(Arc::new(Hand(Mutex::new(Dial { now_ms, alarms: BTreeMap::new(), count: 0 })))) }
    }

    /// Moves a fixed clock, and all its clones; a real clock does not care.
    pub fn set(&self, now_ms: i64) {
        let Some(hand) = &self.set else { return };
        let due = {
            let mut dial = hand.dial();
            dial.now_ms = now_ms;
            let later = dial.alarms.split_off(&(now_ms, u64::MAX));
            std::mem::replace(&mut dial.alarms, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// The time; 0 when the machine's clock is set before 1970.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.set.as_ref().map_or_else(now_ms, |hand| hand.dial().now_ms)
    }

    /// The first time that somebody waits for on a fixed clock. `None`: nobody does, or the clock goes by itself.
    #[must_use]
    pub fn next_alarm_ms(&self) -> Option<i64> {
        self.set.as_ref()?.dial().alarms.first_key_value().map(|((at, _), _)| *at)
    }

    /// Returns when it is `then_ms`: a fixed clock must be moved there.
    pub async fn sleep_until(&self, then_ms: i64) {
        match &self.set {
            Some(hand) => Alarm { hand, at: then_ms, number: None }.await,
            None => {
                let wait = u64::try_from(then_ms.saturating_sub(now_ms())).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}

/// Waits for a fixed clock.
struct Alarm<'a> {
    hand: &'a Hand,
    at: i64,
    number: Option<u64>,
}

impl Future for Alarm<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut dial = self.hand.dial();
        if dial.now_ms >= self.at {
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

#[expect(clippy::disallowed_methods, reason = "this is the clock that the rest of the crate gets its time from")]
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sleeps_on_a_fixed_clock_wakes_when_it_is_moved() {
        let clock = Clock::fixed(5_000);
        clock.sleep_until(5_000).await;
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(6_000).await }
        });
        tokio::task::yield_now().await;
        assert_eq!((sleeper.is_finished(), clock.next_alarm_ms()), (false, Some(6_000)));
        clock.set(6_000);
        sleeper.await.unwrap();
        assert_eq!((clock.now_ms(), clock.next_alarm_ms()), (6_000, None));
    }
}
