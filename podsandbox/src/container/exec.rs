//! Executing a command in a running container and collecting what it prints.

use std::sync::Arc;
use std::time::Duration;

use oci_spec::runtime::{BoxBuilder, Process, User};
use podwright_types::ExecId;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Container;
use crate::engine::ExecOutput;
use crate::error::EngineError;
use crate::ladder::Climb;
use crate::model::{ContainerState, ResolvedUser};
use crate::ports::{ExecRequest, GivenFds, ProcessEnd, Shim};
use crate::session::{StreamChoice, TerminalSize};
use crate::shared::detached;
use crate::util::random_bytes;

/// Bytes kept of each stream. What comes after is read and dropped, so that the command does not block.
pub(crate) const OUTPUT_BYTES: usize = 16 << 20;
/// What is read of a stream at once: most commands print little,
const FIRST_CHUNK_BYTES: usize = 4 << 10;
/// and those that print much fill their pipe.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest wait for the rest of the output after the command ended; its children may hold the pipes for ever.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait for the end of a command that was killed.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(5);

/// Runs the command to its end, or for `limit`; then it is killed. It is killed too when the caller goes away.
pub(crate) async fn sync(
    container: Arc<Container>,
    argv: Vec<String>,
    limit: Option<Duration>,
) -> Result<ExecOutput, EngineError> {
    let (caller, gone) = oneshot::channel::<()>();
    let what = format!("execute {:?} in {}", argv.first().map_or("", String::as_str), container.describe());
    let outcome = detached(run(container, argv, limit, gone)).await;
    drop(caller);
    outcome.map_err(|e| e.within(what))
}

async fn run(
    container: Arc<Container>,
    argv: Vec<String>,
    limit: Option<Duration>,
    gone: oneshot::Receiver<()>,
) -> Result<ExecOutput, EngineError> {
    crate::validate::argv(&argv)?;
    let process = process(&container, argv, &StreamChoice::default())?;
    let shim = container.sandbox.ready_shim("reach its shim")?;
    let exec = ExecId::from_random(random_bytes()?);
    let (stdout_write, stdout) = pipe_pair()?;
    let (stderr_write, stderr) = pipe_pair()?;
    let (told, end) = oneshot::channel();
    let waiting = Waiting::new(&container, &exec, told);
    let request = ExecRequest {
        container: container.id.clone(),
        exec,
        process: process.into(),
        seccomp: container.seccomp(),
        fds: GivenFds { stdin: None, stdout: Some(stdout_write), stderr: Some(stderr_write) },
    };
    let mut output = Output::default();
    // A program on a file system that does not answer hangs before it begins; its time runs from here.
    let command = async {
        shim.exec(request).await?;
        end.await.map_err(|_| EngineError::Unavailable("the pod's shim ended before the command".into()))
    };
    let end = output.collect_until(stdout, stderr, until_end(&waiting, &shim, command, limit, gone)).await?;
    Ok(ExecOutput { stdout: output.stdout, stderr: output.stderr, code: end.code })
}

/// What a command prints.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    /// Reads both streams while the command runs, and for a while what is left then. No task of their own reads them: each would
    /// be one more to wake for every command.
    async fn collect_until(
        &mut self,
        stdout: impl AsyncRead + Unpin,
        stderr: impl AsyncRead + Unpin,
        end: impl Future<Output = Result<ProcessEnd, EngineError>>,
    ) -> Result<ProcessEnd, EngineError> {
        let (mut end, mut all_read) = (std::pin::pin!(end), false);
        let mut reading =
            std::pin::pin!(async { tokio::join!(read(stdout, &mut self.stdout), read(stderr, &mut self.stderr)) });
        let ended = loop {
            tokio::select! {
                // The command first: it is to begin before anybody waits for its output.
                biased;
                ended = &mut end => break ended?,
                _ = &mut reading, if !all_read => all_read = true,
            }
        };
        if !all_read {
            // Whoever still holds the pipes is not waited for.
            drop(timeout(DRAIN_LIMIT, reading).await);
        }
        Ok(ended)
    }
}

