//! What was played, by kind: a series in which a kind is missing proves less than it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts kinds, and notes how late they are. Cloning gives the same counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(Arc<Mutex<BTreeMap<String, u64>>>, Arc<Mutex<BTreeMap<String, i64>>>);

impl Coverage {
    /// A thing of this kind was played.
    pub(crate) fn count(&self, group: &str, kind: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(format!("{group} {kind}")).or_default() += 1;
    }

    /// All counts.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something of this kind ended so much later than it does alone, in virtual milliseconds.
    pub(crate) fn is_late(&self, kind: &str, late_ms: i64) {
        let mut latest = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = latest.entry(kind.to_owned()).or_insert(late_ms);
        *latest = late_ms.max(*latest);
    }

    /// How late each kind was at most.
    pub(crate) fn latest(&self) -> BTreeMap<String, i64> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
