//! A socket: calls to the other side with a time limit each, and its calls to us. When anything on it goes wrong it is closed, and every
//! call that waits is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::frame::{Kind, Message, Reader, Side, Wire};
use crate::status::{INVALID_ARGUMENT, Request, Response, Status, UNIMPLEMENTED};

/// Read at once.
const READ_BYTES: usize = 16 << 10;
/// Calls of the other side that are served at a time.
const MAX_SERVED: usize = 16;
/// Calls of the other side that are served or wait for that, with [`CALL_BYTES`] for each.
const MAX_WAITING_BYTES: u32 = 16 << 20;
/// What a call costs beside its message, so that small ones have a bound, too.
const CALL_BYTES: u32 = 8 << 10;
/// For writing the answer to a call.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The error of the one who was asked.
    #[error("{}", .0.message)]
    Refused(Status),
    /// The request is larger than a message may be.
    #[error("the request can not be sent: {0}")]
    TooLarge(String),
    /// It does not have the call.
    #[error("it does not have the call")]
    Absent,
    /// No answer in time.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The connection has ended.
    #[error("its connection ended: {0}")]
    Closed(String),
    /// What it said can not be understood.
    #[error("its answer can not be understood: {0}")]
    Garbage(String),
}

impl CallError {
    /// Whether the other side can not be relied on any more.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::TooLarge(_) | Self::Absent => false,
            Self::Late(_) | Self::Closed(_) | Self::Garbage(_) => true,
        }
    }
}

/// Who serves the calls of the other side.
#[async_trait]
pub trait Serve: Send + Sync {
    /// Answers `method` of `service`.
    ///
    /// # Errors
    /// Goes back to the one who asked.
    async fn serve(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Status>;
}

/// A socket that is in use.
pub struct Connection {
    wire: Wire,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Mutex<BTreeMap<u32, oneshot::Sender<Vec<u8>>>>,
    next: AtomicU32,
    /// Why it ended; empty while it lives.
    ended: watch::Sender<String>,
}

impl Connection {
    /// Takes a socket over. Calls of the other side go to `server`; without one they end the connection. It lives until it is closed or
    /// the other side hangs up, whoever still holds it.
    #[must_use]
    pub fn open(socket: UnixStream, wire: Wire, server: Option<Arc<dyn Serve>>) -> Arc<Self> {
        let (reader, writer) = socket.into_split();
        let connection = Arc::new(Self {
            wire,
            writer: tokio::sync::Mutex::new(writer),
            waiting: Mutex::default(),
            next: AtomicU32::new(0),
            ended: watch::Sender::new(String::new()),
        });
        tokio::spawn(connection.clone().read_all(reader, server));
        connection
    }

    /// Calls `method` of `service` on the other side.
    ///
    /// # Errors
    /// See [`CallError`]; that it is late after `limit`.
    pub async fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        (service, method): (&str, &str),
        request: &Q,
        limit: Duration,
    ) -> Result<A, CallError> {
        let answer = timeout(limit, self.call_raw((service, method), request.encode_to_vec(), limit)).await;
        let payload = answer.map_err(|_| CallError::Late(limit))??;
        A::decode(payload.as_slice()).map_err(|error| CallError::Garbage(error.to_string()))
    }

