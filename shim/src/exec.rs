//! Processes executed in a running container.
//!
//! ```text
//! Starting ─> Running ─> Exiting ─> (event, gone)
//!     └─> (failure, gone)
//! ```
//!
//! Without a terminal a process has the daemon's own pipes as its streams. With one, a writer copies between it and them.

mod placement;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use oci_spec::runtime::Process;
use podwright_runtime::{CgroupEntry, ExecLaunch, Progress, Starting, Stdio, UserLookup};
use podwright_shim_api::{
    Exec as ExecRequest, ExecEnd, ExecReport, ExecStarted, Failure, FailureKind, KillExec, ProcessEnd, Reply,
};
use podwright_types::ExecId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getsid, kill_process, kill_process_group};

use crate::child::Ended;
use crate::container::{Container, Phase, not_found, warn};
use crate::convert;
use crate::documents::ProcessDocument;
use crate::poller::Token;
use crate::server::{Asker, Outcome, Server, wait_too};
use crate::streams::{self, Wanted, Writer};
use crate::timers::Timer;
use crate::writer::control::{ClientFds, Order};

/// How long the end of an exec waits for its terminal's output to be taken. After that the writer goes on alone.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Execs at once in one pod.
const MAX_EXECS: usize = 1024;

/// An exec.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Names it in tokens and timers.
    pub(crate) serial: u32,
    /// Its container.
    pub(crate) container: String,
    /// Its own id.
    pub(crate) id: String,
    /// Copies between terminal and daemon.
    pub(crate) writer: Option<Writer>,
    /// Its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Streams that keep the writer waiting for the terminal.
    placeholders: streams::Stdio,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Starting { starting: Starting, askers: Vec<Asker>, ended: Option<Ended> },
    Running { pid: Pid, _pidfd: OwnedFd },
    Exiting { ended: Ended, drained_by: Option<Instant> },
    Failed,
}

impl Exec {
    /// Whether it is the one of these names.
    pub(crate) fn is(&self, container: &str, id: &str) -> bool {
        self.container == container && self.id == id
    }

    /// What is said of it in the state.
    pub(crate) fn report(&self) -> ExecReport {
        let pid = self.live_pid().map_or(0, Pid::as_raw_pid);
        ExecReport { container: self.container.clone(), exec: self.id.clone(), pid }
    }

    /// Its pid, while it has not been reaped.
    fn live_pid(&self) -> Option<Pid> {
        match &self.stage {
            Stage::Starting { starting, ended: None, .. } => Some(starting.pid()),
            Stage::Running { pid, .. } => Some(*pid),
            Stage::Starting { .. } | Stage::Exiting { .. } | Stage::Failed => None,
        }
    }
}

impl Server {
    /// Begins an exec, or joins one of the same name.
    pub(crate) fn start_exec(
        &mut self,
        asker: Asker,
        request: ExecRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, Failure> {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.is(&request.container, &request.exec)) {
            return join(exec, asker);
        }
        self.may_begin("execute in", &request.container)?;
        let exec = self.begin_exec(asker, request, fds)?;
        self.execs.push(exec);
        Ok(Outcome::Later)
    }

    fn begin_exec(&mut self, asker: Asker, request: ExecRequest, fds: Vec<OwnedFd>) -> Result<Exec, Failure> {
        let step = "execute in";
        let invalid = |text: &str| Failure::new(FailureKind::Invalid, step, &request.container, text);
        if self.execs.len() >= MAX_EXECS {
            return Err(Failure::new(
                FailureKind::Exhausted,
                step,
                &request.container,
                "too many execs run in this pod",
            ));
        }
        let id: ExecId = request.exec.parse().map_err(|error: podwright_types::IdError| invalid(&error.to_string()))?;
        let serial = self.new_serial();
        let mut fds = fds.into_iter();
        let document = fds.next().ok_or_else(|| invalid("the request came without its OCI process"))?;
        let ProcessDocument(process) = convert::document(document, step, &request.container)?;
        let client = ClientFds::take([request.has_stdin, request.has_stdout, request.has_stderr], fds)
            .ok_or_else(|| invalid("descriptors of its streams are missing"))?;
        let seccomp = convert::seccomp(request.seccomp.clone(), &request.container)?;

        let container = self.containers.iter().find(|container| container.id == request.container);
        let container = container.ok_or_else(|| not_found(step, &request.container))?;
        let (init, pid) = running_init(container).ok_or_else(|| does_not_run(&request.container))?;
        let (writer, stdio, placeholders) = exec_streams(&process, client)
            .map_err(|error| Failure::of("make the streams of an exec in", &request.container, &error.into()))?;
        let cgroup = placement::cgroup_beside(pid, &container.cgroup);
        let launch = ExecLaunch {
            init: std::os::fd::AsFd::as_fd(init),
            user: self.pod.namespaces.user.as_ref().map(|user| user.root),
            spec: None,
            process: &process,
            stdio,
            cgroup: CgroupEntry::Join(&cgroup),
            seccomp,
            user_lookup: UserLookup { merge_groups: false },
            inherited: Vec::new(),
        };
        let begun = match &container.other {
            None => podwright_runtime::exec(launch),
            Some(other) => podwright_runtime::exec_by(other, &container.id, &process, launch.stdio),
        };
        let started = begun
            .map_err(|error| convert::error_failure(FailureKind::Setup, step, &request.container, &error))
            .and_then(|starting| {
                match self.watch_exec(&starting, writer.is_some() || container.other.is_some(), serial) {
                    Ok(()) => Ok(starting),
                    Err(error) => {
                        // It would run with nobody who knows of it.
                        let _ = rustix::process::pidfd_send_signal(starting.pidfd(), Signal::KILL);
                        Err(Failure::of("watch an exec in", &request.container, &error))
                    }
                }
            });
        let starting = match started {
            Ok(starting) => starting,
            Err(failure) => {
                writer.iter().for_each(Writer::kill);
                return Err(of_living(Some(container), failure));
            }
        };
        if let Some(writer) = &writer {
            let _ = self.poller.add(&writer.control, Token::Writer(serial));
        }
        let stage = Stage::Starting { starting, askers: vec![asker], ended: None };
        Ok(Exec { serial, container: request.container, id: id.into(), writer, terminal: None, placeholders, stage })
    }

