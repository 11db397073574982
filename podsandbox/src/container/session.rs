//! Opening sessions: executing a command with live streams, and attaching to a container's own.

use std::sync::Arc;

use podwright_types::ExecId;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::Container;
use super::exec::{KILL_WAIT, Waiting, process};
use crate::error::EngineError;
use crate::ladder::Climb;
use crate::model::ContainerState;
use crate::ports::{ExecRequest, GivenFds, ProcessEnd, Shim};
use crate::session::{
    Output, SHIM_GONE, Session, SessionControl, SessionEnd, StreamChoice, pair_to_read, pair_to_write,
};
use crate::util::random_bytes;

/// Clients attached to one container at once.
pub(crate) const MAX_ATTACHED: usize = 200;

/// Executes a command; returns when its program runs.
pub(crate) async fn exec(
    container: Arc<Container>,
    argv: Vec<String>,
    choice: StreamChoice,
) -> Result<Session, EngineError> {
    let what = format!("execute {:?} in {}", argv.first().map_or("", String::as_str), container.describe());
    begin(container, argv, choice).await.map_err(|e| e.within(what))
}

async fn begin(container: Arc<Container>, argv: Vec<String>, choice: StreamChoice) -> Result<Session, EngineError> {
    crate::validate::argv(&argv)?;
    let process = process(&container, argv, &choice)?;
    let shim = container.sandbox.ready_shim("reach its shim")?;
    let exec = ExecId::from_random(random_bytes()?);
    let (tell_end, end) = watch::channel(None);
    let (caller, gone) = oneshot::channel();
    let mut fds = GivenFds::default();
    let mut session = Session {
        stdin: None,
        stdout: None,
        stderr: None,
        control: SessionControl::of_exec(container.clone(), shim.clone(), exec.clone(), end.clone(), caller),
    };
    if choice.stdin {
        let (input, fd) = pair_to_write()?;
        (session.stdin, fds.stdin) = (Some(input), Some(fd));
    }
    // A terminal is copied by a writer, which closes the pipe when all of it is written.
    let cut = (!choice.tty).then_some(end);
    if choice.stdout {
        let (output, fd) = pair_to_read(cut.clone())?;
        (session.stdout, fds.stdout) = (Some(output), Some(fd));
    }
    if choice.stderr && !choice.tty {
        let (output, fd) = pair_to_read(cut)?;
        (session.stderr, fds.stderr) = (Some(output), Some(fd));
    }
    let request = ExecRequest {
        container: container.id.clone(),
        exec,
        process: process.into(),
        seccomp: crate::spec::seccomp(&container.config.security),
        fds,
    };
    let (begun, began) = oneshot::channel();
    let watcher = Watcher { container, shim, gone };
    tokio::spawn(tracing::Instrument::in_current_span(watcher.run(request, begun, tell_end)));
    began.await.map_err(|_| EngineError::Internal("the task of the command ended early; repeat".into()))??;
    Ok(session)
}

/// Looks after a command from its start to its end, and kills it if nobody wants it any more.
struct Watcher {
    container: Arc<Container>,
    shim: Arc<dyn Shim>,
    gone: oneshot::Receiver<()>,
}

impl Watcher {
    async fn run(
        mut self,
        request: ExecRequest,
        begun: oneshot::Sender<Result<(), EngineError>>,
        tell_end: watch::Sender<Option<Result<SessionEnd, EngineError>>>,
    ) {
        let exec = request.exec.clone();
        let (told, mut end) = oneshot::channel();
        let _waiting = Waiting::new(&self.container, &exec, told);
        let shim = self.shim.clone();
        let mut start = shim.exec(request);
        let started = tokio::select! {
            // First, so that the request is on its way before its end could be asked for.
            biased;
            started = &mut start => started,
            _ = &mut self.gone => {
                self.kill(&exec).await;
                // What began in spite of that is killed again.
                if let Ok(Ok(_)) = timeout(KILL_WAIT, start).await {
                    self.kill(&exec).await;
                }
                return;
            }
        };
        if let Err(error) = started {
            let error = EngineError::from(error);
            if matches!(error, EngineError::TimedOut(_)) {
                // The shim may still be at it.
                self.kill(&exec).await;
            }
            // Nobody waits for it if the caller is gone.
            drop(begun.send(Err(error)));
            return;
        }
        drop(begun.send(Ok(())));
        tokio::select! {
            told = &mut end => drop(tell_end.send(Some(told_end(told)))),
            _ = &mut self.gone => {
                self.kill(&exec).await;
                // It stays known until then, so that a lost connection to the shim does not take it for forgotten.
                drop(timeout(KILL_WAIT, end).await);
            }
        }
    }

    async fn kill(&self, exec: &ExecId) {
        if let Err(error) = self.shim.kill_exec(&self.container.id, exec).await {
            tracing::warn!(container = %self.container.id, %error, "a command that nobody waits for could not be killed");
        }
    }
}

fn told_end(told: Result<ProcessEnd, oneshot::error::RecvError>) -> Result<SessionEnd, EngineError> {
    match told {
        Ok(end) => Ok(SessionEnd { code: end.code }),
        Err(_) => Err(EngineError::Unavailable(SHIM_GONE.into())),
    }
}

/// Attaches a client to the streams of a running container.
pub(crate) async fn attach(container: Arc<Container>, choice: StreamChoice) -> Result<Session, EngineError> {
    let what = format!("attach to {}", container.describe());
    join(container, choice).await.map_err(|e| e.within(what))
}

async fn join(container: Arc<Container>, choice: StreamChoice) -> Result<Session, EngineError> {
    may_attach(&container)?;
    let shim = container.sandbox.ready_shim("reach its shim")?;
    let place = container.attached.clone().try_acquire_owned().map_err(|_| {
        EngineError::Exhausted(format!("{MAX_ATTACHED} clients are attached already; let some of them leave"))
    })?;
    let mut fds = GivenFds::default();
    let mut stdin = None;
    if choice.stdin && container.config.stdin {
        let (input, fd) = pair_to_write()?;
        (stdin, fds.stdin) = (Some(input), Some(fd));
    }
    let (stdout, stderr);
    (stdout, fds.stdout) = output(choice.stdout)?;
    (stderr, fds.stderr) = output(choice.stderr && !container.config.terminal)?;
    shim.attach(&container.id, fds).await?;
    let control = SessionControl::of_attach(container.clone(), shim, place);
    if let Some(size) = choice.size.filter(|_| container.config.terminal) {
        control.resize(size).await?;
    }
    Ok(Session { stdin, stdout, stderr, control })
}

fn output(wanted: bool) -> Result<(Option<Output>, Option<std::os::fd::OwnedFd>), EngineError> {
    if !wanted {
        return Ok((None, None));
    }
    let (output, fd) = pair_to_read(None)?;
    Ok((Some(output), Some(fd)))
}

fn may_attach(container: &Container) -> Result<(), EngineError> {
    let state = container.live().durable.state.clone();
    let text = match state {
        ContainerState::Running { .. } => return Ok(()),
        ContainerState::Created => "it was not started yet; start it first".to_owned(),
        ContainerState::Exited { exit, .. } => {
            format!("it has ended already with exit code {}; read its log instead", exit.code)
        }
        ContainerState::Unknown => "its shim does not answer".to_owned(),
    };
    Err(EngineError::FailedPrecondition(text))
}
