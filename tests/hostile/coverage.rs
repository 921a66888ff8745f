//! What was played, by kind: a series in which a kind is missing proves less than it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts kinds. Cloning gives the same counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(Arc<Mutex<BTreeMap<String, u64>>>);

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
}
