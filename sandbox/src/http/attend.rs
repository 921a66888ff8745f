//! An answer that lasts as long as somebody listens.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior};

use super::Shared;

/// How often a newline is sent, so that a client that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Counts as an attendant until it is dropped.
pub(super) struct Attendance {
    shared: Arc<Shared>,
    heartbeat: Interval,
}

impl Attendance {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.attendants.fetch_add(1, Ordering::Relaxed);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { shared: Arc::clone(shared), heartbeat }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.shared.touch();
        self.shared.attendants.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for Attendance {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.get_mut().heartbeat.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"\n")))))
    }
}
