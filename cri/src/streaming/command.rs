//! Exec and Attach over SPDY: waits until the client has opened the streams that were asked for, then runs the session.

use podwright_podsandbox::session::StreamChoice;
use podwright_podsandbox::{Engine, EngineError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::asked::Asked;
use super::limits::{MAX_COMMAND_STREAMS, OPEN_TIMEOUT};
use super::report::Outcome;
use super::server::Ends;
use super::session::{self, Channels};
use super::spdy::{Accept, Connection, Headers};
use super::stream::Stream;
use super::version::Version;

/// The header that says what a stream is for.
const STREAM_TYPE: &str = "streamtype";

/// What a stream of a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Kind {
    fn of(headers: &Headers) -> Option<Self> {
        match headers.get(STREAM_TYPE)? {
            "error" => Some(Self::Error),
            "stdin" => Some(Self::Stdin),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }

    /// Those that a client opens for a choice of streams.
    fn expected(choice: StreamChoice, version: Version) -> Vec<Self> {
        let all = [
            (Self::Error, true),
            (Self::Stdin, choice.stdin),
            (Self::Stdout, choice.stdout),
            (Self::Stderr, choice.stderr && !choice.tty),
            (Self::Resize, choice.tty && version.resizes()),
        ];
        all.into_iter().filter_map(|(kind, wanted)| wanted.then_some(kind)).collect()
    }
}

impl Channels {
    fn place(&mut self, kind: Kind) -> &mut Option<Stream> {
        match kind {
            Kind::Error => &mut self.error,
            Kind::Stdin => &mut self.stdin,
            Kind::Stdout => &mut self.stdout,
            Kind::Stderr => &mut self.stderr,
            Kind::Resize => &mut self.resize,
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    engine: &Engine,
    asked: Asked,
    choice: StreamChoice,
    version: Version,
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    ends: &Ends,
) {
    let mut connection = Connection::start(io, MAX_COMMAND_STREAMS, each_once(), &ends.at_once);
    let mut channels = Channels::default();
    let expected = Kind::expected(choice, version);
    let gone = connection.ended().clone();
    match tokio::time::timeout(OPEN_TIMEOUT, collect(&mut connection, &mut channels, &expected)).await {
        Ok(true) => session::run(engine, asked, version, channels, &gone, &ends.in_order).await,
        Ok(false) => return,
        Err(_) => {
            if let Some(error) = channels.error.take() {
                session::tell(error, version, &too_few(&expected, &mut channels)).await;
            }
            drop(channels);
        }
    }
    connection.close().await;
}

/// Takes each of the known streams once.
fn each_once() -> Accept {
    let mut seen = Vec::new();
    Box::new(move |headers| match Kind::of(headers) {
        Some(kind) if !seen.contains(&kind) => {
            seen.push(kind);
            true
        }
        _ => false,
    })
}

/// Whether all that are expected came.
async fn collect(connection: &mut Connection, channels: &mut Channels, expected: &[Kind]) -> bool {
    while expected.iter().any(|kind| channels.place(*kind).is_none()) {
        let Some(opened) = connection.next().await else { return false };
        if let Some(kind) = Kind::of(&opened.headers) {
            *channels.place(kind) = Some(opened.stream);
        }
    }
    true
}

fn too_few(expected: &[Kind], channels: &mut Channels) -> Outcome {
    // The error stream is there: it was just taken out.
    let missing = |kind: &&Kind| **kind != Kind::Error && channels.place(**kind).is_none();
    let missing: Vec<String> = expected.iter().filter(missing).map(|kind| format!("{kind:?}").to_lowercase()).collect();
    let (seconds, missing) = (OPEN_TIMEOUT.as_secs(), missing.join(", "));
    Outcome::Failed(EngineError::TimedOut(format!(
        "wait for the client's streams: {missing} did not come within {seconds} seconds; a client must open what the \
         request named"
    )))
}
