//! Containers on their way into a streamed answer, newest first.
//!
//! # Guarantees
//! - A page is read at once, turned into text at once, and only its text waits for the client: a client that reads slowly,
//!   or not at all, holds the text of one page, and no connection of the store.
//! - The first page is read before the answer begins, so that a failure of the store is still an answer with a status.
//!
//! # Caveats
//! - The pages are reads of their own: a container that is removed meanwhile may be missing or still be there.

use std::sync::Arc;

use serde_json::Value;

use crate::api::call::Room;
use crate::api::limits;
use crate::api::reply::{Gone, Writer};
use crate::state::{Listed, Row, StateError};

/// What becomes of a container in a list.
pub(in crate::api) enum Item {
    /// It is shown like this.
    Shown(Value),
    /// It is not shown.
    Skipped,
    /// The list ends before it.
    End,
}

/// Why a list was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum Unsent {
    /// The client has gone.
    #[error("the client has gone")]
    Gone,
    /// The store failed in the middle: the answer is broken off.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<Gone> for Unsent {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// The containers as items of a JSON array.
pub(in crate::api) struct Feed<F> {
    room: Arc<Room>,
    /// Only containers that count as running.
    running: bool,
    item: F,
    below: Option<i64>,
    is_over: bool,
    has_items: bool,
    /// The text of the page that was read last.
    text: String,
}

impl<F: FnMut(&Row<Listed>) -> Item + Send> Feed<F> {
    /// A feed that has read its first page.
    pub(in crate::api) async fn begin(room: Arc<Room>, running: bool, item: F) -> Result<Self, StateError> {
        let (below, is_over, has_items) = (None, false, false);
        let mut feed = Self { room, running, item, below, is_over, has_items, text: String::new() };
        feed.read().await?;
        Ok(feed)
    }

    /// Sends all items, with commas between them.
    pub(in crate::api) async fn send(mut self, writer: &Writer) -> Result<(), Unsent> {
        loop {
            writer.send_text(std::mem::take(&mut self.text)).await?;
            if self.is_over {
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), StateError> {
        let reader = &self.room.api.reader;
        let page = reader.listed(self.below, limits::CONTAINER_PAGE, self.running).await?;
        self.is_over = page.next.is_none();
        self.below = page.next;
        for row in &page.rows {
            match (self.item)(row) {
                Item::Shown(value) => self.push(&value),
                Item::Skipped => {}
                Item::End => {
                    self.is_over = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, value: &Value) {
        if self.has_items {
            self.text.push(',');
        }
        self.has_items = true;
        self.text.push_str(&value.to_string());
    }
}
