//! What the containers of the pod share: namespaces, /dev/shm, and the pause process of a shared pid namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use podwright_cgroups::Cgroup;
use podwright_runtime::{CgroupEntry, IdMappings, MappedRoot, PodNamespaces, PodPlan, Progress, Starting};
use podwright_shim_api::{CreatePod, Failure, FailureKind, PauseEnd, Placing, PodCreated, Reply, Shm};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, unmount,
};
use rustix::process::{Pid, Signal};

use crate::child::Ended;
use crate::container::{cgroup_failure, cgroup_of, warn};
use crate::convert;
use crate::poller::Token;
use crate::server::{Asker, Outcome, Server, wait_too};
use crate::timers::Timer;

/// How long the pause process may take to be there.
const PAUSE_LIMIT: Duration = Duration::from_secs(100);

/// `oom_score_adj` of the pause process: its death takes the pod along.
const PAUSE_OOM_SCORE_ADJ: i32 = -998;

/// The pod.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    /// Its namespaces.
    pub(crate) namespaces: PodNamespaces,
    created: bool,
    pause: Pause,
    pause_cgroup: Option<(Cgroup, bool)>,
    shm: Option<SharedMemory>,
    waiters: Vec<Asker>,
}

#[derive(Debug, Default)]
enum Pause {
    #[default]
    None,
    Starting {
        starting: Starting,
        waiting: bool,
        ended: bool,
        /// After which it is late.
        until: Instant,
    },
    Running {
        pid: Pid,
        pidfd: OwnedFd,
    },
    Ended,
}

/// The pod's /dev/shm, and the path by which containers' mounts name it.
#[derive(Debug)]
enum SharedMemory {
    /// A mount that is attached nowhere, of which each container gets a clone.
    Detached(PathBuf, OwnedFd),
    /// Attached at the path: kernels before 6.15 clone no detached mounts.
    Attached(PathBuf),
}

impl Pod {
    /// What is said of it in the state; `None` before it was made.
    pub(crate) fn report(&self) -> Option<(PodCreated, Option<OwnedFd>)> {
        if !self.created {
            return None;
        }
        let netns = self.namespaces.network.as_ref().and_then(|fd| fd.try_clone().ok());
        let created = PodCreated {
            pause_pid: self.pause_pid().unwrap_or(0),
            has_netns: netns.is_some(),
            pause_ended: matches!(self.pause, Pause::Ended),
        };
        Some((created, netns))
    }

    /// The pause process, while it lives.
    pub(crate) fn pause_pid(&self) -> Option<i32> {
        match &self.pause {
            Pause::Running { pid, .. } => Some(pid.as_raw_pid()),
            Pause::None | Pause::Starting { .. } | Pause::Ended => None,
        }
    }

    /// A clone of /dev/shm for one container, by the path that its specification names.
    pub(crate) fn shm_for_container(&self) -> std::io::Result<Option<(PathBuf, OwnedFd)>> {
        match &self.shm {
            Some(SharedMemory::Detached(path, mount)) => {
                Ok(Some((path.clone(), podwright_sys::clone_tree(mount, Path::new(""), false)?)))
            }
            Some(SharedMemory::Attached(_)) | None => Ok(None),
        }
    }

    /// Kills the pause process; true if there is none any more.
    pub(crate) fn end_pause(&self) -> bool {
        let kill = |pidfd: std::os::fd::BorrowedFd<'_>| {
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            false
        };
        match &self.pause {
            Pause::Running { pidfd, .. } => kill(pidfd.as_fd()),
            Pause::Starting { starting, ended: false, .. } => kill(starting.pidfd()),
            Pause::Starting { .. } | Pause::None | Pause::Ended => true,
        }
    }

    /// Undoes what is left when no process is: the pause process's cgroup and an attached /dev/shm.
    pub(crate) fn remove(&mut self) -> Result<(), Failure> {
        if let Some((cgroup, false)) = &self.pause_cgroup {
            let _ = cgroup.kill_all();
            cgroup.remove().map_err(|error| cgroup_failure("remove the cgroup of", "the pause process", &error))?;
        }
        self.pause_cgroup = None;
        if let Some(SharedMemory::Attached(path)) = self.shm.take() {
            unmount(&path, UnmountFlags::DETACH)
                .map_err(|error| Failure::of("unmount", &path.to_string_lossy(), &error.into()))?;
        }
        self.namespaces = PodNamespaces::default();
        Ok(())
    }
}

