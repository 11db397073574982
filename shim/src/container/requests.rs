//! What daemons ask of a container that was started.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxResources;
use podwright_shim_api::{
    Attach, CloseStdin, DeleteContainer, Failure, FailureKind, Release, ReopenLog, Resize, SignalContainer,
    UpdateContainer,
};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Container, Phase, cgroup_failure, not_found};
use crate::convert;
use crate::exec::is_alive;
use crate::server::{Asker, Outcome, Server};
use crate::streams::Writer;
use crate::writer::control::{ClientFds, Order};

/// SIGKILL, the one signal that a process on its way to its program gets.
const SIGKILL: i32 = 9;
/// Askers that wait for one log to be reopened.
const MAX_REOPENING: usize = 32;

impl Server {
    fn container_named(&self, step: &str, id: &str) -> Result<&Container, Failure> {
        self.containers.iter().find(|container| container.id == id).ok_or_else(|| not_found(step, id))
    }

    /// Signals the first process, or all. Ended already is success.
    pub(crate) fn signal_container(&mut self, request: &SignalContainer) -> Result<Outcome, Failure> {
        let step = "signal";
        let container = self.container_named(step, &request.container)?;
        let id = &container.id;
        let serial = container.serial;
        let sent = match &container.phase {
            Phase::Exiting(_) | Phase::Exited(..) | Phase::Failed(_) => Ok(()),
            Phase::OpeningLog(..) | Phase::Starting(_) if request.signal == SIGKILL => {
                let failure = Failure::new(FailureKind::Other, "start", id, "it was killed before its program ran");
                self.fail_start(serial, failure);
                return Ok(Outcome::done());
            }
            Phase::OpeningLog(..) | Phase::Starting(_) => {
                let text = "its program does not run yet; only SIGKILL ends the start";
                return Err(Failure::new(FailureKind::Busy, step, id, text));
            }
            Phase::Running(_) if request.all => signal_all(container, request.signal),
            Phase::Running(_) => match &container.init {
                Some(init) => gone_is_success(podwright_sys::signal_pidfd(init, request.signal)),
                None => Ok(()),
            },
        };
        sent.map(|()| Outcome::done()).map_err(|error| Failure::of(step, &request.container, &error.into()))
    }

