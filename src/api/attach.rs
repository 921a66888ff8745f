//! `docker attach`: the container's output over a connection that is taken over. Nothing goes in: what a client types
//! is read and dropped.

use http::{HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, WriteHalf};
use tokio::sync::mpsc;

use super::call::Call;
use super::containers;
use super::error::ApiError;
use super::logs::{self, History, Session, Wanted};
use super::reply::{self, Body, Piece, Reply};
use super::{stream, unsupported};
use crate::state::model::Container;

/// Bytes of a client's input that are read and dropped at once.
const INPUT_BYTES: usize = 4 * 1_024;

/// Attaches to the output. Never changes anything: a container that is not running is waited for.
pub(super) async fn attach(mut call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        call.drain().await;
        return Err(unsupported::ATTACH.error());
    }
    let container = containers::read_named(&call).await?;
    let tty = container.spec.config.tty;
    let wanted =
        Wanted { stdout: call.query.flag("stdout"), stderr: call.query.flag("stderr"), bare: tty, ..Wanted::default() };
    let body = begin(&call, container, wanted).await?;
    match (call.upgrade.take(), body) {
        (Some(upgrade), Body::Stream(pieces)) => {
            tokio::spawn(hand_over(upgrade, pieces));
            Ok(switching(logs::content_type(&call, tty)))
        }
        (_, body) => {
            let mut reply = reply::with_body(StatusCode::OK, stream::RAW, body);
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(reply)
        }
    }
}

/// Begins to read. The session notes itself as open before the answer is given, so that a `wait` that comes next
/// already knows of it.
async fn begin(call: &Call, container: Container, wanted: Wanted) -> Result<Body, ApiError> {
    let history = if call.query.flag("logs") { History::Shown } else { History::Skipped };
    let streams = call.query.flag("stream");
    let (writer, body) = reply::streamed();
    if history == History::Skipped && !streams {
        writer.finish().await;
        return Ok(body);
    }
    let was_started = container.spec.starts > 0;
    let mut session = Session::new(&call.room, container, wanted, writer, history);
    if was_started {
        session.begin().await?;
    }
    let open = call.room.streams.open(session.container_id());
    tokio::spawn(async move {
        let _open = open;
        if streams {
            session.attach().await;
        } else {
            session.complete().await;
        }
    });
    Ok(body)
}

/// The answer that ends HTTP on this connection.
fn switching(content_type: &'static str) -> Reply {
    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// Carries the output to the client until the session ends it, as it does when the daemon is being stopped. The end of a client's input is not its end: it half-closes at once.
async fn hand_over(upgrade: OnUpgrade, pieces: mpsc::Receiver<Piece>) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            tracing::debug!(%error, "a client did not take its connection over");
            return;
        }
    };
    let (mut input, output) = tokio::io::split(upgraded);
    let dropping = async {
        let mut dropped = vec![0; INPUT_BYTES];
        loop {
            match input.read(&mut dropped).await {
                Ok(0) => std::future::pending::<()>().await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
                () = dropping => {}
        () = carry(output, pieces) => {}
    }
}

async fn carry(mut output: WriteHalf<TokioIo<Upgraded>>, mut pieces: mpsc::Receiver<Piece>) {
    while let Some(Piece::Data(bytes)) = pieces.recv().await {
        let sent = output.write_all(&bytes).await;
        if sent.is_err() || output.flush().await.is_err() {
            return;
        }
    }
    // Nobody is left to whom a failure of the farewell could matter.
    let _ = output.shutdown().await;
}

/// The size of a terminal that nobody has: accepted, as clients send it unasked.
pub(super) async fn resize(call: Call) -> Result<Reply, ApiError> {
    if call.is_internal() {
        return Err(unsupported::RESIZE.error());
    }
    containers::named(&call).await?;
    Ok(reply::empty(StatusCode::OK))
}