impl Server {
    /// Makes the pod. Repeated, it answers the same.
    pub(crate) fn create_pod(
        &mut self,
        asker: Asker,
        request: CreatePod,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, Failure> {
        if let Some((created, netns)) = self.pod.report() {
            return Ok(Outcome::Answer(Reply::PodCreated(created), netns.into_iter().collect()));
        }
        if let Pause::Starting { starting, waiting, .. } = &self.pod.pause {
            let placing = waiting.then(|| Reply::Placing(Placing { pid: starting.pid().as_raw_pid() }));
            wait_too(&mut self.pod.waiters, asker, "make the namespaces of", "the pod")?;
            if let Some(placing) = placing {
                self.answer(asker, placing, Vec::new());
            }
            return Ok(Outcome::Later);
        }
        self.may_begin("make the namespaces of", "the pod")?;
        let with_pause = request.pid;
        if let Err(failure) = self.make_pod(request, fds) {
            self.undo_pod();
            return Err(failure);
        }
        if with_pause {
            self.pod.waiters.push(asker);
            return Ok(Outcome::Later);
        }
        self.pod.created = true;
        let (created, netns) = self.pod.report().unwrap_or_default();
        Ok(Outcome::Answer(Reply::PodCreated(created), netns.into_iter().collect()))
    }

    fn make_pod(&mut self, request: CreatePod, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let step = "make the namespaces of";
        let given = fds.into_iter().next().filter(|_| request.netns_given);
        if request.netns_given && (given.is_none() || request.user.is_some()) {
            let text =
                "the network namespace that should come with the request is missing, or the pod's user must own it";
            return Err(Failure::new(FailureKind::Invalid, step, "the pod", text));
        }
        let user = request.user.map(convert::id_mappings);
        let label = request.mount_label.filter(|label| !label.is_empty());
        let root = user.as_ref().and_then(IdMappings::root);
        let plan = PodPlan {
            network: request.network && given.is_none(),
            ipc: request.ipc,
            user,
            hostname: request.hostname,
            sysctls: request.sysctls,
        };
        self.pod.namespaces = podwright_runtime::make_namespaces(&plan)
            .map_err(|error| convert::error_failure(FailureKind::Setup, step, "the pod", &error))?;
        if given.is_some() {
            self.pod.namespaces.network = given;
        }
        self.pod.shm = request.shm.map(|shm| make_shared_memory(shm, root, label.as_deref())).transpose()?;
        if request.pid {
            self.begin_pause(&request.pause_cgroup.unwrap_or_default(), label.as_deref())?;
        }
        Ok(())
    }

    fn begin_pause(
        &mut self,
        placement: &podwright_shim_api::CgroupPlacement,
        label: Option<&str>,
    ) -> Result<(), Failure> {
        let object = "the pause process";
        let failed = |error| cgroup_failure("make the cgroup of", object, &error);
        let cgroup = cgroup_of(&self.hierarchy, placement).map_err(failed)?;
        if !placement.deferred {
            self.pod.pause_cgroup = Some((cgroup.clone(), false));
            cgroup.create().map_err(failed)?;
        }
        let entry = if placement.deferred { CgroupEntry::Deferred } else { CgroupEntry::Join(&cgroup) };
        let starting = podwright_runtime::spawn_pause(&self.pod.namespaces, entry, Some(PAUSE_OOM_SCORE_ADJ), label)
            .map_err(|error| convert::error_failure(FailureKind::Setup, "start", object, &error))?;
        let serial = self.new_serial();
        let watched = self.poller.add(&starting, Token::Start(serial));
        self.pod.pause_cgroup = Some((cgroup, placement.deferred));
        self.pod.pause =
            Pause::Starting { starting, waiting: false, ended: false, until: Instant::now() + PAUSE_LIMIT };
        self.timers.set(Timer::Pause, PAUSE_LIMIT);
        watched.map_err(|error| Failure::of("watch the start of", object, &error))
    }

    /// The pause process said something on its way.
    pub(crate) fn pause_progressed(&mut self) {
        let Pause::Starting { starting, waiting, ended, .. } = &mut self.pod.pause else { return };
        match starting.on_readable() {
            Ok(Progress::Pending | Progress::Resolved(_) | Progress::Terminal(_) | Progress::Ready) => (),
            Ok(Progress::Moved) => *ended = false,
            Ok(Progress::Waiting) => {
                *waiting = true;
                let placing = Reply::Placing(Placing { pid: starting.pid().as_raw_pid() });
                let waiters = self.pod.waiters.clone();
                self.answer_all(waiters, &placing);
            }
            Ok(Progress::Warning(text)) => warn("the pause process", &text),
            Ok(Progress::Started) => self.pause_started(),
            Ok(Progress::Failed(failure)) => self.pause_failed(convert::child_failure(failure)),
            Err(error) => {
                self.pause_failed(convert::error_failure(FailureKind::Setup, "start", "the pause process", &error));
            }
        }
    }

    fn pause_started(&mut self) {
        match std::mem::take(&mut self.pod.pause) {
            Pause::Starting { starting, ended: false, .. } => {
                self.poller.remove(&starting);
                let pid = starting.pid();
                self.pod.pause = Pause::Running { pid, pidfd: starting.into_pidfd() };
            }
            Pause::Starting { starting, .. } => {
                self.poller.remove(&starting);
                self.pod.pause = Pause::Ended;
            }
            other @ (Pause::None | Pause::Running { .. } | Pause::Ended) => self.pod.pause = other,
        }
        self.pod.created = true;
        for asker in std::mem::take(&mut self.pod.waiters) {
            let (created, netns) = self.pod.report().unwrap_or_default();
            self.answer(asker, Reply::PodCreated(created), netns.into_iter().collect());
        }
    }

    fn pause_failed(&mut self, failure: Failure) {
        self.undo_pod();
        let waiters = std::mem::take(&mut self.pod.waiters);
        self.answer_all(waiters, &Reply::Failure(failure));
    }

    /// The daemon placed the pause process in its cgroup, or could not.
    pub(crate) fn release_pause(&mut self, error: &str) -> Result<Outcome, Failure> {
        let Pause::Starting { starting, waiting, .. } = &mut self.pod.pause else { return Ok(Outcome::done()) };
        if !std::mem::take(waiting) {
            return Ok(Outcome::done());
        }
        if !error.is_empty() {
            self.pause_failed(Failure::new(FailureKind::Setup, "place in its cgroup", "the pause process", error));
        } else if let Err(error) = starting.release() {
            self.pause_failed(convert::error_failure(FailureKind::Setup, "release", "the pause process", &error));
        }
        Ok(Outcome::done())
    }

    /// The pause process ended; true if it was the one that did.
    pub(crate) fn pause_ended(&mut self, ended: Ended) -> bool {
        match &mut self.pod.pause {
            Pause::Starting { starting, ended: has_ended, .. } if starting.pid() == ended.pid => {
                *has_ended = true;
                self.read_last_words();
                true
            }
            Pause::Running { pid, .. } if *pid == ended.pid => {
                self.pod.pause = Pause::Ended;
                self.tell_all(&Reply::PauseEnd(PauseEnd {}));
                true
            }
            Pause::None | Pause::Starting { .. } | Pause::Running { .. } | Pause::Ended => false,
        }
    }

    /// The time of the pause process is over, or one process of it ended and its words are to be read.
    pub(crate) fn pause_is_late(&mut self) {
        match &self.pod.pause {
            Pause::Starting { ended: true, .. } => self.read_last_words(),
            // Set for the first process of a user namespace, which ended; the second one took over meanwhile.
            Pause::Starting { until, .. } if Instant::now() < *until => {
                self.timers.set(Timer::Pause, until.saturating_duration_since(Instant::now()));
            }
            Pause::Starting { .. } => {
                let failure =
                    Failure::new(FailureKind::TimedOut, "start", "the pause process", "it was not ready in time");
                self.pause_failed(failure);
            }
            Pause::None | Pause::Running { .. } | Pause::Ended => (),
        }
    }

    /// Reads a word of the process that ended, and sees to it that the next one is read soon.
    fn read_last_words(&mut self) {
        self.pause_progressed();
        self.timers.set(Timer::Pause, Duration::ZERO);
    }

    /// Puts the pod back to where it was before it was made.
    fn undo_pod(&mut self) {
        if let Pause::Starting { starting, .. } = &self.pod.pause {
            self.poller.remove(starting);
            let _ = rustix::process::pidfd_send_signal(starting.pidfd(), Signal::KILL);
            // It is killed and nearly gone; its cgroup can be removed only after that.
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(starting.pidfd()),
                rustix::process::WaitIdOptions::EXITED,
            );
        }
        self.pod.pause = Pause::None;
        if let Err(failure) = self.pod.remove() {
            warn("the pod", &failure.text());
        }
        self.pod.shm = None;
    }
}

