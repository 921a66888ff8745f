//! Counts connections, so that callers that have proved nothing yet take no place from the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a listener rests when it cannot accept, such as for want of file descriptors: it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The places of a listener.
pub(crate) struct Places {
    unproven: Arc<Semaphore>,
    proven: Arc<Semaphore>,
}

impl Places {
    /// Limits of the connections whose callers have proved nothing yet, and of all others. More wait in the listener's queue.
    pub(crate) fn new(unproven: usize, proven: usize) -> Self {
        Self { unproven: Arc::new(Semaphore::new(unproven)), proven: Arc::new(Semaphore::new(proven)) }
    }

    /// Waits for a place, then for a connection. Cancel-safe.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> (TcpStream, Place) {
        loop {
            let Ok(unproven) = Arc::clone(&self.unproven).acquire_owned().await else {
                // It is never closed.
                std::future::pending().await
            };
            match listener.accept().await {
                Ok((stream, _)) => return (stream, Place { unproven, proven: Arc::clone(&self.proven) }),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Where a connection is counted. It begins as an unproven one.
pub(crate) struct Place {
    unproven: OwnedSemaphorePermit,
    proven: Arc<Semaphore>,
}

impl Place {
    /// Moves to the proven ones when `proof` comes, and stays there until this is dropped. Returns if no proof comes within
    /// the limit.
    pub(crate) async fn keep(self, proof: &Notify, limit: Duration) {
        if tokio::time::timeout(limit, proof.notified()).await.is_ok() {
            let _proven = self.proven.acquire().await;
            drop(self.unproven);
            std::future::pending::<()>().await;
        }
    }
}
