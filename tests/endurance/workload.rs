//! Users that live one container after another, until they are stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::life::{Record, live};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::story::Plan;

/// How many there are, and how busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) users: u64,
    /// From a container's end to the user's next one, in milliseconds.
    pub(crate) think_ms: (u64, u64),
}

pub(crate) struct Workload {
    stop: CancellationToken,
    next: Arc<AtomicU64>,
    ended: Arc<Mutex<Vec<Record>>>,
    users: JoinSet<()>,
}

impl Workload {
    pub(crate) fn start(machine: &Machine, seed: u64, pace: Pace) -> Self {
        let stop = CancellationToken::new();
        let (next, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut users = JoinSet::new();
        for user in 0..pace.users {
            let (client, shared) = (machine.client.clone(), machine.shared());
            let (stop, next, ended) = (stop.clone(), Arc::clone(&next), Arc::clone(&ended));
            let mut rng = Rng::of(!seed, user);
            users.spawn(async move {
                while !stop.is_cancelled() {
                    let plan = Plan::draw(seed, next.fetch_add(1, Ordering::Relaxed));
                    let record = live(&client, plan, &shared).await;
                    ended.lock().unwrap().push(record);
                    tokio::time::sleep(rng.millis(pace.think_ms.0, pace.think_ms.1)).await;
                }
            });
        }
        Self { stop, next, ended, users }
    }

    /// How many containers were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// How many stories have come to their end.
    pub(crate) fn ended(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    /// Lets everybody end the container that he has, and begin no other.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether everybody has ended. Fails if somebody has failed.
    pub(crate) fn is_done(&mut self) -> bool {
        while let Some(ended) = self.users.try_join_next() {
            ended.unwrap();
        }
        self.users.is_empty()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.ended.lock().unwrap().clone()
    }
}