    /// Nothing that a child says is of use before its program runs, or it gave up, but its terminal; a helper waits for an answer.
    fn watch_exec(&self, starting: &Starting, listens: bool, serial: u32) -> std::io::Result<()> {
        match listens {
            true => self.poller.add(starting, Token::Start(serial)),
            false => self.poller.add_for_end(starting, Token::Start(serial)),
        }
    }

    /// Its writer has nothing to say that anybody waits for.
    pub(crate) fn exec_writer_spoke(&mut self, serial: u32) {
        let Some(exec) = self.execs.iter().find(|exec| exec.serial == serial) else { return };
        let Some(writer) = &exec.writer else { return };
        match writer.report() {
            Ok(Some(_)) => (),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Ok(None) | Err(_) => self.poller.remove(&writer.control),
        }
    }

    /// The child said something.
    pub(crate) fn exec_progressed(&mut self, serial: u32) {
        while self.exec_said_more(serial) {}
    }

    /// Takes what it said; false when that was all.
    fn exec_said_more(&mut self, serial: u32) -> bool {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.serial == serial) else { return false };
        let Stage::Starting { starting, ended, .. } = &mut exec.stage else { return false };
        match starting.on_readable() {
            Ok(Progress::Pending) => return false,
            // What may have been heard of was the end of its helper.
            Ok(Progress::Moved) => *ended = None,
            Ok(Progress::Resolved(_) | Progress::Waiting | Progress::Ready) => (),
            Ok(Progress::Terminal(master)) => {
                if let (Some(writer), Ok(copy)) = (&exec.writer, master.try_clone()) {
                    let _ = writer.tell(&Order::Terminal(copy));
                }
                exec.placeholders = [None, None, None];
                exec.terminal = Some(master);
            }
            Ok(Progress::Warning(text)) => warn(&exec.id, &text),
            Ok(Progress::Started) => self.exec_started(serial),
            Ok(Progress::Failed(failure)) => self.exec_failed(serial, convert::child_failure(failure)),
            Err(error) => {
                let failure = convert::error_failure(FailureKind::Setup, "execute in", &exec.container, &error);
                self.exec_failed(serial, failure);
            }
        }
        true
    }

    fn exec_started(&mut self, serial: u32) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.serial == serial) else { return };
        let Stage::Starting { starting, askers, ended } = std::mem::replace(&mut exec.stage, Stage::Failed) else {
            return;
        };
        let pid = starting.pid();
        self.poller.remove(&starting);
        exec.stage = match ended {
            Some(ended) => Stage::Exiting { ended, drained_by: None },
            None => Stage::Running { pid, _pidfd: starting.into_pidfd() },
        };
        self.answer_all(askers, &Reply::ExecStarted(ExecStarted { pid: pid.as_raw_pid() }));
        self.settle_exec(serial);
    }

    fn exec_failed(&mut self, serial: u32, failure: Failure) {
        let Some(at) = self.execs.iter().position(|exec| exec.serial == serial) else { return };
        let exec = self.execs.swap_remove(at);
        if let Stage::Starting { starting, askers, ended } = exec.stage {
            self.poller.remove(&starting);
            starting.kill_helper();
            if ended.is_none() {
                let _ = rustix::process::pidfd_send_signal(starting.pidfd(), Signal::KILL);
            }
            let container = self.containers.iter().find(|container| container.id == exec.container);
            let failure = of_living(container, failure);
            self.answer_all(askers, &Reply::Failure(failure));
        }
        self.drop_exec_writer(exec.writer);
    }

    fn drop_exec_writer(&mut self, writer: Option<Writer>) {
        if let Some(writer) = writer {
            writer.kill();
            self.poller.remove(&writer.control);
        }
    }

    /// A process of an exec ended; true if it was one.
    pub(crate) fn exec_process_ended(&mut self, ended: Ended) -> bool {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.live_pid() == Some(ended.pid)) else { return false };
        let serial = exec.serial;
        match &mut exec.stage {
            // What it said before it ended is still to be read.
            Stage::Starting { ended: end, .. } => *end = Some(ended),
            Stage::Running { .. } | Stage::Exiting { .. } | Stage::Failed => {
                exec.stage = Stage::Exiting { ended, drained_by: None };
            }
        }
        self.settle_exec(serial);
        true
    }

    /// Looks at what an exec waits for, and goes on where nothing is left to wait for.
    pub(crate) fn settle_exec(&mut self, serial: u32) {
        let Some(at) = self.execs.iter().position(|exec| exec.serial == serial) else { return };
        let Some(exec) = self.execs.get_mut(at) else { return };
        match &mut exec.stage {
            Stage::Starting { ended: Some(_), .. } => {
                self.timers.set(Timer::Exec(serial), Duration::ZERO);
                return self.exec_progressed(serial);
            }
            Stage::Starting { .. } | Stage::Running { .. } => return,
            Stage::Failed => (),
            Stage::Exiting { drained_by, .. } => {
                if let Some(writer) = exec.writer.as_ref().filter(|writer| writer.alive) {
                    let deadline = *drained_by.get_or_insert_with(|| {
                        let _ = writer.tell(&Order::Finish);
                        Instant::now() + DRAIN_LIMIT
                    });
                    let left = deadline.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        return self.timers.set(Timer::Exec(serial), left);
                    }
                }
            }
        }
        let exec = self.execs.swap_remove(at);
        if let Some(writer) = &exec.writer {
            // A slow reader still gets the rest: the writer ends when all is taken, or the reader is gone.
            self.poller.remove(&writer.control);
        }
        let Stage::Exiting { ended, .. } = exec.stage else { return };
        let end = ProcessEnd { code: ended.code, at_nanos: ended.at_nanos, oom_killed: false };
        self.tell_all(&Reply::ExecEnd(ExecEnd { container: exec.container, exec: exec.id, end: Some(end) }));
    }

    /// Kills an exec and its session. Ended already is success.
    pub(crate) fn kill_exec(&mut self, request: &KillExec) -> Result<Outcome, Failure> {
        let Some(exec) = self.execs.iter().find(|exec| exec.is(&request.container, &request.exec)) else {
            return Ok(Outcome::done());
        };
        let Some(leader) = exec.live_pid() else { return Ok(Outcome::done()) };
        let container = self.containers.iter().find(|container| container.id == request.container);
        let processes = container.and_then(|container| container.cgroup.processes().ok()).unwrap_or_default();
        for pid in processes.into_iter().filter(|pid| getsid(Some(*pid)) == Ok(leader)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = kill_process_group(leader, Signal::KILL);
        match kill_process(leader, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(Outcome::done()),
            Err(error) => Err(Failure::of("kill the exec", &request.exec, &error.into())),
        }
    }
}

