//! The way out: a container whose first process ended, and one that did not start.
//!
//! Each step looks at what is left and either goes on or sets a timer; so a missed event costs time and nothing else.

use std::time::{Duration, Instant};

use podwright_cgroups::Cgroup;
use podwright_shim_api::{ContainerEnd, Failure, FailureKind, ProcessEnd, Reply, Started};
use rustix::process::Pid;

use super::{Container, Phase};
use crate::child::Ended;
use crate::server::{Asker, Server};
use crate::timers::Timer;
use crate::writer::control::Order;

/// How long the end of a container waits for its log. After that the writer goes on alone.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the answer to a start that failed waits for what was made to be undone.
const UNDO_LIMIT: Duration = Duration::from_secs(2);
/// The exit code of who was killed: 128 and SIGKILL.
const KILLED: i32 = 137;
/// First and longest pause between two looks at processes that were killed.
const KILL_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// A container whose first process has ended.
#[derive(Debug)]
pub(crate) struct Exiting {
    /// Its start.
    pub(crate) started: Started,
    code: i32,
    at_nanos: i64,
    oom_killed: bool,
    pause: Duration,
    drained_by: Option<Instant>,
}

/// A start that failed, while it is being undone.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    failure: Option<Failure>,
    child: Option<Pid>,
    answer_by: Option<Instant>,
    pause: Duration,
}

impl Failing {
    pub(super) fn waits_for(&self, pid: Pid) -> bool {
        self.child == Some(pid)
    }

    pub(super) fn child_ended(&mut self) {
        self.child = None;
    }
}

fn longer(pause: Duration) -> Duration {
    let (first, longest) = KILL_PAUSE;
    (pause * 2).clamp(first, longest)
}

/// Kills what is in the cgroup; true if nothing is. A list that can not be read (no descriptors, no memory) says nothing: whoever
/// is called ended must have ended, so it is looked at again.
fn is_empty_or_kill(container: &Container) -> bool {
    let is_empty = container.cgroup.processes().is_ok_and(|processes| processes.is_empty());
    if !is_empty {
        let _ = container.cgroup.kill_all();
    }
    is_empty
}

impl Container {
    /// Whether the kernel killed a process of it for want of memory. Where systemd was faster and its cgroup is gone, what the
    /// cgroup above counted since the start has to do: who ended by SIGKILL then was killed so.
    fn oom_killed(&self, code: i32) -> bool {
        match (self.cgroup.oom_kills(), self.kills_above) {
            (Ok(count), _) => count > 0,
            (Err(_), Some(before)) if code == KILLED => kills_above(&self.cgroup).is_some_and(|now| now > before),
            (Err(_), _) => false,
        }
    }
}

/// What the cgroup above has counted of such kills; `None` if that can not be told. One that is not there has counted none.
pub(super) fn kills_above(cgroup: &Cgroup) -> Option<u64> {
    match cgroup.parent()?.oom_kills() {
        Ok(count) => Some(count),
        Err(error) => error.is_absent().then_some(0),
    }
}

impl Server {
    /// The first process of a running container ended.
    pub(super) fn container_exiting(&mut self, serial: u32, ended: Ended) {
        let Some(container) = self.container_mut(serial) else { return };
        let Phase::Running(started) = &container.phase else { return };
        let (pause, _) = KILL_PAUSE;
        // Looked at before anything else: systemd removes a scope soon after its last process.
        let oom_killed = container.oom_killed(ended.code);
        container.phase = Phase::Exiting(Exiting {
            started: started.clone(),
            code: ended.code,
            at_nanos: ended.at_nanos,
            oom_killed,
            pause,
            drained_by: None,
        });
        container.init = None;
        self.settle_container(serial);
    }

    /// A container's log writer ended.
    pub(crate) fn container_writer_ended(&mut self, serial: u32) {
        if let Some(container) = self.container_mut(serial)
            && matches!(container.phase, Phase::OpeningLog(..))
        {
            // Its report may still be unread; it is the better story.
            self.container_writer_spoke(serial);
        }
        let Some(container) = self.container_mut(serial) else { return };
        if matches!(container.phase, Phase::OpeningLog(..)) {
            let failure =
                Failure::new(FailureKind::Setup, "open the log of", &container.id, "its log writer was killed");
            self.fail_start(serial, failure);
        }
        self.settle_container(serial);
    }

    /// Looks at what a container waits for, and goes on where nothing is left to wait for.
    pub(crate) fn settle_container(&mut self, serial: u32) {
        let Some(container) = self.container_mut(serial) else { return };
        match &container.phase {
            Phase::OpeningLog(_, give_up_at) if *give_up_at <= Instant::now() => {
                let text = "the log could not be opened in time: its disk does not answer";
                let failure = Failure::new(FailureKind::TimedOut, "open the log of", &container.id, text);
                self.fail_start(serial, failure);
            }
            Phase::Starting(attempt) if attempt.give_up_at <= Instant::now() => {
                let text = format!(
                    "its first process {} has not come to its program in time; see /proc/{0}/stack for what it waits for",
                    attempt.starting.pid()
                );
                let failure = Failure::new(FailureKind::TimedOut, "start", &container.id, text);
                self.fail_start(serial, failure);
            }
            Phase::Starting(attempt) => {
                let left = attempt.give_up_at.saturating_duration_since(Instant::now());
                // It ended; what it said is read now, up to the end.
                if attempt.ended.is_some() {
                    self.container_progressed(serial);
                    self.timers.set(Timer::Container(serial), Duration::ZERO);
                } else {
                    self.timers.set(Timer::Container(serial), left);
                }
            }
            Phase::Exiting(_) => self.settle_exiting(serial),
            Phase::Failed(_) => self.settle_failed(serial),
            Phase::OpeningLog(..) | Phase::Running(_) | Phase::Exited(..) => (),
        }
    }

