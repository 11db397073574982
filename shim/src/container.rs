//! The life of a container in its shim.
//!
//! ```text
//! OpeningLog ─> Starting ─> Running ─> Exiting ─> Exited ─ DeleteContainer ─> (gone)
//!      └───────────┴─> Failed ─> (gone)
//! ```
//!
//! A container is Exited, and said to be, when its first process has ended, nothing of it lives on and its log is written.
//! Starting and failing is here; the way out is in `container/ending.rs`, what daemons ask of a container in
//! `container/requests.rs`.

mod ending;
mod namespaces;
mod poststop;
mod requests;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxResources, Spec};
use podwright_cgroups::{Cgroup, Hierarchy, systemd_path};
use podwright_runtime::{
    CgroupEntry, Forget, HookContext, Launch, OtherRuntime, Progress, Restore, RootfsMethod, RootfsPlan, SeccompChoice,
    Starting, Stdio, StoppedHooks, User, UserLookup,
};
use podwright_shim_api::{
    CgroupPlacement, ContainerReport, Failure, FailureKind, NamespacePlan, Placing, ProcessEnd, Reply, StartContainer,
    Started,
};
use podwright_types::ContainerId;

use self::ending::{Exiting, Failing};
use self::poststop::Poststop;
use crate::child::{Ended, now_nanos};
use crate::convert;
use crate::documents::SpecDocument;
use crate::poller::Token;
use crate::server::{Asker, Outcome, Server, wait_too};
use crate::streams::{self, Wanted, Writer};
use crate::timers::Timer;
use crate::writer::control::{Order, Report};

/// How long the log may take to be opened.
const OPEN_LOG_LIMIT: Duration = Duration::from_secs(5);
/// How long a container may take from its clone to its program. Mounting its volumes may hang.
const START_LIMIT: Duration = Duration::from_secs(100);

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Names it in tokens and timers.
    pub(crate) serial: u32,
    /// Its id.
    pub(crate) id: String,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// Its cgroup; made and removed by somebody else if `deferred`.
    pub(crate) cgroup: Cgroup,
    /// See [`CgroupPlacement::deferred`].
    pub(crate) deferred: bool,
    /// How many processes were killed for want of memory in the cgroup above before its start; asked if `deferred` only.
    kills_above: Option<u64>,
    /// Its log writer.
    pub(crate) writer: Option<Writer>,
    /// Its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Streams that keep the writer waiting for the terminal.
    placeholders: streams::Stdio,
    /// Its first process.
    pub(crate) init: Option<OwnedFd>,
    /// The runtime that runs it in place of ours.
    pub(crate) other: Option<OtherRuntime>,
    /// Programs that run when nothing of it lives.
    poststop: Poststop,
    /// Who waits for the start.
    waiters: Vec<Asker>,
}

/// Where a container stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its log writer opens the log.
    OpeningLog(Box<Prepared>, Instant),
    /// Its first process is on the way to its program.
    Starting(Attempt),
    /// Its program runs.
    Running(Started),
    /// Its first process has ended.
    Exiting(Exiting),
    /// Nothing of it lives.
    Exited(Started, ProcessEnd),
    /// It did not start; what was made for it is being undone.
    Failed(Failing),
}

/// All that is needed to launch.
#[derive(Debug)]
pub(crate) struct Prepared {
    spec: Spec,
    rootfs: RootfsPlan,
    namespaces: NamespacePlan,
    seccomp: SeccompChoice,
    user_lookup: UserLookup,
    stdio: streams::Stdio,
    bundle: Option<PathBuf>,
    /// CRIU, and the images that the container goes on from.
    restore: Option<(PathBuf, PathBuf)>,
}

/// A first process on its way.
#[derive(Debug)]
pub(crate) struct Attempt {
    starting: Starting,
    user: User,
    /// Limits that are written when it was placed.
    resources: Option<Box<LinuxResources>>,
    waiting: bool,
    ended: Option<Ended>,
    give_up_at: Instant,
}

impl Attempt {
    /// Its pid, while it has not been reaped.
    pub(crate) fn live_pid(&self) -> Option<rustix::process::Pid> {
        self.ended.is_none().then(|| self.starting.pid())
    }
}

impl Container {
    /// What is said of it in the state. A start that failed or is under way has no start yet.
    pub(crate) fn report(&self) -> ContainerReport {
        let (started, end) = match &self.phase {
            Phase::OpeningLog(..) | Phase::Starting(_) | Phase::Failed(_) => (None, None),
            Phase::Running(started) => (Some(started.clone()), None),
            Phase::Exiting(exiting) => (Some(exiting.started.clone()), None),
            Phase::Exited(started, end) => (Some(started.clone()), Some(end.clone())),
        };
        ContainerReport { container: self.id.clone(), started, end }
    }
}

