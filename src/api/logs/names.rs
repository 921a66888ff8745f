//! Names that lines of a log have shown: request ids and tokens, honest ones and forged ones. PURE.

use std::collections::HashMap;

/// Names that are noted without being known. A log shows a handful before the daemon learns of them.
const MAX_UNKNOWN: usize = 64;
/// Bytes of a name: a request id has 36, a token 32.
const MAX_NAME_BYTES: usize = 128;

/// A bounded map from names.
///
/// # Guarantees
/// - A known name is always noted: known names are as many as the container's status holds.
/// - Of unknown names the first ones stay, and further ones are refused. Lambda's own line comes before all that a program
///   can print in its invocation, so a program that prints names cannot push out its run's.
/// - Names that are still unknown when the run after the next one has begun are forgotten.
#[derive(Debug)]
pub(super) struct Names<V> {
    entries: HashMap<String, (u64, V)>,
    /// The run under way.
    run: u64,
    /// The run during which a name was refused last.
    refused: Option<u64>,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), run: 0, refused: None }
    }
}

impl<V: Default> Names<V> {
    /// The value of a name, new or not; `None`: the name is refused.
    pub(super) fn note(&mut self, name: &str, is_known: impl Fn(&str) -> bool) -> Option<&mut V> {
        if !self.entries.contains_key(name) {
            let unknown = || self.entries.keys().filter(|noted| !is_known(noted)).count();
            if name.len() > MAX_NAME_BYTES || !(is_known(name) || unknown() < MAX_UNKNOWN) {
                self.refused = Some(self.run);
                return None;
            }
            self.entries.insert(name.to_owned(), (self.run, V::default()));
        }
        self.entries.get_mut(name).map(|(_, value)| value)
    }

    /// The value of a name that was noted.
    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.entries.get(name).map(|(_, value)| value)
    }

    /// Whether a name that is not here may have been refused.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The run of this number is under way now. What was read just before it was learned may already be of it.
    pub(super) fn begin_run(&mut self, run: u64, is_known: impl Fn(&str) -> bool) {
        if self.run != run {
            self.run = run;
            self.entries.retain(|name, (noted, _)| is_known(name) || noted.saturating_add(1) >= run);
            self.refused = self.refused.filter(|refused| refused.saturating_add(1) >= run);
        }
    }
}

#[cfg(test)]
impl<V> Names<V> {
    /// How many are noted.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_names_are_bounded_and_push_out_no_honest_one() {
        let mut names = Names::<u64>::default();
        names.begin_run(1, |_| false);
        *names.note("honest, not known yet", |_| false).unwrap() = 7;
        for forged in 0..100_000 {
            names.note(&format!("forged {forged}"), |_| false);
        }
        assert!(names.note(&"x".repeat(MAX_NAME_BYTES + 1), |_| true).is_none());
        assert_eq!((names.entries.len(), names.has_refused()), (MAX_UNKNOWN, true));
        assert_eq!(names.get("honest, not known yet"), Some(&7));
        assert!(names.note("known", |name| name == "known").is_some(), "there is always room for a known name");

        let is_known = |name: &str| name == "known";
        names.begin_run(2, is_known);
        assert!(names.get("honest, not known yet").is_some() && names.has_refused(), "it may be the next run's");
        names.begin_run(3, is_known);
        assert_eq!((names.entries.len(), names.has_refused()), (1, false));
        assert!(names.get("known").is_some());
    }
}
