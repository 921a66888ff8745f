//! Who is told of a commit. Everything here is a level: a listener that is slow misses no change, it sees fewer steps.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use super::causes::{Caused, Causes};
use super::model::ContainerId;
use super::quarantine::{Quarantine, Table};
use super::records::Wished;
use super::{Result, StateError};
use crate::traces::Cause;

/// So many containers a wish feed counts one by one; beyond, it says [`Wished::Many`].
pub(super) const FEED_LIMIT: usize = 1_024;

/// What one commit changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    touched: BTreeSet<ContainerId>,
    wished: BTreeSet<ContainerId>,
    pub(super) caused: Vec<Caused<Cause>>,
    last_event: Option<i64>,
    unreadable_gone: Vec<(Table, String)>,
}

impl Changes {
    /// Something of the container is different.
    pub(super) fn touch(&mut self, id: ContainerId) {
        self.touched.insert(id);
    }

    /// The container's wish is different: the reconciler must look.
    pub(super) fn wish(&mut self, id: ContainerId) {
        self.touched.insert(id);
        self.wished.insert(id);
    }

    /// The container's wish of this generation came from this request.
    pub(super) fn caused(&mut self, id: ContainerId, generation: u64, cause: Cause) {
        self.caused.push(Caused { id, generation, cause });
    }

    /// An event was recorded.
    pub(super) fn event(&mut self, seq: i64) {
        self.last_event = Some(seq);
    }

    /// A row that could not be read was deleted or replaced.
    pub(super) fn unreadable_gone(&mut self, table: Table, key: String) {
        self.unreadable_gone.push((table, key));
    }

    /// Takes in the changes of the next command of the same commit.
    pub(super) fn merge(&mut self, later: Self) {
        self.touched.extend(later.touched);
        self.wished.extend(later.wished);
        self.caused.extend(later.caused);
        self.unreadable_gone.extend(later.unreadable_gone);
        self.last_event = later.last_event.or(self.last_event);
    }
}

/// Where listeners meet commits.
#[derive(Debug)]
pub(super) struct Hub {
    listeners: Mutex<Listeners>,
    events: watch::Receiver<i64>,
    pub(super) causes: Causes<Cause>,
    pub(super) quarantine: Quarantine,
}

#[derive(Debug)]
struct Listeners {
    /// `None`: the store is closed.
    events: Option<watch::Sender<i64>>,
    containers: HashMap<ContainerId, watch::Sender<()>>,
    feeds: Vec<Weak<Feed>>,
}

impl Hub {
    pub(super) fn new(last_event: i64) -> Self {
        let (sender, events) = watch::channel(last_event);
        let listeners = Listeners { events: Some(sender), containers: HashMap::new(), feeds: Vec::new() };
        Self { listeners: Mutex::new(listeners), events, causes: Causes::default(), quarantine: Quarantine::default() }
    }

    /// Wakes everybody whom the commit concerns. To be called after it only.
    pub(super) fn publish(&self, changes: &Changes) {
        for (table, key) in &changes.unreadable_gone {
            self.quarantine.drop_row(*table, key);
        }
        let mut listeners = self.lock();
        for id in &changes.touched {
            if let Some(sender) = listeners.containers.get(id) {
                sender.send_replace(());
            }
        }
        if let (Some(seq), Some(events)) = (changes.last_event, &listeners.events) {
            events.send_replace(seq);
        }
        if !changes.wished.is_empty() {
            listeners.feeds.retain(|feed| feed.upgrade().is_some_and(|feed| feed.add(&changes.wished)));
        }
    }

    /// Tells everybody that there will be no more commits.
    pub(super) fn close(&self) {
        let mut listeners = self.lock();
        listeners.events = None;
        listeners.containers.clear();
        for feed in mem::take(&mut listeners.feeds).iter().filter_map(Weak::upgrade) {
            feed.close();
        }
    }

    pub(super) fn watch(self: &Arc<Self>, id: ContainerId) -> Watch {
        let mut listeners = self.lock();
        let receiver = if listeners.events.is_none() {
            watch::channel(()).1
        } else {
            listeners.containers.entry(id).or_insert_with(|| watch::channel(()).0).subscribe()
        };
        Watch { id, receiver, hub: Arc::clone(self) }
    }

    pub(super) fn watch_events(&self) -> watch::Receiver<i64> {
        self.events.clone()
    }