/// The cgroup of a placement.
pub(crate) fn cgroup_of(
    hierarchy: &Hierarchy,
    placement: &CgroupPlacement,
) -> Result<Cgroup, podwright_cgroups::Error> {
    if placement.path.starts_with('/') {
        return hierarchy.cgroup(&placement.path);
    }
    hierarchy.cgroup(&systemd_path(&placement.path)?)
}

/// An error of a cgroup, as an answer.
pub(crate) fn cgroup_failure(step: &str, object: &str, error: &podwright_cgroups::Error) -> Failure {
    convert::error_failure(FailureKind::Setup, step, object, error)
}

impl Server {
    pub(crate) fn container_mut(&mut self, serial: u32) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.serial == serial)
    }

    /// Begins a start, or joins one.
    pub(crate) fn start_container(
        &mut self,
        asker: Asker,
        request: StartContainer,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, Failure> {
        if let Some(container) = self.containers.iter_mut().find(|container| container.id == request.container) {
            return join_start(container, asker).map(|placing| match placing {
                Joined::Answer(reply) => Outcome::Answer(reply, Vec::new()),
                Joined::Later(None) => Outcome::Later,
                Joined::Later(Some(placing)) => {
                    self.answer(asker, placing, Vec::new());
                    Outcome::Later
                }
            });
        }
        self.may_begin("start", &request.container)?;
        let container = self.prepare(asker, request, fds)?;
        self.containers.push(container);
        Ok(Outcome::Later)
    }

    /// Everything up to the fork of the log writer, which answers by opening the log; then the specification is read and the cgroup
    /// made, while the writer is at work and has no copy of either.
    fn prepare(&mut self, asker: Asker, mut request: StartContainer, fds: Vec<OwnedFd>) -> Result<Container, Failure> {
        let id = parse_id(&request.container)?;
        let Some(fd) = fds.into_iter().next() else {
            return Err(Failure::new(
                FailureKind::Invalid,
                "start",
                &id,
                "the request came without its OCI specification",
            ));
        };
        let placement = request.cgroup.take().unwrap_or_default();
        let cgroup = cgroup_of(&self.hierarchy, &placement)
            .map_err(|error| cgroup_failure("find the cgroup of", &id, &error))?;
        let log = request.log_path.take().map(|path| convert::absolute(path, "open the log")).transpose()?;
        let rootfs = convert::rootfs(&mut request)?;
        let seccomp = convert::seccomp(request.seccomp.take(), &id)?;
        let other = convert::runtime(request.runtime.take())?;
        let bundle = request.bundle.take().map(|path| convert::absolute(path, "use the bundle")).transpose()?;
        let restore = request.restore.take().map(|restore| {
            let program = convert::absolute(restore.program, "execute CRIU at")?;
            Ok::<_, Failure>((program, convert::absolute(restore.images, "restore from")?))
        });
        let restore = restore.transpose()?;
        let wanted = Wanted { stdin: request.stdin, stdin_once: request.stdin_once, log, client: None };
        let (writer, stdio) =
            streams::start(wanted).map_err(|error| Failure::of("make the streams of", &id, &error.into()))?;
        let serial = self.new_serial();
        let spec = convert::document(fd, "start", &id).and_then(|spec| {
            let watched = self.poller.add(&writer.control, Token::Writer(serial));
            watched.map(|()| spec).map_err(|error| Failure::of("watch the log writer of", &id, &error))
        });
        let limited = spec.and_then(|SpecDocument(spec)| {
            let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
            if placement.deferred { Ok(()) } else { make_cgroup(&cgroup, resources, &id) }.map(|()| spec)
        });
        let spec = match limited {
            Ok(spec) => spec,
            Err(failure) => {
                writer.kill();
                return Err(failure);
            }
        };
        let prepared = Prepared {
            spec,
            rootfs,
            namespaces: request.namespaces.take().unwrap_or_default(),
            seccomp,
            user_lookup: convert::user_lookup(request.groups_policy),
            stdio,
            bundle,
            restore,
        };
        self.timers.set(Timer::Container(serial), OPEN_LOG_LIMIT);
        Ok(Container {
            serial,
            id,
            phase: Phase::OpeningLog(Box::new(prepared), Instant::now() + OPEN_LOG_LIMIT),
            cgroup,
            deferred: placement.deferred,
            kills_above: None,
            writer: Some(writer),
            terminal: None,
            placeholders: [None, None, None],
            init: None,
            other,
            poststop: Poststop::Nothing,
            waiters: vec![asker],
        })
    }

    /// The writer opened the log, or a log anew.
    pub(crate) fn container_writer_spoke(&mut self, serial: u32) {
        let Some(container) = self.container_mut(serial) else { return };
        let Some(writer) = &mut container.writer else { return };
        let report = match writer.report() {
            Ok(Some(report)) => report,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            // It has ended, which its exit status tells as well.
            Ok(None) | Err(_) => return self.forget_writer(serial),
        };
        match &container.phase {
            Phase::OpeningLog(..) if report.text.is_empty() => self.launch(serial),
            Phase::OpeningLog(..) => self.fail_start(serial, log_failure(&report)),
            Phase::Starting(_) | Phase::Running(_) | Phase::Exiting(_) | Phase::Exited(..) | Phase::Failed(_) => {
                let asker = writer.reopening.pop_front();
                if let Some(asker) = asker {
                    self.answer(asker, reopened(&report), Vec::new());
                }
            }
        }
    }

    /// Stops watching a writer's control socket; who waited for a reopening is told.
    fn forget_writer(&mut self, serial: u32) {
        let Some(container) = self.containers.iter_mut().find(|container| container.serial == serial) else { return };
        let Some(writer) = &mut container.writer else { return };
        self.poller.remove(&writer.control);
        let askers: Vec<_> = writer.reopening.drain(..).collect();
        // As it is told to who asks a moment later.
        let failure = Failure::new(FailureKind::NotFound, "reopen the log of", &container.id, "its streams have ended");
        self.answer_all(askers, &Reply::Failure(failure));
    }

    /// Clones the first process.
    fn launch(&mut self, serial: u32) {
        let Some(at) = self.containers.iter().position(|container| container.serial == serial) else { return };
        let mut container = self.containers.swap_remove(at);
        match self.launched(&mut container) {
            Ok(()) => self.containers.push(container),
            Err(failure) => {
                self.containers.push(container);
                self.fail_start(serial, failure);
            }
        }
    }

    fn launched(&mut self, container: &mut Container) -> Result<(), Failure> {
        let placeholder = Phase::Failed(Failing::default());
        let Phase::OpeningLog(prepared, _) = std::mem::replace(&mut container.phase, placeholder) else {
            return Ok(());
        };
        let mut prepared = *prepared;
        let resources = prepared.spec.linux().as_ref().and_then(|linux| linux.resources().clone()).map(Box::new);
        if container.deferred {
            container.kills_above = ending::kills_above(&container.cgroup);
        }
        let starting = self.clone_init(container, &mut prepared)?;
        self.poller
            .add(&starting, Token::Start(container.serial))
            .map_err(|error| Failure::of("watch the start of", &container.id, &error))?;
        self.timers.set(Timer::Container(container.serial), START_LIMIT);
        container.phase = Phase::Starting(Attempt {
            starting,
            user: User::default(),
            resources: resources.filter(|_| container.deferred),
            waiting: false,
            ended: None,
            give_up_at: Instant::now() + START_LIMIT,
        });
        Ok(())
    }

    fn clone_init(&self, container: &mut Container, prepared: &mut Prepared) -> Result<Starting, Failure> {
        let joined = self.namespaces_for(&prepared.namespaces, &container.id)?;
        let terminal = prepared.spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let mut stdio = std::mem::take(&mut prepared.stdio);
        if terminal {
            container.placeholders = std::mem::take(&mut stdio);
        }
        let shm =
            self.pod.shm_for_container().map_err(|error| Failure::of("share /dev/shm with", &container.id, &error))?;
        let given_mounts: BTreeMap<PathBuf, _> =
            shm.iter().map(|(path, mount)| (path.clone(), mount.as_fd())).collect();
        let id = container.id.clone();
        let hooks = prepared.bundle.as_deref().map(|bundle| HookContext { container: &id, bundle });
        let launch = Launch {
            spec: &prepared.spec,
            rootfs: &prepared.rootfs,
            rootfs_method: RootfsMethod::default(),
            namespaces: joined.borrow(),
            stdio: if terminal { Stdio::Terminal } else { Stdio::Fds(stdio) },
            cgroup: if container.deferred { CgroupEntry::Deferred } else { CgroupEntry::Join(&container.cgroup) },
            given_mounts,
            seccomp: prepared.seccomp.clone(),
            user_lookup: prepared.user_lookup,
            hooks,
            gate: None,
            inherited: Vec::new(),
        };
        let failed = |error| convert::error_failure(FailureKind::Setup, "start", &id, &error);
        let Some(other) = &container.other else {
            let starting = match &prepared.restore {
                None => podwright_runtime::spawn(launch),
                Some((program, images)) => podwright_runtime::restore(launch, Restore { program, images }),
            };
            let starting = starting.map_err(failed)?;
            container.poststop = hooks.and_then(|hooks| StoppedHooks::of(&prepared.spec, hooks)).into();
            return Ok(starting);
        };
        if prepared.restore.is_some() {
            let text = "a checkpoint is restored by the built-in runtime only; make the pod without a runtime handler";
            return Err(Failure::new(FailureKind::Invalid, "restore", &id, text));
        }
        let Some(bundle) = prepared.bundle.as_deref() else {
            let text = "the request names no bundle, which another runtime needs";
            return Err(Failure::new(FailureKind::Invalid, "start", &id, text));
        };
        let cgroup = container.cgroup.path();
        let told = podwright_runtime::Container { id: &id, bundle, cgroup: &cgroup };
        let starting = podwright_runtime::spawn_by(other, told, launch).map_err(failed)?;
        // It runs the hooks itself.
        container.poststop = Poststop::Forget(Box::new(Forget::new(other, &id)));
        Ok(starting)
    }

    /// The child said something.
    pub(crate) fn container_progressed(&mut self, serial: u32) {
        let Some(container) = self.container_mut(serial) else { return };
        let Phase::Starting(attempt) = &mut container.phase else { return };
        match attempt.starting.on_readable() {
            Ok(Progress::Pending) => (),
            // What may have been heard of was the end of the first child.
            Ok(Progress::Moved) => attempt.ended = None,
            Ok(Progress::Waiting) => {
                attempt.waiting = true;
                let placing = Reply::Placing(Placing { pid: attempt.starting.pid().as_raw_pid() });
                let waiters = container.waiters.clone();
                self.answer_all(waiters, &placing);
            }
            Ok(Progress::Terminal(master)) => take_terminal(container, master),
            Ok(Progress::Resolved(user)) => attempt.user = user,
            Ok(Progress::Ready) => (),
            Ok(Progress::Warning(text)) => warn(&container.id, &text),
            Ok(Progress::Started) => self.container_started(serial),
            Ok(Progress::Failed(failure)) => self.fail_start(serial, convert::child_failure(failure)),
            Err(error) => {
                let failure = convert::error_failure(FailureKind::Setup, "start", &container.id, &error);
                self.fail_start(serial, failure);
            }
        }
    }

    fn container_started(&mut self, serial: u32) {
        let Some(at) = self.containers.iter().position(|container| container.serial == serial) else { return };
        let mut container = self.containers.swap_remove(at);
        let placeholder = Phase::Failed(Failing::default());
        match std::mem::replace(&mut container.phase, placeholder) {
            Phase::Starting(attempt) => {
                self.forget(&attempt.starting);
                let pid = attempt.starting.pid().as_raw_pid();
                let started = convert::started(pid, now_nanos(), attempt.user);
                container.init = Some(attempt.starting.into_pidfd());
                container.phase = Phase::Running(started.clone());
                let waiters = std::mem::take(&mut container.waiters);
                self.containers.push(container);
                self.answer_all(waiters, &Reply::Started(started));
                if let Some(ended) = attempt.ended {
                    self.container_exiting(serial, ended);
                }
            }
            other => {
                container.phase = other;
                self.containers.push(container);
            }
        }
    }

    /// A first process ended; true if it was one.
    pub(crate) fn container_process_ended(&mut self, ended: Ended) -> bool {
        if self.poststop_ended(ended) {
            return true;
        }
        let pid = ended.pid.as_raw_pid();
        let is_it = |container: &&mut Container| match &container.phase {
            Phase::Running(started) => started.pid == pid,
            Phase::Starting(attempt) => attempt.live_pid() == Some(ended.pid),
            Phase::Failed(failing) => failing.waits_for(ended.pid),
            Phase::OpeningLog(..) | Phase::Exiting(_) | Phase::Exited(..) => false,
        };
        let Some(container) = self.containers.iter_mut().find(is_it) else { return false };
        let serial = container.serial;
        match &mut container.phase {
            // What it said before it ended is still to be read: it may have run its program to the end.
            Phase::Starting(attempt) => attempt.ended = Some(ended),
            Phase::Failed(failing) => failing.child_ended(),
            Phase::OpeningLog(..) | Phase::Running(_) | Phase::Exiting(_) | Phase::Exited(..) => (),
        }
        self.container_exiting(serial, ended);
        self.settle_container(serial);
        true
    }

    /// The daemon placed a process in its cgroup, or could not.
    pub(crate) fn release_container(&mut self, id: &str, error: &str) -> Result<Outcome, Failure> {
        let Some(container) = self.containers.iter_mut().find(|container| container.id == id) else {
            return Err(not_found("release", id));
        };
        let serial = container.serial;
        let Phase::Starting(attempt) = &mut container.phase else { return Ok(Outcome::done()) };
        if !attempt.waiting {
            return Ok(Outcome::done());
        }
        if !error.is_empty() {
            self.fail_start(serial, Failure::new(FailureKind::Setup, "place in its cgroup", id, error));
            return Ok(Outcome::done());
        }
        attempt.waiting = false;
        let released = apply(&container.cgroup, attempt.resources.take().as_deref(), id).and_then(|()| {
            attempt
                .starting
                .release()
                .map_err(|error| convert::error_failure(FailureKind::Setup, "release", id, &error))
        });
        if let Err(failure) = released {
            self.fail_start(serial, failure);
        }
        Ok(Outcome::done())
    }
}