    /// Tells the log writer to open its log anew; its report is the answer.
    pub(crate) fn reopen_log(&mut self, asker: Asker, request: &ReopenLog) -> Result<Outcome, Failure> {
        let step = "reopen the log of";
        let found = self.containers.iter_mut().find(|container| container.id == request.container);
        let container = found.ok_or_else(|| not_found(step, &request.container))?;
        if matches!(container.phase, Phase::OpeningLog(..)) {
            return Err(Failure::new(FailureKind::Busy, step, &container.id, "it is being opened for the first time"));
        }
        let ended = || Failure::new(FailureKind::NotFound, step, &request.container, "its streams have ended");
        let writer = container.writer.as_mut().filter(|writer| writer.alive).ok_or_else(ended)?;
        if writer.reopening.len() >= MAX_REOPENING {
            return Err(Failure::new(FailureKind::Exhausted, step, &container.id, "its disk does not answer"));
        }
        writer.tell(&Order::Reopen).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ended(),
            _ => Failure::of(step, &request.container, &error),
        })?;
        writer.reopening.push_back(asker);
        Ok(Outcome::Later)
    }

    /// Forgets an ended container. Unknown is success.
    pub(crate) fn delete_container(&mut self, request: &DeleteContainer) -> Result<Outcome, Failure> {
        let step = "delete";
        let Some(at) = self.containers.iter().position(|container| container.id == request.container) else {
            return Ok(Outcome::done());
        };
        let Some(container) = self.containers.get(at) else { return Ok(Outcome::done()) };
        match &container.phase {
            Phase::Exited(..) if container.poststop_runs() => {
                let text = "its poststop hooks still run; try again in a moment";
                return Err(Failure::new(FailureKind::Busy, step, &container.id, text));
            }
            Phase::Exited(..) => (),
            Phase::Failed(_) => {
                let text = "what its start left is still being removed; try again in a moment";
                return Err(Failure::new(FailureKind::Busy, step, &container.id, text));
            }
            Phase::OpeningLog(..) | Phase::Starting(_) | Phase::Running(_) | Phase::Exiting(_) => {
                return Err(Failure::new(FailureKind::Busy, step, &container.id, "it has not ended; stop it first"));
            }
        }
        if !container.deferred {
            container.cgroup.remove().map_err(|error| cgroup_failure("remove the cgroup of", &container.id, &error))?;
        }
        let container = self.containers.swap_remove(at);
        self.drop_container(container);
        Ok(Outcome::done())
    }

    /// The size of a container's terminal, or of an exec's.
    pub(crate) fn resize(&mut self, request: &Resize) -> Result<Outcome, Failure> {
        let step = "resize the terminal of";
        let (object, terminal) = if request.exec.is_empty() {
            (&request.container, self.container_named(step, &request.container)?.terminal.as_ref())
        } else {
            let exec = self.execs.iter().find(|exec| exec.is(&request.container, &request.exec));
            (&request.exec, exec.ok_or_else(|| not_found(step, &request.exec))?.terminal.as_ref())
        };
        let Some(terminal) = terminal else {
            return Err(Failure::new(FailureKind::Invalid, step, object, "it has no terminal, or has ended"));
        };
        let size = request.size.unwrap_or_default();
        let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: cells(size.rows), ws_col: cells(size.columns), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size).map_err(|error| Failure::of(step, object, &error.into()))?;
        Ok(Outcome::done())
    }

    /// Closes the stdin that was kept open. Closed already is success.
    pub(crate) fn close_stdin(&mut self, request: &CloseStdin) -> Result<Outcome, Failure> {
        let step = "close stdin of";
        let container = self.container_named(step, &request.container)?;
        let Some(writer) = container.writer.as_ref().filter(|writer| writer.alive) else { return Ok(Outcome::done()) };
        writer.tell(&Order::CloseStdin).map_err(|error| Failure::of(step, &container.id, &error))?;
        Ok(Outcome::done())
    }

    /// Gives a client a share in the streams.
    pub(crate) fn attach(&mut self, request: &Attach, fds: Vec<OwnedFd>) -> Result<Outcome, Failure> {
        let step = "attach to";
        let container = self.container_named(step, &request.container)?;
        let Phase::Running(_) = &container.phase else {
            return Err(Failure::new(FailureKind::Busy, step, &container.id, "it does not run"));
        };
        let present = [request.has_stdin, request.has_stdout, request.has_stderr];
        let Some(client) = ClientFds::take(present, fds) else {
            return Err(Failure::new(FailureKind::Invalid, step, &container.id, "descriptors are missing"));
        };
        let alive = |writer: &&Writer| writer.alive;
        let Some(writer) = container.writer.as_ref().filter(alive) else {
            return Err(Failure::new(FailureKind::NotFound, step, &container.id, "its streams have ended"));
        };
        writer.tell(&Order::Attach(client)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => {
                let text = "its log writer does not answer, as when the log's disk hangs; try again later";
                Failure::new(FailureKind::Busy, step, &container.id, text)
            }
            _ => Failure::of(step, &container.id, &error),
        })?;
        Ok(Outcome::done())
    }

    /// Writes changed limits.
    pub(crate) fn update_container(
        &mut self,
        request: &UpdateContainer,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, Failure> {
        let step = "update the limits of";
        let container = self.container_named(step, &request.container)?;
        let Some(fd) = fds.into_iter().next() else {
            return Err(Failure::new(
                FailureKind::Invalid,
                step,
                &container.id,
                "the request came without its resources",
            ));
        };
        let resources: LinuxResources = convert::document(fd, step, &container.id)?;
        match &container.phase {
            Phase::Running(_) => (),
            Phase::OpeningLog(..) | Phase::Starting(_) | Phase::Exiting(_) | Phase::Exited(..) | Phase::Failed(_) => {
                return Err(Failure::new(FailureKind::Busy, step, &container.id, "it does not run"));
            }
        }
        container.cgroup.update(&resources).map_err(|error| match error.is_absent() && !is_alive(container) {
            true => Failure::new(FailureKind::Busy, step, &container.id, "it does not run"),
            false => cgroup_failure(step, &container.id, &error),
        })?;
        Ok(Outcome::done())
    }

    /// Lets a waiting process go: that of a container, or the pause process.
    pub(crate) fn release(&mut self, request: &Release) -> Result<Outcome, Failure> {
        if request.container.is_empty() {
            return self.release_pause(&request.error);
        }
        self.release_container(&request.container, &request.error)
    }
}

fn gone_is_success(result: Result<(), rustix::io::Errno>) -> Result<(), rustix::io::Errno> {
    match result {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other,
    }
}

fn signal_all(container: &Container, signal: i32) -> Result<(), rustix::io::Errno> {
    if signal == SIGKILL && container.cgroup.kill_all().is_ok() {
        return Ok(());
    }
    let processes: VecDeque<_> = container.cgroup.processes().map_err(|_| rustix::io::Errno::IO)?.into();
    processes.into_iter().try_for_each(|pid| gone_is_success(podwright_sys::signal_process(pid, signal)))
}
