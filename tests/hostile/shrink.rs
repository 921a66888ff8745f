//! From a world that fails to the few stories that make it fail.

use super::coverage::Coverage;
use super::play::{Alone, Setup, perform};
use super::story::Story;
use super::world::Broken;

/// How often a world is played again to find its smallest set.
const MOST_TRIES: usize = 40;

/// The smallest set of stories that was found to fail, and why it does.
pub(crate) fn smallest(setup: Setup<'_>, alone: &Alone, why: Broken) -> (Vec<Story>, Broken) {
    let (mut stories, mut why, mut tries) = (setup.stories.to_vec(), why, 0);
    let mut pieces = 2;
    while stories.len() > 1 && tries < MOST_TRIES {
        let size = stories.len().div_ceil(pieces);
        let without = |from: usize| -> Vec<Story> {
            let kept = stories.iter().enumerate().filter(|(index, _)| !(from..from + size).contains(index));
            kept.map(|(_, story)| story.clone()).collect()
        };
        let smaller = (0..stories.len()).step_by(size).map(without).find_map(|fewer| {
            tries += 1;
            let failed = tries <= MOST_TRIES && !fewer.is_empty();
            let failed = failed.then(|| perform(Setup { stories: &fewer, ..setup }, alone, &Coverage::default()).err());
            failed.flatten().map(|why| (fewer, why))
        });
        match smaller {
            Some((fewer, reason)) => {
                (stories, why) = (fewer, reason);
                pieces = 2.max(pieces - 1);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(stories.len()),
        }
    }
    (stories, why)
}