    fn settle_exiting(&mut self, serial: u32) {
        let Some(container) = self.containers.iter_mut().find(|container| container.serial == serial) else { return };
        let empty = is_empty_or_kill(container);
        let Phase::Exiting(exiting) = &mut container.phase else { return };
        if !empty {
            exiting.pause = longer(exiting.pause);
            return self.timers.set(Timer::Container(serial), exiting.pause);
        }
        if let Some(writer) = container.writer.as_ref().filter(|writer| writer.alive) {
            let deadline = *exiting.drained_by.get_or_insert_with(|| {
                let _ = writer.tell(&Order::Finish);
                Instant::now() + DRAIN_LIMIT
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return self.timers.set(Timer::Container(serial), left);
            }
        }
        let (code, known) = (exiting.code, exiting.oom_killed);
        let oom_killed = known || container.oom_killed(code);
        let Phase::Exiting(exiting) = &mut container.phase else { return };
        let end = ProcessEnd { code: exiting.code, at_nanos: exiting.at_nanos, oom_killed };
        let started = std::mem::take(&mut exiting.started);
        container.phase = Phase::Exited(started, end.clone());
        container.terminal = None;
        container.poststop_has_run();
        let id = container.id.clone();
        if oom_killed {
            // It was counted above, too, and is told: of the others, only what comes after it.
            for other in &mut self.containers {
                other.kills_above = other.kills_above.and_then(|_| kills_above(&other.cgroup));
            }
        }
        let event = Reply::ContainerEnd(ContainerEnd { container: id, end: Some(end) });
        self.tell_all(&event);
        self.settle_shutdown();
    }

    /// Gives a start up, kills what there is of it, and begins to undo it.
    pub(crate) fn fail_start(&mut self, serial: u32, failure: Failure) {
        let Some(container) = self.containers.iter_mut().find(|container| container.serial == serial) else { return };
        let (pause, _) = KILL_PAUSE;
        let mut child = None;
        if let Phase::Starting(attempt) = &container.phase {
            self.poller.remove(&attempt.starting);
            child = attempt.live_pid();
            attempt.starting.kill_helper();
            let _ = rustix::process::pidfd_send_signal(attempt.starting.pidfd(), rustix::process::Signal::KILL);
        }
        container.writer.iter().for_each(super::Writer::kill);
        container.terminal = None;
        container.placeholders = [None, None, None];
        container.phase = Phase::Failed(Failing {
            failure: Some(failure),
            child,
            answer_by: Some(Instant::now() + UNDO_LIMIT),
            pause,
        });
        self.settle_container(serial);
    }

    fn settle_failed(&mut self, serial: u32) {
        let Some(at) = self.containers.iter().position(|container| container.serial == serial) else { return };
        let mut container = self.containers.swap_remove(at);
        let undone = undo(&container) && container.poststop_has_run();
        let Phase::Failed(failing) = &mut container.phase else { return self.containers.push(container) };
        let late = failing.answer_by.is_some_and(|at| at <= Instant::now());
        let answer = if undone || late { failing.failure.take() } else { None };
        if !undone {
            failing.pause = longer(failing.pause);
            self.timers.set(Timer::Container(serial), failing.pause);
        }
        let waiters: Vec<Asker> = if answer.is_some() { std::mem::take(&mut container.waiters) } else { Vec::new() };
        match undone {
            true => self.drop_container(container),
            false => self.containers.push(container),
        }
        if let Some(failure) = answer {
            self.answer_all(waiters, &Reply::Failure(failure));
        }
        self.settle_shutdown();
    }

    /// Drops a container with all descriptors of it.
    pub(crate) fn drop_container(&mut self, container: Container) {
        if let Some(writer) = &container.writer {
            writer.kill();
            self.poller.remove(&writer.control);
            let askers: Vec<Asker> = writer.reopening.iter().copied().collect();
            let failure =
                Failure::new(FailureKind::NotFound, "reopen the log of", &container.id, "it was deleted meanwhile");
            self.answer_all(askers, &Reply::Failure(failure));
        }
    }
}

/// Undoes a start as far as it goes now; true if nothing is left.
fn undo(container: &Container) -> bool {
    let child_lives = matches!(&container.phase, Phase::Failed(failing) if failing.child.is_some());
    let writer_lives = container.writer.as_ref().is_some_and(|writer| writer.alive);
    let empty = is_empty_or_kill(container);
    let removed = empty && (container.deferred || container.cgroup.remove().is_ok());
    removed && !child_lives && !writer_lives
}
