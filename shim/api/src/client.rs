//! The daemon's end of a connection to one shim.
//!
//! [`Client`] matches answers with calls and passes events on in the order in which the shim sent them. Every call has a
//! deadline; the end of the connection ends every call. Dropping the last clone closes the connection and leaves the shim alone.
//! Several calls may be under way at once.

mod connection;
mod error;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::connection::{Answer, Connection};
pub use self::error::ClientError;
use crate::{
    Attach, Call, CloseStdin, CreatePod, DeleteContainer, Event, Exec, GetState, Hello, HelloReply, KillExec,
    PROTOCOL_VERSION, PodCreated, Release, ReopenLog, Reply, Resize, Shutdown, SignalContainer, StartContainer,
    Started, State, StateReply, UpdateContainer, blob,
};

/// For what the shim answers from memory.
pub const QUICK_DEADLINE: Duration = Duration::from_secs(10);
/// For what makes processes; a start may wait for a slow volume.
pub const START_DEADLINE: Duration = Duration::from_secs(110);
/// For the end of a shim.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);
/// Events that wait for their reader. When they are that many, nothing more is read from the shim, answers included; so keep
/// reading events while calls are under way.
pub const EVENT_QUEUE: usize = 1024;

/// The standard streams that are given to an exec or an attach.
#[derive(Debug, Default)]
pub struct StreamFds {
    /// Read end for stdin.
    pub stdin: Option<OwnedFd>,
    /// Write end for stdout.
    pub stdout: Option<OwnedFd>,
    /// Write end for stderr.
    pub stderr: Option<OwnedFd>,
}

impl StreamFds {
    fn present(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdin, &self.stdout, &self.stderr].into_iter().flatten().map(AsFd::as_fd)
    }
}

/// For processes that are not deferred: refuses to place anything.
///
/// # Errors
/// Always.
pub async fn no_placing(pid: i32) -> Result<(), String> {
    Err(format!("process {pid} waits to be placed in a cgroup, which nobody asked for"))
}

/// A connection to one shim.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
    hello: Arc<HelloReply>,
}