enum Joined {
    Answer(Reply),
    Later(Option<Reply>),
}

fn join_start(container: &mut Container, asker: Asker) -> Result<Joined, Failure> {
    let placing = match &container.phase {
        Phase::Running(started) | Phase::Exited(started, _) => {
            return Ok(Joined::Answer(Reply::Started(started.clone())));
        }
        Phase::Exiting(exiting) => return Ok(Joined::Answer(Reply::Started(exiting.started.clone()))),
        Phase::Failed(_) => {
            let text = "an earlier attempt has failed and is still being undone; try again in a moment";
            return Err(Failure::new(FailureKind::Busy, "start", &container.id, text));
        }
        Phase::OpeningLog(..) => None,
        Phase::Starting(attempt) => {
            attempt.waiting.then(|| Reply::Placing(Placing { pid: attempt.starting.pid().as_raw_pid() }))
        }
    };
    wait_too(&mut container.waiters, asker, "start", &container.id)?;
    Ok(Joined::Later(placing))
}

fn parse_id(id: &str) -> Result<String, Failure> {
    match id.parse::<ContainerId>() {
        Ok(id) => Ok(id.into()),
        Err(error) => Err(Failure::new(FailureKind::Invalid, "start", id, error.to_string())),
    }
}

/// Nothing of that name is here.
pub(crate) fn not_found(step: &str, id: &str) -> Failure {
    Failure::new(FailureKind::NotFound, step, id, "the shim does not know it; it was not started, or was deleted")
}