    pub(super) fn wish_feed(&self) -> WishFeed {
        let mut listeners = self.lock();
        let feed = Arc::new(Feed::default());
        if listeners.events.is_none() {
            feed.close();
        } else {
            listeners.feeds.push(Arc::downgrade(&feed));
        }
        WishFeed { feed }
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes after every commit that touched one container: see [`super::Reader::watch`]. A level, not a queue: changes
/// between two calls are one.
#[derive(Debug)]
pub struct Watch {
    id: ContainerId,
    receiver: watch::Receiver<()>,
    hub: Arc<Hub>,
}

impl Watch {
    /// Returns when a commit touched the container since the last call (or since the watch was made). May be dropped
    /// and called again.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn changed(&mut self) -> Result<()> {
        self.receiver.changed().await.map_err(|_| StateError::Closed)
    }
}

/// The last watch of a container takes its entry along.
impl Drop for Watch {
    fn drop(&mut self) {
        let mut listeners = self.hub.lock();
        if listeners.containers.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            listeners.containers.remove(&self.id);
        }
    }
}

#[derive(Debug, Default)]
struct Feed {
    pending: Mutex<Pending>,
    /// Keeps one permit, so that the one consumer never misses what came while it was busy.
    more: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    ids: BTreeSet<ContainerId>,
    many: bool,
    closed: bool,
}

impl Feed {
    /// Always `true`: the feed is alive.
    fn add(&self, ids: &BTreeSet<ContainerId>) -> bool {
        {
            let mut pending = self.lock();
            if !pending.many {
                pending.ids.extend(ids);
                pending.many = pending.ids.len() > FEED_LIMIT;
            }
            if pending.many {
                pending.ids.clear();
            }
        }
        self.more.notify_one();
        true
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    fn take(&self) -> Result<Option<Wished>> {
        let mut pending = self.lock();
        if pending.closed {
            return Err(StateError::Closed);
        }
        if mem::take(&mut pending.many) {
            return Ok(Some(Wished::Many));
        }
        let ids = mem::take(&mut pending.ids);
        Ok((!ids.is_empty()).then(|| Wished::Some(ids.into_iter().collect())))
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whose wishes change: see [`super::Facts::wish_feed`]. Bounded: what does not fit becomes [`Wished::Many`].
#[derive(Debug)]
pub struct WishFeed {
    feed: Arc<Feed>,
}

impl WishFeed {
    /// Whose wishes changed since the last call; waits for the first. May be dropped and called again.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn next(&mut self) -> Result<Wished> {
        loop {
            if let Some(wished) = self.feed.take()? {
                return Ok(wished);
            }
            self.feed.more.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> ContainerId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        ContainerId::from_bytes(bytes)
    }

    fn wish(ids: impl IntoIterator<Item = u16>) -> Changes {
        let mut changes = Changes::default();
        ids.into_iter().for_each(|n| changes.wish(id(n)));
        changes
    }

    #[tokio::test]
    async fn a_watch_never_misses_and_leaves_nothing_behind() {
        let hub = Arc::new(Hub::new(0));
        let (mut first, second) = (hub.watch(id(1)), hub.watch(id(1)));
        hub.publish(&wish([1, 2]));
        hub.publish(&wish([1]));
        first.changed().await.unwrap();
        assert!(!first.receiver.has_changed().unwrap(), "two changes are one");
        drop(first);
        assert_eq!(hub.lock().containers.len(), 1);
        drop(second);
        assert_eq!(hub.lock().containers.len(), 0);
    }

    #[tokio::test]
    async fn a_feed_merges_and_overflows() {
        let hub = Hub::new(0);
        let mut feed = hub.wish_feed();
        hub.publish(&wish([2, 1]));
        hub.publish(&wish([2]));
        assert_eq!(feed.next().await.unwrap(), Wished::Some(vec![id(1), id(2)]));

        let limit = u16::try_from(FEED_LIMIT).unwrap();
        hub.publish(&wish(0..limit));
        hub.publish(&wish(0..=limit));
        hub.publish(&wish([7]));
        assert_eq!(feed.next().await.unwrap(), Wished::Many);
        hub.publish(&wish([7]));
        assert_eq!(feed.next().await.unwrap(), Wished::Some(vec![id(7)]));
    }

    #[tokio::test]
    async fn a_dropped_feed_is_forgotten() {
        let hub = Hub::new(0);
        drop(hub.wish_feed());
        hub.publish(&wish([1]));
        assert!(hub.lock().feeds.is_empty());
    }

    #[tokio::test]
    async fn closing_tells_everybody() {
        let hub = Arc::new(Hub::new(4));
        let (mut watch, mut feed, mut events) = (hub.watch(id(1)), hub.wish_feed(), hub.watch_events());
        hub.publish(&wish([1]));
        hub.close();
        watch.changed().await.unwrap();
        assert!(matches!(watch.changed().await, Err(StateError::Closed)));
        assert!(matches!(feed.next().await, Err(StateError::Closed)));
        assert!(events.changed().await.is_err());
        assert!(matches!(hub.watch(id(1)).changed().await, Err(StateError::Closed)));
        assert!(matches!(hub.wish_feed().next().await, Err(StateError::Closed)));
        assert!(hub.lock().containers.is_empty());
    }
}