    async fn call_raw(
        &self,
        (service, method): (&str, &str),
        payload: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        // Streams of the side that calls are odd.
        let stream = self.next.fetch_add(2, Ordering::Relaxed).wrapping_add(1);
        let (send, receive) = oneshot::channel();
        let place = Place { connection: self, stream };
        lock(&self.waiting).insert(stream, send);
        let mut ended = self.ended.subscribe();
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload,
            timeout_nanos: i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX),
        };
        let message = Message { side: Side::Calls, stream, kind: Kind::Request, body: request.encode_to_vec() };
        self.send(&message).await?;
        let body = tokio::select! {
            body = receive => body.map_err(|_| CallError::Closed(self.why_ended()))?,
            _ = ended.wait_for(|why| !why.is_empty()) => return Err(CallError::Closed(self.why_ended())),
        };
        drop(place);
        let response = Response::decode(body.as_slice()).map_err(|error| CallError::Garbage(error.to_string()))?;
        match response.status.filter(|status| status.code != 0) {
            Some(status) if status.code == UNIMPLEMENTED => Err(CallError::Absent),
            Some(status) => Err(CallError::Refused(status)),
            None => Ok(response.payload),
        }
    }

    async fn send(&self, message: &Message) -> Result<(), CallError> {
        let bytes = message.encode(self.wire).map_err(|error| CallError::TooLarge(error.to_string()))?;
        let mut writer = self.writer.lock().await;
        // A message that is cut off is the last one.
        let mut cut = Cut { connection: self, is_whole: false };
        let written = writer.write_all(&bytes).await;
        cut.is_whole = written.is_ok();
        written.map_err(|error| CallError::Closed(error.to_string()))
    }

    /// Ends it; calls that wait are told why.
    pub fn close(&self, why: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_empty();
            if first {
                *ended = why.to_owned();
            }
            first
        });
        lock(&self.waiting).clear();
    }

    /// Waits for its end, and tells the reason.
    pub async fn closed(&self) -> String {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as this.
        let _ = ended.wait_for(|why| !why.is_empty()).await;
        self.why_ended()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.ended.borrow().is_empty()
    }

    fn why_ended(&self) -> String {
        self.ended.borrow().clone()
    }

    async fn read_all(self: Arc<Self>, mut reader: OwnedReadHalf, server: Option<Arc<dyn Serve>>) {
        let mut ended = self.ended.subscribe();
        let why = tokio::select! {
            why = self.read(&mut reader, &server) => why,
            _ = ended.wait_for(|why| !why.is_empty()) => String::new(),
        };
        if !why.is_empty() {
            self.close(&why);
        }
        let _ = self.writer.lock().await.shutdown().await;
    }

    async fn read(self: &Arc<Self>, reader: &mut OwnedReadHalf, server: &Option<Arc<dyn Serve>>) -> String {
        let waiting = Arc::new(Semaphore::new(usize::try_from(MAX_WAITING_BYTES).unwrap_or(usize::MAX)));
        let places = Arc::new(Semaphore::new(MAX_SERVED));
        let mut frames = Reader::new(self.wire);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match reader.read(&mut buffer).await {
                Ok(0) => return "it hung up".into(),
                Ok(length) => length,
                Err(error) => return error.to_string(),
            };
            let messages = match frames.take(buffer.get(..length).unwrap_or_default()) {
                Ok(messages) => messages,
                Err(error) => return format!("it sent what is no message: {error}"),
            };
            for message in messages {
                match (message.side, message.kind, server) {
                    (Side::Calls, Kind::Response, _) => self.answered(message),
                    (Side::Serves, Kind::Request, Some(server)) => {
                        let bytes = u32::try_from(message.body.len()).unwrap_or(u32::MAX).saturating_add(CALL_BYTES);
                        let Ok(queued) = waiting.clone().try_acquire_many_owned(bytes) else {
                            return "it asks for more at once than can wait here".into();
                        };
                        let (connection, server, places) = (self.clone(), server.clone(), places.clone());
                        // Waiting for a place must not keep what comes behind it from being read: answers to us are there.
                        tokio::spawn(async move {
                            let place = places.acquire_owned().await;
                            if place.is_ok() && !connection.has_ended() {
                                connection.answer(message, &*server).await;
                            }
                            drop(queued);
                        });
                    }
                    _ => return "it sent a request where it serves, or an answer where it asks".into(),
                }
            }
        }
    }

    /// Answers that nobody waits for any more are dropped.
    fn answered(&self, message: Message) {
        if let Some(asker) = lock(&self.waiting).remove(&message.stream) {
            let _ = asker.send(message.body);
        }
    }

    async fn answer(&self, message: Message, server: &dyn Serve) {
        let response = match Request::decode(message.body.as_slice()) {
            Err(error) => Response { status: Some(refusal(&error)), payload: Vec::new() },
            Ok(request) => match server.serve(&request.service, &request.method, request.payload).await {
                Ok(payload) => Response { status: None, payload },
                Err(status) => Response { status: Some(status), payload: Vec::new() },
            },
        };
        let message = Message { kind: Kind::Response, body: response.encode_to_vec(), ..message };
        if timeout(ANSWER_LIMIT, self.send(&message)).await.is_err() {
            self.close("it does not read");
        }
    }
}

/// What to answer to a request that can not be understood.
#[must_use]
pub fn refusal(error: &prost::DecodeError) -> Status {
    Status { code: INVALID_ARGUMENT, message: format!("the request can not be understood: {error}") }
}

/// A call's place among those that wait, freed also when its caller goes away.
struct Place<'a> {
    connection: &'a Connection,
    stream: u32,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.connection.waiting).remove(&self.stream);
    }
}