fn log_failure(report: &Report) -> Failure {
    let message = format!("{}; the log must be a file in a directory that can be written to", report.text);
    Failure { errno: report.errno, ..Failure::new(FailureKind::Setup, "open", "the log", message) }
}

fn reopened(report: &Report) -> Reply {
    if report.text.is_empty() {
        return Reply::Done(podwright_shim_api::Done {});
    }
    Reply::Failure(log_failure(report))
}

/// Makes a cgroup with limits, or nothing.
fn make_cgroup(cgroup: &Cgroup, resources: Option<&LinuxResources>, id: &str) -> Result<(), Failure> {
    cgroup.create().map_err(|error| cgroup_failure("make the cgroup of", id, &error))?;
    apply(cgroup, resources, id).inspect_err(|_| {
        let _ = cgroup.remove();
    })
}

fn apply(cgroup: &Cgroup, resources: Option<&LinuxResources>, id: &str) -> Result<(), Failure> {
    let Some(resources) = resources else { return Ok(()) };
    cgroup.apply(resources).map_err(|error| cgroup_failure("limit the resources of", id, &error))
}

fn take_terminal(container: &mut Container, master: OwnedFd) {
    if let (Some(writer), Ok(copy)) = (&container.writer, master.try_clone()) {
        let _ = writer.tell(&Order::Terminal(copy));
    }
    container.placeholders = [None, None, None];
    container.terminal = Some(master);
}

/// The shim's own log is for rare things that nobody waits to be answered.
pub(crate) fn warn(object: &str, text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "podwright-shim: {object}: {text}");
}
