//! A session of Exec or Attach: the engine's streams on one side, the client's on the other, whatever carries those.
//!
//! A client that leaves is an end: its command is killed, from a container it is detached. Both follow from dropping the engine's
//! session.

use std::sync::Arc;

use podwright_podsandbox::session::{Input, Output, Session, SessionControl};
use podwright_podsandbox::{Engine, EngineError};
use tokio::io::{AsyncWriteExt as _, BufReader, copy_buf};
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::limits::PIECE_BYTES;
use super::report::{Outcome, words};
use super::shortcut::carry;
use super::size::Sizes;
use super::stream::Stream;
use super::version::Version;

/// What a client hears when the daemon ends before its session.
const STOPPING: &str = "podwrightd stops, and sessions end with it; start a new one when it is back";

/// The client's streams.
#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) stdin: Option<Stream>,
    pub(super) stdout: Option<Stream>,
    pub(super) stderr: Option<Stream>,
    pub(super) resize: Option<Stream>,
    pub(super) error: Option<Stream>,
}

/// Runs a session to its end or that of the client, and tells the client how it ended.
pub(super) async fn run(
    engine: &Engine,
    asked: Asked,
    version: Version,
    mut channels: Channels,
    gone: &CancellationToken,
    stop: &CancellationToken,
) {
    let error = channels.error.take();
    let outcome = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        () = stop.cancelled() => Outcome::Failed(EngineError::Unavailable(STOPPING.into())),
        outcome = carried(engine, asked, channels) => outcome,
    };
    tracing::debug!(?outcome, "a streaming session ended");
    if let Some(error) = error {
        tell(error, version, &outcome).await;
    }
}

/// Tells the client an outcome.
pub(super) async fn tell(mut error: Stream, version: Version, outcome: &Outcome) {
    // A client that is gone is not told.
    let _ = error.io.write_all(&words(version, outcome)).await;
    let _ = error.io.shutdown().await;
}

async fn carried(engine: &Engine, asked: Asked, channels: Channels) -> Outcome {
    let carried = match asked {
        Asked::Exec { container, argv, choice } => match engine.exec(&container, argv, choice).await {
            Ok(session) => carry_exec(session, channels).await,
            Err(error) => Err(error),
        },
        Asked::Attach { container, choice } => match engine.attach(&container, choice).await {
            Ok(session) => carry_attach(session, channels).await,
            Err(error) => Err(error),
        },
        Asked::Forward { .. } => Err(EngineError::Invalid("a port can not be forwarded as a command".into())),
    };
    carried.unwrap_or_else(Outcome::Failed)
}

/// A command ends with its process, after its output.
async fn carry_exec(session: Session, channels: Channels) -> Result<Outcome, EngineError> {
    let Session { stdin, stdout, stderr, mut control } = session;
    let both = async { tokio::join!(give(stdout, channels.stdout), give(stderr, channels.stderr)) };
    let (_, end) = tokio::select! {
        biased;
        ended = async { tokio::join!(both, controlled(&mut control, channels.resize)) } => ended,
        never = feed(channels.stdin, stdin) => match never {},
    };
    end.map(Outcome::Exited)
}

/// An attach ends with the container's output; one without output ends with the container.
async fn carry_attach(session: Session, channels: Channels) -> Result<Outcome, EngineError> {
    let Session { stdin, stdout, stderr, mut control } = session;
    let outputs = stdout.is_some() || stderr.is_some();
    let given = async {
        tokio::join!(give(stdout, channels.stdout), give(stderr, channels.stderr));
        if !outputs {
            std::future::pending::<()>().await;
        }
    };
    let ended = async {
        let end = controlled(&mut control, channels.resize).await;
        if outputs {
            // What the container said last is still on its way.
            std::future::pending::<()>().await;
        }
        end
    };
    tokio::select! {
        biased;
        () = given => Ok(Outcome::Over),
        end = ended => end.map(|_| Outcome::Over),
        never = feed(channels.stdin, stdin) => match never {},
    }
}

/// Passes sizes on until the process ends, and says how it did.
async fn controlled(control: &mut SessionControl, resize: Option<Stream>) -> Result<i32, EngineError> {
    let mut sizes = Sizes::new(resize);
    loop {
        let size = tokio::select! {
            biased;
            end = control.wait() => return end.map(|end| end.code),
            size = sizes.next() => size,
        };
        if let Err(error) = control.resize(size).await {
            tracing::debug!(%error, "a terminal keeps its size");
        }
    }
}

/// There is no such thing.
enum Never {}

/// Passes input on. What nobody reads any more is read and dropped: it stands before other things in the client's connection.
async fn feed(from: Option<Stream>, to: Option<Input>) -> Never {
    if let Some(mut from) = from {
        if let Some(to) = to {
            let _ = carry(&mut from.io, &from.shortcut, Arc::new(to)).await;
        }
        let _ = copy_buf(&mut BufReader::with_capacity(PIECE_BYTES, from.io), &mut tokio::io::sink()).await;
    }
    // Without a client's input there is no end of input either: an attach must not close the container's stdin.
    std::future::pending().await
}

/// Passes output on, to its end. Where the client takes no more, it is read and dropped, so that the process can go on.
async fn give(from: Option<Output>, to: Option<Stream>) {
    let Some(mut from) = from else { return };
    if let Some(mut to) = to {
        let _ = Stream::send_all(to.outlet.as_ref(), &mut to.io, &mut from).await;
        to.finish().await;
    }
    let _ = copy_buf(&mut BufReader::with_capacity(PIECE_BYTES, from), &mut tokio::io::sink()).await;
}
