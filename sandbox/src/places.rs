//! Counts connections, so that callers that have proved nothing yet take no place from the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a listener rests when it cannot accept, such as for want of file descriptors: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The places of a listener.
pub(crate) struct Places {
    unproven: Arc<Semaphore>,
    proven: Arc<Semaphore>,
    line: Arc<Mutex<Line>>,
}

impl Places {
    /// Limits of the connections whose callers have proved nothing yet, and of all others.
    ///
    /// The last unproven place is for the next caller: the one that takes it sends the oldest one away that has proved nothing. So
    /// callers that stay silent do not keep others waiting. Only those that have proved themselves and wait for their place
    /// do; more callers wait in the listener's queue then.
    pub(crate) fn new(unproven: usize, proven: usize) -> Self {
        Self {
            unproven: Arc::new(Semaphore::new(unproven)),
            proven: Arc::new(Semaphore::new(proven)),
            line: Arc::default(),
        }
    }

    /// Waits for a place, then for a connection. Cancel-safe.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> (TcpStream, Place) {
        loop {
            let Ok(unproven) = Arc::clone(&self.unproven).acquire_owned().await else {
                // It is never closed.
                std::future::pending().await
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    if self.unproven.available_permits() == 0 {
                        lock(&self.line).send_oldest_away();
                    }
                    let seat = Seat::in_line(&self.line);
                    return (stream, Place { unproven, proven: Arc::clone(&self.proven), seat });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Those that have proved nothing yet, oldest first.
#[derive(Default)]
struct Line {
    by_number: BTreeMap<u64, Arc<Notify>>,
    last_number: u64,
}

impl Line {
    fn send_oldest_away(&mut self) {
        if let Some((_, sent_away)) = self.by_number.pop_first() {
            sent_away.notify_one();
        }
    }
}

fn lock(line: &Mutex<Line>) -> std::sync::MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a connection stands in the line, until this is dropped.
struct Seat {
    number: u64,
    sent_away: Arc<Notify>,
    line: Arc<Mutex<Line>>,
}

impl Seat {
    fn in_line(line: &Arc<Mutex<Line>>) -> Self {
        let sent_away = Arc::new(Notify::new());
        let mut inner = lock(line);
        inner.last_number += 1;
        let number = inner.last_number;
        inner.by_number.insert(number, Arc::clone(&sent_away));
        Self { number, sent_away, line: Arc::clone(line) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.line).by_number.remove(&self.number);
    }
}

/// Where a connection is counted. It begins as an unproven one.
pub(crate) struct Place {
    unproven: OwnedSemaphorePermit,
    proven: Arc<Semaphore>,
    seat: Seat,
}

impl Place {
    /// Moves to the proven ones when `proof` comes, and stays there until this is dropped. Returns if no proof comes within
    /// the limit, or before the place is needed for a newer connection.
    pub(crate) async fn keep(self, proof: &Notify, limit: Duration) {
        let Self { unproven, proven, seat } = self;
        let is_proven = tokio::select! {
            biased;
            () = proof.notified() => true,
            () = seat.sent_away.notified() => false,
            () = tokio::time::sleep(limit) => false,
        };
        if is_proven {
            drop(seat);
            let _proven = proven.acquire().await;
            drop(unproven);
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As any program on this machine that connects and says nothing: nobody waits for it to be cut off.
    #[tokio::test]
    async fn silent_callers_make_room_for_new_ones() {
        // Without room it would take a day.
        tokio::time::timeout(Duration::from_secs(60), callers_come()).await.expect("nobody waits");
    }

    async fn callers_come() {
        const LIMIT: Duration = Duration::from_secs(86_400);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, places) = (listener.local_addr().unwrap(), Places::new(3, 1));
        let mut silent = Vec::new();
        for _ in 0..10 {
            let client = TcpStream::connect(address).await.unwrap();
            let (server, place) = places.accept(&listener).await;
            let kept = tokio::spawn(async move {
                let _server = server;
                place.keep(&Notify::new(), LIMIT).await;
            });
            silent.push((client, kept));
        }
        let (_client, first) = silent.swap_remove(0);
        first.await.unwrap();

        // One that has proved itself stays, even if it must wait for its place.
        let proof = Arc::new(Notify::new());
        let mut proven = Vec::new();
        for _ in 0..2 {
            let client = TcpStream::connect(address).await.unwrap();
            let (_server, place) = places.accept(&listener).await;
            let proof = Arc::clone(&proof);
            proof.notify_one();
            let kept = tokio::spawn(async move { place.keep(&proof, LIMIT).await });
            tokio::task::yield_now().await;
            proven.push((client, kept));
        }
        for _ in 0..10 {
            let client = TcpStream::connect(address).await.unwrap();
            let (_server, place) = places.accept(&listener).await;
            let kept = tokio::spawn(async move { place.keep(&Notify::new(), LIMIT).await });
            silent.push((client, kept));
        }
        assert!(proven.iter().all(|(_, kept)| !kept.is_finished()));
    }
}