impl Client {
    /// Connects to a shim's socket and says hello.
    ///
    /// # Errors
    /// [`ClientError::Io`] if nobody listens there ([`ClientError::is_absent`]), and those of every call.
    pub async fn connect(socket: &Path) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let fd = crate::launcher::connect_socket(socket)
            .map_err(|source| ClientError::Io { object: socket.display().to_string(), source })?;
        Self::over(fd).await
    }

    /// Says hello over a connected `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn over(socket: OwnedFd) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let connection = Arc::new(Connection::start(socket, events)?);
        let hello = Call::Hello(Hello { version: PROTOCOL_VERSION, features: Vec::new() });
        let hello = match connection.call(hello, &[], QUICK_DEADLINE).await?.reply {
            Reply::Hello(hello) => hello,
            other => return Err(unexpected("Hello", &other)),
        };
        Ok((Self { connection, hello: Arc::new(hello) }, receiver))
    }

    /// What the shim said of itself.
    #[must_use]
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// All that the shim knows, and the pod's network namespace where it has its own.
    ///
    /// # Errors
    /// See [`ClientError`], as for all calls.
    pub async fn state(&self) -> Result<(State, Option<OwnedFd>), ClientError> {
        let (first, mut fds) = self.page(GetState::default()).await?;
        let mut state = State { pid: first.pid, pod: first.pod, containers: first.containers, execs: first.execs };
        let (mut more, mut more_execs) = (first.more, first.more_execs);
        // A page that brings nothing is the last, whatever it says.
        while let (true, Some(last)) = (more, state.containers.last()) {
            let after = GetState { after: last.container.clone(), ..GetState::default() };
            let (page, _) = self.page(after).await?;
            more = page.more && !page.containers.is_empty();
            state.containers.extend(page.containers);
        }
        while let (true, Some(last)) = (more_execs, state.execs.last()) {
            let after = GetState { execs_after: last.exec.clone(), ..GetState::default() };
            let (page, _) = self.page(after).await?;
            more_execs = page.more_execs && !page.execs.is_empty();
            state.execs.extend(page.execs);
        }
        Ok((state, fds.pop()))
    }

    async fn page(&self, which: GetState) -> Result<(StateReply, Vec<OwnedFd>), ClientError> {
        let Answer { reply, fds } = self.connection.call(Call::GetState(which), &[], QUICK_DEADLINE).await?;
        match reply {
            Reply::State(page) => Ok((page, fds)),
            other => Err(unexpected("GetState", &other)),
        }
    }

    /// Makes the pod's namespaces, around `netns` if the request says that it is given. `place` is called with the pid of the pause process if its cgroup is deferred.
    pub async fn create_pod<P, F>(
        &self,
        request: CreatePod,
        netns: Option<BorrowedFd<'_>>,
        place: P,
    ) -> Result<(PodCreated, Option<OwnedFd>), ClientError>
    where
        P: FnOnce(i32) -> F + Send,
        F: Future<Output = Result<(), String>> + Send,
    {
        let Answer { reply, mut fds } =
            self.placed_call(Call::CreatePod(request), netns.as_slice(), String::new(), place).await?;
        match reply {
            Reply::PodCreated(created) => Ok((created, fds.pop())),
            other => Err(unexpected("CreatePod", &other)),
        }
    }

    /// Runs a container from an OCI specification (JSON). `place` is called with the pid of the waiting process if the cgroup
    /// is deferred; an error of it fails the start.
    pub async fn start_container<P, F>(
        &self,
        request: StartContainer,
        spec: &str,
        place: P,
    ) -> Result<Started, ClientError>
    where
        P: FnOnce(i32) -> F + Send,
        F: Future<Output = Result<(), String>> + Send,
    {
        let spec = document(spec)?;
        let container = request.container.clone();
        let call = Call::StartContainer(request);
        match self.placed_call(call, &[spec.as_fd()], container, place).await?.reply {
            Reply::Started(started) => Ok(started),
            other => Err(unexpected("StartContainer", &other)),
        }
    }

    /// Executes an OCI process (JSON) in a container; answers its pid. The `has_…` fields are set from `streams`.
    pub async fn exec(&self, mut request: Exec, process: &str, streams: StreamFds) -> Result<i32, ClientError> {
        let process = document(process)?;
        request.has_stdin = streams.stdin.is_some();
        request.has_stdout = streams.stdout.is_some();
        request.has_stderr = streams.stderr.is_some();
        let fds: Vec<_> = std::iter::once(process.as_fd()).chain(streams.present()).collect();
        match self.connection.call(Call::Exec(request), &fds, START_DEADLINE).await?.reply {
            Reply::ExecStarted(started) => Ok(started.pid),
            other => Err(unexpected("Exec", &other)),
        }
    }

    /// Signals a container's first process, or all its processes. Ended already is success.
    pub async fn signal_container(&self, container: &str, signal: i32, all: bool) -> Result<(), ClientError> {
        self.plain_call(Call::SignalContainer(SignalContainer { container: container.into(), signal, all })).await
    }

    /// Kills an exec and its session. Ended already is success.
    pub async fn kill_exec(&self, container: &str, exec: &str) -> Result<(), ClientError> {
        self.plain_call(Call::KillExec(KillExec { container: container.into(), exec: exec.into() })).await
    }

    /// Writes changed limits; `resources` is the OCI `linux.resources`, JSON.
    pub async fn update_container(&self, container: &str, resources: &str) -> Result<(), ClientError> {
        let resources = document(resources)?;
        let call = Call::UpdateContainer(UpdateContainer { container: container.into() });
        self.done(call, &[resources.as_fd()], QUICK_DEADLINE).await
    }

    /// Opens a container's log anew.
    pub async fn reopen_log(&self, container: &str) -> Result<(), ClientError> {
        self.plain_call(Call::ReopenLog(ReopenLog { container: container.into() })).await
    }

    /// Forgets an ended container and removes its cgroup. Unknown is success.
    pub async fn delete_container(&self, container: &str) -> Result<(), ClientError> {
        self.plain_call(Call::DeleteContainer(DeleteContainer { container: container.into() })).await
    }

    /// Changes the size of a terminal: that of the container, or that of an exec.
    pub async fn resize(&self, request: Resize) -> Result<(), ClientError> {
        self.plain_call(Call::Resize(request)).await
    }

    /// Closes stdin of a container.
    pub async fn close_stdin(&self, container: &str) -> Result<(), ClientError> {
        self.plain_call(Call::CloseStdin(CloseStdin { container: container.into() })).await
    }

    /// Attaches to a container's streams; they are closed when its output ends.
    pub async fn attach(&self, container: &str, streams: StreamFds) -> Result<(), ClientError> {
        let call = Call::Attach(Attach {
            container: container.into(),
            has_stdin: streams.stdin.is_some(),
            has_stdout: streams.stdout.is_some(),
            has_stderr: streams.stderr.is_some(),
        });
        let fds: Vec<_> = streams.present().collect();
        self.done(call, &fds, QUICK_DEADLINE).await
    }

    /// Kills whatever is left of the pod and ends the shim; returns when it hung up. A shim that is gone already is success.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        match self.done(Call::Shutdown(Shutdown {}), &[], SHUTDOWN_DEADLINE).await {
            Ok(()) => self.connection.ended(SHUTDOWN_DEADLINE).await,
            Err(ClientError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn plain_call(&self, call: Call) -> Result<(), ClientError> {
        self.done(call, &[], QUICK_DEADLINE).await
    }

    async fn done(&self, call: Call, fds: &[BorrowedFd<'_>], deadline: Duration) -> Result<(), ClientError> {
        let operation = call.name();
        match self.connection.call(call, fds, deadline).await?.reply {
            Reply::Done(_) => Ok(()),
            other => Err(unexpected(operation, &other)),
        }
    }

    /// A call that may want a process placed on its way.
    async fn placed_call<P, F>(
        &self,
        call: Call,
        fds: &[BorrowedFd<'_>],
        container: String,
        place: P,
    ) -> Result<Answer, ClientError>
    where
        P: FnOnce(i32) -> F + Send,
        F: Future<Output = Result<(), String>> + Send,
    {
        let operation = call.name();
        let mut pending = self.connection.begin(call, fds).await?;
        let first = pending.next(START_DEADLINE).await?;
        let Reply::Placing(placing) = &first.reply else { return Ok(first) };
        let error = place(placing.pid).await.err().unwrap_or_default();
        // The start's own answer tells the outcome; this one only confirms that the release arrived.
        match self.plain_call(Call::Release(Release { container, error })).await {
            Ok(()) | Err(ClientError::Refused { .. }) => (),
            Err(error) => return Err(error),
        }
        let answer = pending.next(START_DEADLINE).await?;
        match answer.reply {
            Reply::Placing(_) => Err(unexpected(operation, &answer.reply)),
            _ => Ok(answer),
        }
    }
}

fn document(text: &str) -> Result<OwnedFd, ClientError> {
    blob::write(text.as_bytes())
        .map_err(|source| ClientError::Io { object: "the document for the shim".into(), source })
}

fn unexpected(operation: &'static str, reply: &Reply) -> ClientError {
    let kind = match reply {
        Reply::Hello(_) => "Hello",
        Reply::State(_) => "State",
        Reply::PodCreated(_) => "PodCreated",
        Reply::Started(_) => "Started",
        Reply::ExecStarted(_) => "ExecStarted",
        Reply::Done(_) => "Done",
        Reply::Failure(_) => "Failure",
        Reply::Placing(_) => "Placing",
        Reply::ContainerEnd(_) | Reply::ExecEnd(_) | Reply::PauseEnd(_) => "an event",
    };
    ClientError::Protocol { text: format!("the shim answered {operation} with {kind}") }
}
