//! One socket shared by many calls: writing requests, and the task that reads answers and events.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;

use super::ClientError;
use crate::{Call, Event, MAX_PACKET_BYTES, Packet, Reply, Request, socket};

/// Calls under way at once on one connection; more wait.
const MAX_CALLS: usize = 128;
/// Calls that end something, or let it go on; they do not wait behind what they end.
const MAX_URGENT_CALLS: usize = 64;
/// Packets that may come for one call: `Placing` and the answer.
const PACKETS_PER_CALL: usize = 2;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) fds: Vec<OwnedFd>,
}

type Waiting = HashMap<u64, mpsc::Sender<Answer>>;

struct Shared {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting>,
    /// Why the connection ended, once it did.
    ended: watch::Sender<Option<String>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket with its reading task.
pub(super) struct Connection {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    next_id: AtomicU64,
    calls: Semaphore,
    urgent_calls: Semaphore,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("waiting", &self.shared.waiting().len()).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A call whose answer is awaited; dropping it forgets the call.
pub(super) struct PendingCall<'a> {
    shared: &'a Shared,
    id: u64,
    operation: &'static str,
    answers: mpsc::Receiver<Answer>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}

impl PendingCall<'_> {
    /// The next packet for this call.
    pub(super) async fn next(&mut self, deadline: Duration) -> Result<Answer, ClientError> {
        let operation = self.operation;
        match tokio::time::timeout(deadline, self.answers.recv()).await {
            Err(_) => Err(ClientError::TimedOut { operation, after: deadline }),
            Ok(None) => Err(gone(operation, self.shared)),
            Ok(Some(Answer { reply: Reply::Failure(failure), .. })) => Err(ClientError::Refused { failure }),
            Ok(Some(answer)) => Ok(answer),
        }
    }
}

impl Connection {
    /// Takes a connected socket and begins to read from it.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that lie about their descriptor; OwnedFd does not"
    )]
    pub(super) fn start(socket: OwnedFd, events: mpsc::Sender<Event>) -> Result<Self, ClientError> {
        let io_error = |source: io::Error| ClientError::Io { object: "a shim's socket".into(), source };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| io_error(error.into()))?;
        let socket = AsyncFd::new(socket).map_err(io_error)?;
        let shared = Arc::new(Shared { socket, waiting: Mutex::default(), ended: watch::Sender::new(None) });
        let reader = tokio::spawn(read_all(Arc::clone(&shared), events));
        let (calls, urgent_calls) = (Semaphore::new(MAX_CALLS), Semaphore::new(MAX_URGENT_CALLS));
        Ok(Self { shared, reader, next_id: AtomicU64::new(1), calls, urgent_calls })
    }

    /// Sends a request and awaits its one answer.
    pub(super) async fn call(
        &self,
        call: Call,
        fds: &[BorrowedFd<'_>],
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let operation = call.name();
        let whole = async { self.begin(call, fds).await?.next(deadline).await };
        tokio::time::timeout(deadline, whole).await.unwrap_or(Err(ClientError::TimedOut { operation, after: deadline }))
    }

    /// Sends a request.
    pub(super) async fn begin(&self, call: Call, fds: &[BorrowedFd<'_>]) -> Result<PendingCall<'_>, ClientError> {
        let operation = call.name();
        let places = if ends_something(&call) { &self.urgent_calls } else { &self.calls };
        let permit = places.acquire().await.map_err(|_| gone(operation, &self.shared))?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::channel(PACKETS_PER_CALL);
        self.shared.waiting().insert(id, sender);
        let pending = PendingCall { shared: &self.shared, id, operation, answers, _permit: permit };
        // The reader may have ended before the call was entered; then nobody would ever answer it.
        if self.shared.ended.borrow().is_some() {
            return Err(gone(operation, &self.shared));
        }
        let packet = Request { id, call: Some(call) }.encode_to_vec();
        match self.send(&packet, fds).await {
            Ok(()) => Ok(pending),
            Err(error) if is_hang_up(&error) => Err(gone(operation, &self.shared)),
            Err(source) => Err(ClientError::Io { object: format!("sending {operation}"), source }),
        }
    }

    /// Waits until the connection ends.
    pub(super) async fn ended(&self, deadline: Duration) -> Result<(), ClientError> {
        let mut ended = self.shared.ended.subscribe();
        match tokio::time::timeout(deadline, ended.wait_for(Option::is_some)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ClientError::TimedOut { operation: "Shutdown", after: deadline }),
        }
    }

    async fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.shared.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| socket::send(socket, packet, fds)) {
                return result;
            }
        }
    }
}

fn ends_something(call: &Call) -> bool {
    match call {
        Call::SignalContainer(_) | Call::KillExec(_) | Call::Shutdown(_) | Call::Release(_) => true,
        Call::Hello(_)
        | Call::GetState(_)
        | Call::CreatePod(_)
        | Call::StartContainer(_)
        | Call::Exec(_)
        | Call::ReopenLog(_)
        | Call::DeleteContainer(_)
        | Call::Resize(_)
        | Call::CloseStdin(_)
        | Call::Attach(_)
        | Call::UpdateContainer(_) => false,
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

fn gone(operation: &'static str, shared: &Shared) -> ClientError {
    let reason = shared.ended.borrow().clone().unwrap_or_else(|| "it hung up".into());
    ClientError::Gone { operation, reason }
}

/// Reads until the shim hangs up or says something unreadable, then ends every call.
async fn read_all(shared: Arc<Shared>, events: mpsc::Sender<Event>) {
    let reason = match read_packets(&shared, &events).await {
        Ok(()) => "it hung up".to_owned(),
        Err(error) => error.to_string(),
    };
    shared.ended.send_replace(Some(reason));
    shared.waiting().clear();
    let _ = events.send(Event::Gone).await;
}

async fn read_packets(shared: &Shared, events: &mpsc::Sender<Event>) -> io::Result<()> {
    let mut buffer = vec![0; MAX_PACKET_BYTES];
    loop {
        let (length, fds) = loop {
            let mut ready = shared.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| socket::receive(socket, &mut buffer)) {
                break result?;
            }
        };
        if length == 0 {
            return Ok(());
        }
        let packet = Packet::decode(buffer.get(..length).unwrap_or_default())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("unreadable packet: {error}")))?;
        dispatch(shared, events, packet, fds).await;
    }
}

/// A packet that this build does not know is skipped: the shim may be newer.
async fn dispatch(shared: &Shared, events: &mpsc::Sender<Event>, packet: Packet, fds: Vec<OwnedFd>) {
    let Some(reply) = packet.reply else { return };
    let event = match reply {
        Reply::ContainerEnd(end) => Event::ContainerExited(end),
        Reply::ExecEnd(end) => Event::ExecExited(end),
        Reply::PauseEnd(_) => Event::PauseExited,
        reply @ (Reply::Hello(_)
        | Reply::State(_)
        | Reply::PodCreated(_)
        | Reply::Started(_)
        | Reply::ExecStarted(_)
        | Reply::Done(_)
        | Reply::Failure(_)
        | Reply::Placing(_)) => {
            if let Some(waiting) = shared.waiting().get(&packet.id) {
                // Full only if a shim sends more answers than there can be; the excess means nothing.
                let _ = waiting.try_send(Answer { reply, fds });
            }
            return;
        }
    };
    // A receiver that was dropped does not want events; calls still work.
    let _ = events.send(event).await;
}
