//! What systemd is told (sd_notify): ready, alive, stopping, and how it goes in a sentence.
//!
//! Nothing is told unless the process was started with `NOTIFY_SOCKET`, and only after [`ServiceManager::ready`]: a
//! daemon inside another command is nobody's service.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::health::Check;

/// The variables of the protocol. Child processes do not speak for us.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// Characters of a status, at most.
const MAX_STATUS: usize = 500;

/// The service manager, if there is one. Cloning gives the same.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    announced: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    told: Arc<Mutex<String>>,
}

impl ServiceManager {
    /// The daemon serves. From now on more is told.
    pub fn ready(&self) {
        self.announced.store(true, Ordering::Relaxed);
        self.send(&[NotifyState::Ready]);
    }

    /// The daemon stops.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Whether the daemon stops. Then nothing goes on as it should, and that is well.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A sign of life, if the daemon makes progress. Without it the service manager will end the daemon.
    pub fn alive(&self, progress: bool) {
        if progress {
            self.send(&[NotifyState::Watchdog]);
        }
    }

    /// How it goes, if that has changed.
    pub fn status(&self, problems: &BTreeMap<Check, String>, degraded: &BTreeMap<Check, String>) {
        if !self.announced.load(Ordering::Relaxed) {
            return;
        }
        let status = status(problems, degraded);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != status {
            self.send(&[NotifyState::Status(&status)]);
            *told = status;
        }
    }

    /// When signs of life are due: after half the time that the service manager waits for one.
    #[must_use]
    pub fn signs_of_life(&self) -> SignsOfLife {
        let half = sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero());
        SignsOfLife { interval: half.map(interval) }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.announced.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The times at which signs of life are due.
#[derive(Debug)]
pub struct SignsOfLife {
    /// `None`: nobody waits for one.
    interval: Option<Interval>,
}

impl SignsOfLife {
    /// Waits for the next one. May be dropped and called again.
    pub async fn due(&mut self) {
        match &mut self.interval {
            Some(interval) => {
                let _: Instant = interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// One line, whatever the reasons hold.
fn status(problems: &BTreeMap<Check, String>, degraded: &BTreeMap<Check, String>) -> String {
    let word = match (problems.is_empty(), degraded.is_empty()) {
        (true, true) => return "ready".to_owned(),
        (true, false) => "degraded",
        (false, _) => "not ready",
    };
    let all = problems.iter().chain(degraded);
    let reasons: Vec<String> = all.map(|(check, reason)| format!("{}: {reason}", check.as_str())).collect();
    let text = format!("{word}: {}", reasons.join("; "));
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_STATUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        let none = BTreeMap::new();
        assert_eq!(status(&none, &none), "ready");
        let degraded = BTreeMap::from([(Check::Rows, "1 row".to_owned())]);
        assert_eq!(status(&none, &degraded), "degraded: rows: 1 row");
        let problems =
            BTreeMap::from([(Check::Aws, "two\nlines".to_owned()), (Check::Store, "x".repeat(2 * MAX_STATUS))]);
        let text = status(&problems, &none);
        assert!(text.starts_with("not ready: store: xxx"), "{text}");
        assert_eq!(text.chars().count(), MAX_STATUS);
        let problems = BTreeMap::from([(Check::Aws, "two\nlines".to_owned())]);
        assert_eq!(status(&problems, &degraded), "not ready: aws: two lines; rows: 1 row");
    }
}
