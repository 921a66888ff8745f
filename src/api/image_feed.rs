//! Images on their way into a streamed answer, newest first: as [`super::containers::Feed`], with the same guarantees.

use std::sync::Arc;

use super::call::Room;
use super::containers::Unsent;
use super::reply::Writer;
use super::{limits, wire};
use crate::state::{Image, ImagePlace, StateError};

/// The images as items of a JSON array.
pub(super) struct ImageFeed<F> {
    room: Arc<Room>,
    is_wanted: F,
    below: Option<ImagePlace>,
    is_over: bool,
    has_items: bool,
    /// The text of the page that was read last.
    text: String,
}

impl<F: Fn(&[Image]) -> bool + Send> ImageFeed<F> {
    /// A feed that has read its first page.
    pub(super) async fn begin(room: Arc<Room>, is_wanted: F) -> Result<Self, StateError> {
        let (below, is_over, has_items) = (None, false, false);
        let mut feed = Self { room, is_wanted, below, is_over, has_items, text: String::new() };
        feed.read().await?;
        Ok(feed)
    }

    /// Sends all items, with commas between them.
    pub(super) async fn send(mut self, writer: &Writer) -> Result<(), Unsent> {
        while !self.is_over {
            writer.send_text(std::mem::take(&mut self.text)).await?;
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), StateError> {
        let page = self.room.api.reader.image_groups(self.below, limits::IMAGE_PAGE).await?;
        self.is_over = page.next.is_none();
        self.below = page.next;
        for group in page.groups {
            if !(self.is_wanted)(&group.references) {
                continue;
            }
            if self.has_items {
                self.text.push(',');
            }
            self.has_items = true;
            let tags: Vec<&Image> = group.references.iter().collect();
            self.text.push_str(&wire::image_item(&tags, group.users).to_string());
        }
        Ok(())
    }
}
