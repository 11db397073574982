//! Starting shims, and finding those that live.
//!
//! Owns the directory of sockets, the read-only detached clone of the shim's binary, and reaping while the daemon lives. Leaves
//! the sandbox's records, and cgroups of the systemd driver, to the daemon.

mod binary;
mod sockets;

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use podwright_types::SandboxId;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_open, pidfd_send_signal,
    prlimit, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::sockets::Sockets;
pub use self::sockets::connect_socket;
use crate::Event;
use crate::client::{Client, ClientError};

/// Number of the listening socket in a shim.
pub const LISTENER_FD: i32 = 3;
/// Number of the directory with the socket in a shim; it removes its socket there at its end.
pub const DIRECTORY_FD: i32 = 4;
/// Descriptors that go to a shim are moved here first, so that none takes the place of another.
const FIRST_SAFE_FD: i32 = 16;
/// How long a shim that does not answer has to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a shim could not be started or found.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A local step failed.
    #[error("{step} {object}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// The shim was started, and ended before it answered.
    #[error("the shim of sandbox {sandbox} ended before it answered; it said: {log}")]
    Ended {
        /// Sandbox.
        sandbox: SandboxId,
        /// What it wrote.
        log: String,
    },
    /// The shim does not answer.
    #[error("connect to the shim of sandbox {sandbox}")]
    Connect {
        /// Sandbox.
        sandbox: SandboxId,
        /// Why.
        source: ClientError,
    },
}

fn io_error(step: &'static str, object: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LaunchError {
    let object = object.as_ref().display().to_string();
    move |source| LaunchError::Io { step, object, source }
}

/// A shim that lives.
#[derive(Debug)]
pub struct RunningShim {
    /// The connection.
    pub client: Client,
    /// What the shim tells by itself.
    pub events: mpsc::Receiver<Event>,
}

/// Starts and finds the shims of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher {
    inner: Arc<Inner>,
    open_files: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    binary: OwnedFd,
    sockets: Sockets,
}

impl Launcher {
    /// Makes `<state_dir>/shims` and the clone of the binary that all shims execute. The binary must be static: nothing else is
    /// protected from being changed under the shims.
    ///
    /// # Errors
    /// [`LaunchError::Io`].
    pub fn new(shim_binary: &Path, state_dir: &Path) -> Result<Self, LaunchError> {
        let binary = binary::detached_clone(shim_binary).map_err(io_error("clone the shim binary", shim_binary))?;
        let binary = move_up(binary).map_err(io_error("clone the shim binary", shim_binary))?;
        let directory = state_dir.join("shims");
        let sockets = Sockets::open(&directory).map_err(io_error("open the directory of shim sockets", &directory))?;
        Ok(Self { inner: Arc::new(Inner { binary, sockets }), open_files: None })
    }

    /// Gives shims, and through them containers, this soft limit of open files, where the daemon has raised its own: programs size
    /// tables by it, and those that call select(2) break above 1024.
    #[must_use]
    pub fn with_open_files(self, soft_limit: Option<u64>) -> Self {
        Self { open_files: soft_limit, ..self }
    }

    /// Where the socket of a sandbox's shim is.
    #[must_use]
    pub fn socket_path(&self, sandbox: &SandboxId) -> PathBuf {
        self.inner.sockets.path(sandbox)
    }

    /// Starts a shim, or connects to the one that lives. The shim moves itself to `cgroup` (a path below each hierarchy), and
    /// stays in the daemon's without one.
    ///
    /// # Errors
    /// See [`LaunchError`]. A shim that was started and does not answer is ended.
    pub async fn launch(&self, sandbox: &SandboxId, cgroup: Option<&str>) -> Result<RunningShim, LaunchError> {
        if let Some(running) = self.connect(sandbox).await? {
            return Ok(running);
        }
        let (inner, id, cgroup) = (Arc::clone(&self.inner), sandbox.clone(), cgroup.map(str::to_owned));
        let open_files = self.open_files;
        let spawn = move || inner.spawn(&id, cgroup.as_deref()).inspect(|(pid, _)| limit_open_files(*pid, open_files));
        let spawned = tokio::task::spawn_blocking(move || spawn().map(|(_, pidfd)| pidfd)).await;
        let pidfd = spawned
            .map_err(|error| io_error("start the shim of sandbox", sandbox.as_str())(io::Error::other(error)))?
            .map_err(io_error("start the shim of sandbox", sandbox.as_str()))?;
        let pidfd = Arc::new(pidfd);
        let reaper = tokio::spawn(reap(Arc::clone(&pidfd)));
        match self.connect(sandbox).await {
            Ok(Some(running)) => Ok(running),
            failed => {
                end_failed(&pidfd, reaper).await;
                Err(self.explain(sandbox, failed.err()))
            }
        }
    }