fn make_shared_memory(request: Shm, owner: Option<MappedRoot>, label: Option<&str>) -> Result<SharedMemory, Failure> {
    let path = convert::absolute(request.path, "mount /dev/shm at")?;
    let failed = |error: rustix::io::Errno| Failure::of("mount a tmpfs for", "/dev/shm", &error.into());
    let mount = new_tmpfs(request.bytes, owner, label).map_err(failed)?;
    if podwright_sys::clone_tree(&mount, Path::new(""), false).is_ok() {
        return Ok(SharedMemory::Detached(path, mount));
    }
    std::fs::create_dir_all(&path).map_err(|error| Failure::of("make", &path.to_string_lossy(), &error))?;
    move_mount(&mount, "", rustix::fs::CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| Failure::of("mount /dev/shm at", &path.to_string_lossy(), &error.into()))?;
    Ok(SharedMemory::Attached(path))
}

fn new_tmpfs(bytes: u64, owner: Option<MappedRoot>, label: Option<&str>) -> Result<OwnedFd, rustix::io::Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "shm")?;
    fsconfig_set_string(&context, "mode", "1777")?;
    if let Some(label) = label {
        fsconfig_set_string(&context, "context", label)?;
    }
    if let Some(owner) = owner {
        fsconfig_set_string(&context, "uid", owner.uid.to_string())?;
        fsconfig_set_string(&context, "gid", owner.gid.to_string())?;
    }
    if bytes > 0 {
        fsconfig_set_string(&context, "size", bytes.to_string())?;
    }
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
