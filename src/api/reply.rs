//! Answers and their bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc;

use super::limits;

/// An answer.
pub(super) type Reply = Response<Body>;

/// The body of an answer: whole, or coming piece by piece.
#[derive(Debug)]
pub(super) enum Body {
    /// At once; `None`: nothing (more).
    Whole(Option<Bytes>),
    /// As it comes.
    Stream(mpsc::Receiver<Piece>),
    /// A stream that was cut off: the connection breaks with the next look at it.
    CutOff,
}

/// A part of a streamed body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// The regular end. A stream that closes without it is cut off, so that a client never takes a part for the whole.
    End,
}

/// The answer broke off: whoever made it went away (a shutdown, a failure).
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub(super) struct BrokenOff;

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        match this {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => match pieces.poll_recv(cx) {
                Poll::Ready(Some(Piece::Data(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Poll::Ready(Some(Piece::End)) => Poll::Ready(None),
                Poll::Ready(None) => {
                    // The connection sends what it has when nothing more is there, and drops it when the body fails.
                    *this = Self::CutOff;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            },
            Self::CutOff => Poll::Ready(Some(Err(BrokenOff))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::CutOff => SizeHint::default(),
        }
    }
}

/// The writing end of a streamed body. Dropping it without [`Writer::finish`] cuts the answer off.
#[derive(Debug)]
pub(super) struct Writer(mpsc::Sender<Piece>);

/// The client has gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Writer {
    /// Sends bytes; waits while the client is slow.
    pub(super) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Piece::Data(bytes.into())).await.map_err(|_| Gone)
    }

    /// As `send`, in pieces of [`limits::STREAM_PIECE_BYTES`].
    pub(super) async fn send_text(&self, text: String) -> Result<(), Gone> {
        let mut text = Bytes::from(text);
        while !text.is_empty() {
            let piece = text.split_to(limits::STREAM_PIECE_BYTES.min(text.len()));
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Returns when the client has gone.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }

    /// The regular end.
    pub(super) async fn finish(self) {
        // A client that went away in the last moment misses nothing.
        let _ = self.0.send(Piece::End).await;
    }

    /// As `finish`; returns when all of it is on its way to the client, or the client has gone.
    pub(super) async fn deliver(self) {
        let _ = self.0.send(Piece::End).await;
        self.0.closed().await;
    }
}

/// A body and its writer.
pub(super) fn streamed() -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(limits::STREAM_QUEUE);
    (Writer(sender), Body::Stream(receiver))
}

/// An answer with a body of this type.
pub(super) fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// JSON, with a newline at the end as Docker's.
pub(super) fn json(status: StatusCode, value: &Value) -> Reply {
    let mut text = value.to_string();
    text.push('\n');
    with_body(status, "application/json", Body::Whole(Some(text.into())))
}

/// 200 with JSON.
pub(super) fn ok(value: &Value) -> Reply {
    json(StatusCode::OK, value)
}

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::Whole(None));
    *reply.status_mut() = status;
    reply
}

/// Text.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Reply {
    with_body(status, content_type, Body::Whole(Some(text.into())))
}

/// The answer of the outermost layer, which cannot fail.
pub(super) type Served = Result<Reply, Infallible>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_only_when_it_is_finished() {
        let (writer, body) = streamed();
        writer.send("a").await.unwrap();
        writer.finish().await;
        assert_eq!(body.collect().await.unwrap().to_bytes(), "a");

        let (writer, body) = streamed();
        writer.send("b").await.unwrap();
        let mut delivered = tokio::spawn(writer.deliver());
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut delivered).await.is_err());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "b");
        delivered.await.unwrap();

        let (writer, body) = streamed();
        writer.send("a").await.unwrap();
        drop(writer);
        assert!(body.collect().await.is_err());
    }
}