/// An exec for whose end somebody waits; forgotten when that is over.
pub(super) struct Waiting<'a> {
    container: &'a Arc<Container>,
    exec: ExecId,
}

impl<'a> Waiting<'a> {
    /// From now on its end is told.
    pub(super) fn new(container: &'a Arc<Container>, exec: &ExecId, told: oneshot::Sender<ProcessEnd>) -> Self {
        container.sandbox.live().execs.insert(exec.clone(), told);
        Self { container, exec: exec.clone() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.container.sandbox.live().execs.remove(&self.exec);
    }
}

async fn until_end(
    waiting: &Waiting<'_>,
    shim: &Arc<dyn Shim>,
    command: impl Future<Output = Result<ProcessEnd, EngineError>>,
    limit: Option<Duration>,
    gone: oneshot::Receiver<()>,
) -> Result<ProcessEnd, EngineError> {
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut command = std::pin::pin!(command);
    let why = tokio::select! {
        // First, so that the request is on its way before its end could be asked for.
        biased;
        end = &mut command => {
            // The shim may still be at it.
            if matches!(end, Err(EngineError::TimedOut(_))) {
                shim.kill_exec(&waiting.container.id, &waiting.exec).await?;
            }
            return end;
        }
        () = over => format!("it ran longer than {} s", limit.unwrap_or_default().as_secs_f64()),
        _ = gone => "its caller went away".to_owned(),
    };
    shim.kill_exec(&waiting.container.id, &waiting.exec).await?;
    let killed = timeout(KILL_WAIT, command).await.is_ok();
    let ending = if killed { "was killed" } else { "was sent SIGKILL and still hangs in the kernel" };
    Err(EngineError::TimedOut(format!("{why} and {ending}; allow it more time")))
}

/// The container's process with another command and the user that was looked up at its start.
pub(super) fn process(container: &Container, argv: Vec<String>, choice: &StreamChoice) -> Result<String, EngineError> {
    let (state, user, spec) = {
        let live = container.live();
        (live.durable.state.clone(), live.durable.user.clone(), live.spec.clone())
    };
    if !matches!(state, ContainerState::Running { .. }) {
        return Err(EngineError::FailedPrecondition("the container does not run; start it first".into()));
    }
    let unreadable = |e: serde_json::Error| EngineError::Internal(format!("read its specification: {e}"));
    let spec: OfProcess = serde_json::from_str(&spec).map_err(unreadable)?;
    let mut process = spec.process.unwrap_or_default();
    process.set_args(Some(argv)).set_terminal(None).set_console_size(None);
    if choice.tty {
        with_terminal(&mut process, choice.size);
    }
    process.set_user(resolved(&user.unwrap_or_default()));
    serde_json::to_string(&process).map_err(unreadable)
}

/// What an exec needs of a specification. The rest is many times as long, and only skipped.
#[derive(serde::Deserialize)]
struct OfProcess {
    process: Option<Process>,
}

fn with_terminal(process: &mut Process, size: Option<TerminalSize>) {
    process.set_terminal(Some(true));
    let cells = size.and_then(|size| {
        BoxBuilder::default().width(u64::from(size.columns)).height(u64::from(size.rows)).build().ok()
    });
    process.set_console_size(cells);
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|entry| entry.starts_with("TERM=")) {
        environment.push("TERM=xterm".into());
    }
    process.set_env(Some(environment));
}

fn resolved(user: &ResolvedUser) -> User {
    let mut oci = User::default();
    oci.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.supplemental_groups.clone()));
    oci
}

fn pipe_pair() -> Result<(std::os::fd::OwnedFd, pipe::Receiver), EngineError> {
    let failed =
        |e: std::io::Error| EngineError::Exhausted(format!("make a pipe for its output: {e}; too many files are open"));
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    Ok((write, pipe::Receiver::from_owned_fd(read).map_err(failed)?))
}

/// Reads a stream to its end; keeps so much of it as is allowed. May be given up at any time.
async fn read(mut stream: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut chunk = vec![0; FIRST_CHUNK_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        let room = OUTPUT_BYTES.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
        if count == chunk.len() {
            chunk.resize(CHUNK_BYTES, 0);
        }
    }
}