    /// Connects to a shim that lives; `None` if there is none.
    ///
    /// # Errors
    /// [`LaunchError::Connect`] if there is one and it does not answer.
    pub async fn connect(&self, sandbox: &SandboxId) -> Result<Option<RunningShim>, LaunchError> {
        let connect = |source| LaunchError::Connect { sandbox: sandbox.clone(), source };
        let socket = match self.inner.sockets.connect(sandbox) {
            Ok(socket) => socket,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(source) => {
                return Err(connect(ClientError::Io {
                    object: self.socket_path(sandbox).display().to_string(),
                    source,
                }));
            }
        };
        match Client::over(socket).await {
            Ok((client, events)) => Ok(Some(RunningShim { client, events })),
            // Between its end and the removal of its socket, or before it accepted: the same as refused.
            Err(ClientError::Gone { .. }) => Ok(None),
            Err(error) => Err(connect(error)),
        }
    }

    /// Removes what a dead shim left; absent is success.
    ///
    /// # Errors
    /// [`LaunchError::Io`].
    pub fn remove_remains(&self, sandbox: &SandboxId) -> Result<(), LaunchError> {
        self.inner.sockets.remove(sandbox).map_err(io_error("remove the socket of shim", sandbox.as_str()))
    }

    /// Sandboxes for which there is a socket.
    ///
    /// # Errors
    /// [`LaunchError::Io`].
    pub fn list(&self) -> Result<Vec<SandboxId>, LaunchError> {
        self.inner.sockets.list().map_err(io_error("list", self.inner.sockets.directory()))
    }

    fn explain(&self, sandbox: &SandboxId, error: Option<LaunchError>) -> LaunchError {
        let log = self.inner.sockets.read_log(sandbox);
        let _ = self.remove_remains(sandbox);
        error.unwrap_or(LaunchError::Ended { sandbox: sandbox.clone(), log })
    }
}

impl Inner {
    /// Binds the socket and executes the shim; its listener exists before it does, so that nobody waits for it.
    fn spawn(&self, sandbox: &SandboxId, cgroup: Option<&str>) -> io::Result<(Pid, OwnedFd)> {
        let listener = move_up(self.sockets.listen(sandbox)?)?;
        let directory = move_up(self.sockets.directory_fd()?)?;
        let log = move_up(self.sockets.create_log(sandbox)?)?;
        let null = move_up(File::options().read(true).write(true).open("/dev/null")?.into())?;

        let mut actions = PosixSpawnFileActions::init()?;
        for (from, to) in [(&null, 0), (&null, 1), (&log, 2), (&listener, LISTENER_FD), (&directory, DIRECTORY_FD)] {
            actions.add_dup2(from.as_raw_fd(), to)?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;

        let program = CString::new(format!("/proc/self/fd/{}", self.binary.as_raw_fd()))?;
        let environment: [&CStr; 0] = [];
        let arguments = arguments(sandbox, cgroup)?;
        let pid = posix_spawn(program.as_c_str(), &actions, &attributes, &arguments, &environment)?;
        let pid = Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((pid, pidfd_open(pid, PidfdFlags::NONBLOCK)?))
    }
}

/// The shim makes containers only when asked, which is later. It is our child and not reaped yet, so the pid is its own.
fn limit_open_files(shim: Pid, soft_limit: Option<u64>) {
    if let Some(current) = soft_limit {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // One that has ended already needs no limit.
        let _ = prlimit(Some(shim), Resource::Nofile, Rlimit { current: Some(current), maximum });
    }
}

fn arguments(sandbox: &SandboxId, cgroup: Option<&str>) -> io::Result<Vec<CString>> {
    let mut arguments = vec!["podwright-shim", "--sandbox", sandbox.as_str()];
    if let Some(path) = cgroup {
        arguments.extend(["--cgroup", path]);
    }
    arguments.into_iter().map(|argument| CString::new(argument).map_err(io::Error::other)).collect()
}

fn move_up(fd: OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_SAFE_FD)?)
}

/// Ends a shim that does not answer. One that gave up by itself gets the time for its last words.
async fn end_failed(pidfd: &OwnedFd, mut reaper: JoinHandle<()>) {
    if tokio::time::timeout(LAST_WORDS, &mut reaper).await.is_err() {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        let _ = reaper.await;
    }
}

/// Takes the exit status of a shim when it ends.
#[expect(deprecated, reason = "its replacement is unsafe for types that lie about their descriptor; OwnedFd does not")]
async fn reap(pidfd: Arc<OwnedFd>) {
    let Ok(waiter) = AsyncFd::with_interest(pidfd, Interest::READABLE) else { return };
    if waiter.readable().await.is_ok() {
        let _ = waitid(WaitId::PidFd(waiter.get_ref().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