/// Notices when a write is given up in the middle.
struct Cut<'a> {
    connection: &'a Connection,
    is_whole: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.connection.close("it does not read");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Answers with what it is asked, says no, or says nothing.
    struct Echo;

    #[async_trait]
    impl Serve for Echo {
        async fn serve(&self, service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Status> {
            assert_eq!(service, "test.Echo");
            match method {
                "Echo" => Ok(payload),
                "Hang" => std::future::pending().await,
                "No" => Err(Status { code: INVALID_ARGUMENT, message: "no".into() }),
                _ => Err(Status { code: UNIMPLEMENTED, message: "what?".into() }),
            }
        }
    }

    fn pair() -> (Arc<Connection>, Arc<Connection>) {
        let (one, other) = UnixStream::pair().unwrap();
        let (there, back) = (Wire::Shared { calls: 1, serves: 2 }, Wire::Shared { calls: 2, serves: 1 });
        (Connection::open(one, there, Some(Arc::new(Echo))), Connection::open(other, back, Some(Arc::new(Echo))))
    }

    async fn echo(connection: &Connection, method: &str, text: &str, limit: Duration) -> Result<String, CallError> {
        let request = Status { code: 1, message: text.to_owned() };
        let answer: Status = connection.call(("test.Echo", method), &request, limit).await?;
        Ok(answer.message)
    }

    #[tokio::test]
    async fn both_sides_call_over_one_socket() {
        let (one, other) = pair();
        let long = "x".repeat(1 << 20);
        let all = tokio::join!(
            echo(&one, "Echo", "there", LIMIT),
            echo(&other, "Echo", &long, LIMIT),
            echo(&one, "Echo", &long, LIMIT),
        );
        assert_eq!(all, (Ok("there".into()), Ok(long.clone()), Ok(long)));
        assert_eq!(echo(&one, "What", "", LIMIT).await, Err(CallError::Absent));
        let refused = Status { code: INVALID_ARGUMENT, message: "no".into() };
        assert_eq!(echo(&one, "No", "", LIMIT).await, Err(CallError::Refused(refused)));
        let huge = "x".repeat(crate::frame::MAX_MESSAGE_BYTES + 1);
        assert!(matches!(echo(&one, "Echo", &huge, LIMIT).await, Err(CallError::TooLarge(_))));
        assert_eq!(echo(&one, "Echo", "still there", LIMIT).await, Ok("still there".into()));
    }

    #[tokio::test]
    async fn a_call_ends_by_its_deadline_or_with_the_connection() {
        let (one, other) = pair();
        let short = Duration::from_millis(20);
        assert_eq!(echo(&one, "Hang", "", short).await, Err(CallError::Late(short)));
        assert!(lock(&one.waiting).is_empty(), "its place is free again");
        let (hung, ()) = tokio::join!(echo(&one, "Hang", "", LIMIT), async {
            while lock(&one.waiting).is_empty() {
                tokio::task::yield_now().await;
            }
            other.close("enough");
        });
        assert_eq!(hung, Err(CallError::Closed("it hung up".into())));
        assert_eq!(one.closed().await, "it hung up");
        assert_eq!(other.closed().await, "enough");
        assert!(matches!(echo(&one, "Echo", "", LIMIT).await, Err(CallError::Closed(_))));
    }

    #[tokio::test]
    async fn calls_that_wait_do_not_hold_answers_up() {
        let (one, other) = pair();
        let mut hung = tokio::task::JoinSet::new();
        for _ in 0..MAX_SERVED * 2 {
            let other = other.clone();
            hung.spawn(async move { echo(&other, "Hang", "", LIMIT).await });
        }
        while lock(&other.waiting).len() < MAX_SERVED * 2 {
            tokio::task::yield_now().await;
        }
        // Behind those on the same socket comes the answer to this.
        assert_eq!(echo(&one, "Echo", "not late", LIMIT).await, Ok("not late".into()));
        // There is an end to how many wait.
        let many = (MAX_WAITING_BYTES / CALL_BYTES) as usize;
        for _ in 0..many {
            let other = other.clone();
            hung.spawn(async move { echo(&other, "Hang", "", LIMIT).await });
        }
        assert!(one.closed().await.contains("more at once"));
        for ended in hung.join_all().await {
            assert!(matches!(ended, Err(CallError::Closed(_))), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn on_a_plain_socket_only_we_call() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::open(ours, Wire::Plain, None);
        let request = Message { side: Side::Calls, stream: 1, kind: Kind::Request, body: Vec::new() };
        theirs.write_all(&request.encode(Wire::Plain).unwrap()).await.unwrap();
        assert!(connection.closed().await.contains("it sent a request where it serves"));
    }
}