fn join(exec: &mut Exec, asker: Asker) -> Result<Outcome, Failure> {
    match &mut exec.stage {
        Stage::Starting { askers, .. } => {
            wait_too(askers, asker, "execute in", &exec.container)?;
            Ok(Outcome::Later)
        }
        Stage::Running { pid, .. } => {
            Ok(Outcome::Answer(Reply::ExecStarted(ExecStarted { pid: pid.as_raw_pid() }), Vec::new()))
        }
        Stage::Exiting { .. } | Stage::Failed => Err(Failure::new(
            FailureKind::Busy,
            "execute",
            &exec.id,
            "an exec of this name is just ending; choose another name",
        )),
    }
}

fn running_init(container: &Container) -> Option<(&OwnedFd, i32)> {
    match (&container.init, &container.phase) {
        (Some(init), Phase::Running(started)) => Some((init, started.pid)),
        _ => None,
    }
}

/// Whether its first process lives: its end may be on the way to here still. Then there is nothing to join any more, and systemd may have
/// removed its scope.
pub(crate) fn is_alive(container: &Container) -> bool {
    let has_ended = |init| poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&Timespec::default())) != Ok(0);
    running_init(container).is_some_and(|(init, _)| !has_ended(init))
}

/// The failure of an exec, or that the container ended meanwhile.
fn of_living(container: Option<&Container>, failure: Failure) -> Failure {
    match container {
        Some(container) if !is_alive(container) => does_not_run(&container.id),
        Some(_) | None => failure,
    }
}

fn does_not_run(container: &str) -> Failure {
    Failure::new(FailureKind::Busy, "execute in", container, "the container does not run")
}

/// The writer, the streams of the process, and what keeps the writer waiting for its terminal.
fn exec_streams(
    process: &Process,
    client: ClientFds,
) -> Result<(Option<Writer>, Stdio, streams::Stdio), rustix::io::Errno> {
    let none = [None, None, None];
    if !process.terminal().unwrap_or(false) {
        return Ok((None, Stdio::Fds([client.stdin, client.stdout, client.stderr]), none));
    }
    let (writer, placeholders) = streams::start(Wanted { client: Some(client), ..Wanted::default() })?;
    Ok((Some(writer), Stdio::Terminal, placeholders))
}
