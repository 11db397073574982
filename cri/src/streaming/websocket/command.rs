//! Exec and Attach over WebSocket: all channels exist from the start.

use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use podwright_podsandbox::Engine;
use podwright_podsandbox::session::StreamChoice;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Socket;
use super::channel::{self, Encoding, Event};
use crate::streaming::asked::Asked;
use crate::streaming::idle::Idle;
use crate::streaming::limits::{
    IDLE_TIMEOUT, LINGER, MAX_QUEUED_PIECES, PAUSED_PING, PIECE_BYTES, STREAM_BUFFER_BYTES,
};
use crate::streaming::server::Ends;
use crate::streaming::session::{self, Channels};
use crate::streaming::shortcut::Shortcut;
use crate::streaming::stream::Stream;
use crate::streaming::version::Version;

/// Serves a connection to its end.
pub(in crate::streaming) async fn serve(
    engine: &Engine,
    asked: Asked,
    choice: StreamChoice,
    (version, encoding): (Version, Encoding),
    socket: Socket,
    ends: &Ends,
) {
    let gone = ends.at_once.child_token();
    let _ends_the_tasks = gone.clone().drop_guard();
    let (sink, stream) = socket.split();
    let (queue, messages) = mpsc::channel(MAX_QUEUED_PIECES);
    let idle = Idle::start(gone.clone(), IDLE_TIMEOUT);
    let mut plumbing = Plumbing { encoding, queue: queue.clone(), pumps: TaskTracker::new(), gone: &gone };

    let (stdin, to_stdin) = plumbing.inlet(choice.stdin);
    let (resize, to_resize) = plumbing.inlet(choice.tty);
    let channels = Channels {
        stdin,
        resize,
        stdout: plumbing.outlet(choice.stdout, channel::STDOUT),
        stderr: plumbing.outlet(choice.stderr && !choice.tty, channel::STDERR),
        error: plumbing.outlet(true, channel::ERROR),
    };
    // Tells the client that the connection works, as other servers do.
    let first = [(choice.stdout, channel::STDOUT), (choice.stderr, channel::STDERR), (true, channel::ERROR)];
    if let Some((_, lowest)) = first.into_iter().find(|(there, _)| *there) {
        let _ = queue.send(channel::message(lowest, &[], encoding)).await;
    }

    let reader = Reader {
        encoding,
        closes: version == Version::V5,
        to_stdin,
        to_resize,
        queue: queue.clone(),
        idle: idle.clone(),
    };
    let reading = tokio::spawn(cancelled_with(gone.clone(), reader.run(stream)));
    let finish = CancellationToken::new();
    let writing = tokio::spawn(cancelled_with(gone.clone(), write(sink, messages, finish.clone(), idle.clone())));
    session::run(engine, asked, version, channels, &gone, &ends.in_order).await;

    plumbing.pumps.close();
    plumbing.pumps.wait().await;
    finish.cancel();
    let _ = writing.await;
    let _ = tokio::time::timeout(LINGER, reading).await;
}

/// Runs a side of the connection. When it ends, the client is gone; for the writing side, it was told all.
async fn cancelled_with(gone: CancellationToken, side: impl Future<Output = Side>) {
    let ended = tokio::select! {
        () = gone.cancelled() => return,
        ended = side => ended,
    };
    match ended {
        Side::Over => gone.cancel(),
        Side::Finished => {}
    }
}

/// How a side ended.
enum Side {
    /// The connection is over.
    Over,
    /// All was written; the client closes next.
    Finished,
}

/// Makes channels.
struct Plumbing<'a> {
    encoding: Encoding,
    queue: mpsc::Sender<Message>,
    pumps: TaskTracker,
    gone: &'a CancellationToken,
}

impl Plumbing<'_> {
    fn stream(&self) -> (Stream, DuplexStream) {
        let (users, ours) = tokio::io::duplex(STREAM_BUFFER_BYTES);
        let (ended, placed) = (self.gone.child_token(), CancellationToken::new());
        (Stream { io: users, ended, placed, shortcut: Shortcut::default(), outlet: None }, ours)
    }

    /// A channel from the client.
    fn inlet(&self, wanted: bool) -> (Option<Stream>, Option<DuplexStream>) {
        wanted.then(|| self.stream()).unzip()
    }

    /// A channel to the client.
    fn outlet(&mut self, wanted: bool, number: u8) -> Option<Stream> {
        let (stream, ours) = wanted.then(|| self.stream())?;
        let pump = pump(number, self.encoding, ours, self.queue.clone());
        let (gone, placed) = (self.gone.clone(), stream.placed.clone());
        self.pumps.spawn(async move {
            let _tells = placed.drop_guard();
            tokio::select! {
                () = gone.cancelled() => (),
                () = pump => (),
            }
        });
        Some(stream)
    }
}

async fn pump(number: u8, encoding: Encoding, mut from_user: DuplexStream, queue: mpsc::Sender<Message>) {
    let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
    while from_user.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        if queue.send(channel::message(number, &bytes, encoding)).await.is_err() {
            return;
        }
        bytes.clear();
    }
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut messages: mpsc::Receiver<Message>,
    finish: CancellationToken,
    idle: Idle,
) -> Side {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = messages.recv() => message,
            () = finish.cancelled() => break,
        };
        // What is sent unasked keeps no session alive in which nothing moves.
        let moves = !message.is_pong();
        if sink.send(message).await.is_err() {
            return Side::Over;
        }
        if moves {
            idle.touch();
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    match sink.send(Message::Close(Some(goodbye))).await {
        Ok(()) => Side::Finished,
        Err(_) => Side::Over,
    }
}

struct Reader {
    encoding: Encoding,
    closes: bool,
    to_stdin: Option<DuplexStream>,
    to_resize: Option<DuplexStream>,
    queue: mpsc::Sender<Message>,
    idle: Idle,
}

impl Reader {
    async fn run(mut self, mut messages: SplitStream<Socket>) -> Side {
        while let Some(Ok(message)) = messages.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => break,
                // Answered by the library. A client that asks wants to go on.
                Message::Ping(_) => {
                    self.idle.touch();
                    continue;
                }
                Message::Pong(_) | Message::Frame(_) => continue,
            };
            self.idle.touch();
            match channel::parse(&bytes, self.encoding, self.closes) {
                Ok(event) => self.take(event).await,
                Err(error) => {
                    tracing::debug!(%error, "a streaming client broke the protocol");
                    break;
                }
            }
        }
        Side::Over
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Data(channel::STDIN, bytes) => pass(&mut self.to_stdin, &bytes, &self.queue).await,
            Event::Data(channel::RESIZE, bytes) => pass(&mut self.to_resize, &bytes, &self.queue).await,
            Event::Close(channel::STDIN) => self.to_stdin = None,
            Event::Close(channel::RESIZE) => self.to_resize = None,
            Event::Data(..) | Event::Close(_) | Event::Empty => {}
        }
    }
}

/// Passes bytes on. While they have no place, nothing is read, and pings of the client are not seen; it gets answers that it did
/// not ask for, so that it does not take us for dead, and we learn if it left.
async fn pass(to: &mut Option<DuplexStream>, bytes: &[u8], queue: &mpsc::Sender<Message>) {
    let Some(stream) = to else { return };
    let mut written = std::pin::pin!(stream.write_all(bytes));
    loop {
        match tokio::time::timeout(PAUSED_PING, &mut written).await {
            Ok(Ok(())) => return,
            Ok(Err(_)) => break,
            Err(_) => drop(queue.try_send(Message::Pong(Bytes::new()))),
        }
    }
    *to = None;
}
