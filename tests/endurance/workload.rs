//! Users that live one container after another, until they are stopped.
//!
//! Some ends take minutes by design. A container that takes long does not keep its user: he goes on with the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::life::{Record, live};
use crate::machine::Machine;
use crate::rng::Rng;
use crate::story::Plan;

/// A container that takes longer does not keep its user any more.
const ATTENTION: Duration = Duration::from_secs(5);
/// Containers under way for each user, at most, those that take long included: a slow machine must not be swamped.
const MOST: usize = 4;

/// How many there are, and how busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) users: usize,
    /// From one container to the user's next one, in milliseconds.
    pub(crate) think_ms: (u64, u64),
}

pub(crate) struct Workload {
    stop: CancellationToken,
    book: Arc<Book>,
    lives: TaskTracker,
}

#[derive(Default)]
struct Book {
    begun: AtomicU64,
    ended: Mutex<Vec<Record>>,
    /// Stories that broke off.
    broken: Mutex<Vec<String>>,
}

impl Workload {
    pub(crate) fn start(machine: &Machine, seed: u64, pace: Pace) -> Self {
        let (stop, book, lives) = (CancellationToken::new(), Arc::<Book>::default(), TaskTracker::new());
        let most = Arc::new(Semaphore::new(MOST * pace.users));
        for user in 0..pace.users {
            let (client, shared) = (machine.client.clone(), machine.shared());
            let (stop, book, tracker, most) = (stop.clone(), Arc::clone(&book), lives.clone(), Arc::clone(&most));
            let mut rng = Rng::of(!seed, user as u64);
            lives.spawn(async move {
                while !stop.is_cancelled() {
                    let place = Arc::clone(&most).acquire_owned().await.unwrap();
                    let plan = Plan::draw(seed, book.begun.fetch_add(1, Ordering::Relaxed));
                    let (client, shared, book) = (client.clone(), shared.clone(), Arc::clone(&book));
                    let life = tracker.spawn(async move {
                        let name = plan.name.clone();
                        match tokio::spawn(async move { live(&client, plan, &shared).await }).await {
                            Ok(record) => book.ended.lock().unwrap().push(record),
                            Err(error) => book.broken.lock().unwrap().push(format!("the story of {name}: {error}")),
                        }
                        drop(place);
                    });
                    // It goes on by itself.
                    let _ = tokio::time::timeout(ATTENTION, life).await;
                    tokio::time::sleep(rng.millis(pace.think_ms.0, pace.think_ms.1)).await;
                }
            });
        }
        lives.close();
        Self { stop, book, lives }
    }

    /// How many containers were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.book.begun.load(Ordering::Relaxed)
    }

    /// How many stories have come to their end.
    pub(crate) fn ended(&self) -> usize {
        self.book.ended.lock().unwrap().len()
    }

    /// Lets everybody end what he has, and begin no other.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether everybody has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.lives.is_empty()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.book.ended.lock().unwrap().clone()
    }

    /// Stories that broke off, which is a failure.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.book.broken.lock().unwrap().clone()
    }
}
