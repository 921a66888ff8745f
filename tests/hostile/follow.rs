//! A client that follows the log of an honest container from its start: it must get all of it, and nothing else.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::client::{Answer, Raw, exchange};
use super::honest::{Outcome, by_stream, shown};
use super::world::{Broken, World};

/// Between two looks whether the answer has ended: what the daemon waits for is real time.
const PAUSE: Duration = Duration::from_millis(20);
/// Virtual time that passes between two looks, in milliseconds: a question to AWS may wait for its turn.
const PASSES_MS: i64 = 100;
/// Looks until the answer must have ended: a minute.
const MOST_LOOKS: usize = 3_000;

/// A client with an open answer.
#[derive(Debug)]
pub(crate) struct Follower {
    answer: Answer,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins to follow.
    pub(crate) fn begin(world: &World, name: &str) -> Self {
        let raw = Raw::plain("GET", &format!("/containers/{name}/logs?follow=1&stdout=1&stderr=1"), "");
        let (answer, doors) = (world.answer(), world.daemon().doors.clone());
        let filled = answer.clone();
        // A connection that is broken off has no complete answer, which is noticed.
        let task = tokio::spawn(async move { drop(exchange(&doors, &raw, filled).await) });
        Self { answer, task }
    }

    /// The answer ends, and is the container's output, whatever others write into streams that are called as its own.
    pub(crate) async fn judge(self, world: &mut World, expected: &Outcome) -> Result<(), Broken> {
        for _ in 0..MOST_LOOKS {
            if self.task.is_finished() {
                let followed = by_stream(&self.answer.body())?;
                if followed == expected.output {
                    return Ok(());
                }
                return Err(format!("followed are {}, not {}", shown(&followed), shown(&expected.output)));
            }
            world.let_pass(PASSES_MS).await;
            tokio::time::sleep(PAUSE).await;
        }
        Err("who follows the log waits for its end".to_owned())
    }
}
