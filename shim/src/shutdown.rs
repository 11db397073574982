//! The end of a shim: everything of the pod is killed and removed, then the asker is told, then the process ends.

use std::time::{Duration, Instant};

use podwright_shim_api::{Done, Failure, FailureKind, Reply};
use rustix::fs::{AtFlags, unlinkat};
use rustix::process::Signal;

use crate::container::{Container, Phase};
use crate::server::{Asker, Outcome, Server, wait_too};
use crate::timers::Timer;

/// How long everything may take to be gone. What lives longer waits in the kernel for something that does not answer.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the shim stands.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// It kills and removes.
    Ending {
        /// Who is to be told.
        askers: Vec<Asker>,
        /// When to give up.
        give_up_at: Instant,
    },
    /// Nothing is left to do.
    Over,
}

impl Server {
    /// Refuses to make anything while the shim ends.
    pub(crate) fn may_begin(&self, step: &str, object: &str) -> Result<(), Failure> {
        match self.stage {
            Stage::Serving => Ok(()),
            Stage::Ending { .. } | Stage::Over => {
                Err(Failure::new(FailureKind::Busy, step, object, "the shim of this pod is being shut down"))
            }
        }
    }

    /// Begins the end, or joins it.
    pub(crate) fn shut_down(&mut self, asker: Asker) -> Result<Outcome, Failure> {
        match &mut self.stage {
            Stage::Ending { askers, .. } => wait_too(askers, asker, "shut down", "the pod")?,
            Stage::Serving | Stage::Over => {
                self.stage = Stage::Ending { askers: vec![asker], give_up_at: Instant::now() + SHUTDOWN_LIMIT };
            }
        }
        self.settle_shutdown();
        Ok(Outcome::Later)
    }

    /// Looks at what is left, and ends when nothing is.
    pub(crate) fn settle_shutdown(&mut self) {
        let Stage::Ending { give_up_at, .. } = &self.stage else { return };
        let late = *give_up_at <= Instant::now();
        let left = self.kill_everything();
        match left {
            None => self.end(),
            Some(left) if late => self.give_up(&left),
            Some(_) => self.timers.set(Timer::Shutdown, PAUSE),
        }
    }

    /// Kills and removes as far as it goes now; names what is left.
    fn kill_everything(&mut self) -> Option<String> {
        let mut left = None;
        let serials: Vec<u32> = self.containers.iter().map(|container| container.serial).collect();
        for serial in serials {
            self.kill_container(serial);
        }
        for container in std::mem::take(&mut self.containers) {
            match removed(&container) {
                Ok(()) => self.drop_container(container),
                Err(text) => {
                    left = Some(text);
                    self.containers.push(container);
                }
            }
        }
        if left.is_none() && !self.pod.end_pause() {
            left = Some("the pause process does not end".into());
        }
        match left {
            None => self.pod.remove().err().map(|failure| failure.text()),
            Some(_) => left,
        }
    }

    fn kill_container(&mut self, serial: u32) {
        let Some(container) = self.container_mut(serial) else { return };
        match &container.phase {
            Phase::OpeningLog(..) | Phase::Starting(_) => {
                let text = "the pod was shut down before its program ran";
                let failure = Failure::new(FailureKind::Other, "start", &container.id, text);
                self.fail_start(serial, failure);
            }
            Phase::Running(_) => {
                let _ = container.cgroup.kill_all();
                if let Some(init) = &container.init {
                    let _ = rustix::process::pidfd_send_signal(init, Signal::KILL);
                }
            }
            Phase::Exiting(_) | Phase::Exited(..) | Phase::Failed(_) => (),
        }
    }

    /// The socket goes first, so that nobody takes a shim that is about to end for one that lives.
    fn end(&mut self) {
        for ending in ["sock", "log"] {
            let _ = unlinkat(&self.directory, format!("{}.{ending}", self.sandbox), AtFlags::empty());
        }
        if let Stage::Ending { askers, .. } = std::mem::replace(&mut self.stage, Stage::Over) {
            self.answer_all(askers, &Reply::Done(Done {}));
        }
    }

    fn give_up(&mut self, left: &str) {
        if let Stage::Ending { askers, .. } = std::mem::replace(&mut self.stage, Stage::Serving) {
            let text = format!("{left}; the shim stays to watch over it, ask again when that has ended");
            let failure = Failure::new(FailureKind::TimedOut, "shut down", "the pod", text);
            self.answer_all(askers, &Reply::Failure(failure));
        }
    }
}

/// Removes an ended container's cgroup; tells why that can not be yet.
fn removed(container: &Container) -> Result<(), String> {
    match &container.phase {
        Phase::Exited(..) if container.poststop_runs() => {
            return Err(waits_for(container, "its poststop hooks still run"));
        }
        Phase::Exited(..) => (),
        Phase::OpeningLog(..) | Phase::Starting(_) | Phase::Failed(_) => {
            return Err(waits_for(container, "its start is not undone"));
        }
        Phase::Running(_) | Phase::Exiting(_) => return Err(waits_for(container, "its log is not written to the end")),
    }
    if container.deferred {
        return Ok(());
    }
    container.cgroup.remove().map_err(|error| error.to_string())
}

/// What holds a container up: its processes, or `otherwise` where none is left.
fn waits_for(container: &Container, otherwise: &str) -> String {
    let reason = match container.cgroup.processes() {
        Ok(pids) if pids.is_empty() => otherwise.to_owned(),
        Ok(pids) => {
            let pids: Vec<String> = pids.iter().map(|pid| pid.as_raw_pid().to_string()).collect();
            format!("processes of it do not end: {}", pids.join(", "))
        }
        Err(error) => format!("its processes can not be listed: {error}"),
    };
    format!("container {}: {reason}", container.id)
}
