//! What a caller asks for: a container, a process beside it, the namespaces of a pod.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, Process, Spec};
use podwright_cgroups::Cgroup;

use crate::hooks::HookContext;

/// Where the root file system of a container comes from.
#[derive(Debug, Clone)]
pub enum RootfsPlan {
    /// Layers under a writable directory, put together by overlayfs.
    Layers {
        /// Directories, the topmost first.
        layers: Vec<PathBuf>,
        /// Directory with `upper` and `work` (made if missing); `None` for a root that nothing can write to.
        writable: Option<PathBuf>,
    },
    /// A directory that is there already. Under a user namespace its files are shown as those of the mapped ids.
    Directory(PathBuf),
    /// One whose files belong to the ids outside of the user namespace already: somebody else has mapped or changed them.
    Owned(PathBuf),
}

/// How a root file system is put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootfsMethod {
    /// As a detached mount where the kernel can (Linux 6.8), else attached.
    #[default]
    Auto,
    /// By mount(2) in the container's mount namespace.
    Attached,
}

/// One kind of namespace of a container.
#[derive(Debug, Clone, Copy, Default)]
pub enum Namespace<'fd> {
    /// The caller's.
    #[default]
    Host,
    /// A new one.
    New,
    /// That of a descriptor.
    Join(BorrowedFd<'fd>),
}

/// Ids inside of a user namespace and what they are outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// Of user ids.
    pub uids: Vec<LinuxIdMapping>,
    /// Of group ids.
    pub gids: Vec<LinuxIdMapping>,
}

impl IdMappings {
    /// Which ids of the caller's namespace root is; `None` if it is none.
    #[must_use]
    pub fn root(&self) -> Option<MappedRoot> {
        let of = |ranges: &[LinuxIdMapping]| {
            ranges.iter().find(|r| r.container_id() == 0 && r.size() > 0).map(LinuxIdMapping::host_id)
        };
        Some(MappedRoot { uid: of(&self.uids)?, gid: of(&self.gids)? })
    }
}

/// Whom the root of a user namespace is outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedRoot {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The user namespace of a pod, to be joined.
#[derive(Debug, Clone, Copy)]
pub struct UserJoin<'fd> {
    /// The namespace.
    pub namespace: BorrowedFd<'fd>,
    /// Its root.
    pub root: MappedRoot,
    /// All its mappings.
    pub mappings: &'fd IdMappings,
}

/// The namespaces of a container. A mount namespace of its own is always made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespaces<'fd> {
    /// Network.
    pub network: Namespace<'fd>,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace<'fd>,
    /// Host name.
    pub uts: Namespace<'fd>,
    /// Process ids.
    pub pid: Namespace<'fd>,
    /// User and group ids; the caller's where there is none. Network, IPC and UTS can not be `New` beside one: those of the pod
    /// belong to it.
    pub user: Option<UserJoin<'fd>>,
    /// Root of the visible cgroup tree; `Join` is not supported.
    pub cgroup: Namespace<'fd>,
}

/// Streams 0, 1 and 2 of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Descriptors; `None` is `/dev/null`.
    Fds([Option<OwnedFd>; 3]),
    /// A terminal of the container; its master comes as [`Progress::Terminal`](crate::Progress::Terminal).
    Terminal,
}

impl Stdio {
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Fds(fds) => fds.iter().flatten().map(AsFd::as_fd).collect(),
            Self::Terminal => Vec::new(),
        }
    }
}

/// The cgroup that a process starts in.
#[derive(Debug, Clone, Copy)]
pub enum CgroupEntry<'a> {
    /// The caller's.
    Inherit,
    /// This one, which exists.
    Join(&'a Cgroup),
    /// The process waits until somebody put it into its cgroup and [`Starting::release`](crate::Starting::release) was called.
    Deferred,
}

/// Which system call filter applies.
#[derive(Debug, Clone, Default)]
pub enum SeccompChoice {
    /// That of the specification; none if it has none.
    #[default]
    FromSpec,
    /// Our own default for the container's capabilities.
    RuntimeDefault,
    /// A profile on the host, in the JSON that Docker and Kubernetes use.
    Profile(PathBuf),
}

/// Whether and how the user is looked up in the container's `passwd` and `group`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserLookup {
    /// Adds the groups that `group` names the user in to `additionalGids`.
    pub merge_groups: bool,
}

/// A container that is to run.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Specification. `root.path` and the list of namespaces are not used. A `process.user.username` other than empty is looked
    /// up: `name`, `name:group`, `uid` or `uid:gid`.
    pub spec: &'a Spec,
    /// Root file system.
    pub rootfs: &'a RootfsPlan,
    /// How it is put together; `Auto` is right.
    pub rootfs_method: RootfsMethod,
    /// Namespaces.
    pub namespaces: Namespaces<'a>,
    /// Streams.
    pub stdio: Stdio,
    /// Cgroup.
    pub cgroup: CgroupEntry<'a>,
    /// Mounts by their source path, where the caller has a detached mount already.
    pub given_mounts: BTreeMap<PathBuf, BorrowedFd<'a>>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Look-up of groups.
    pub user_lookup: UserLookup,
    /// What hooks are told. A specification with hooks needs it; poststop hooks are run by the caller
    /// ([`StoppedHooks`](crate::StoppedHooks)).
    pub hooks: Option<HookContext<'a>>,
    /// Where the process waits before it gives up its privileges.
    pub gate: Option<Gate>,
    /// Descriptors that the program keeps, with consecutive numbers from 3 on.
    pub inherited: Vec<OwnedFd>,
}

/// A listening SOCK_SEQPACKET socket. The process says [`Progress::Ready`](crate::Progress::Ready), accepts one connection and goes on when
/// it got a message over that; what follows is told there. See [`Starting::at_gate`](crate::Starting::at_gate).
#[derive(Debug)]
pub struct Gate(pub OwnedFd);

impl Launch<'_> {
    /// All descriptors that it names.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let of = &self.namespaces;
        let joined =
            [of.network, of.ipc, of.uts, of.pid, of.cgroup].into_iter().filter_map(|namespace| match namespace {
                Namespace::Join(fd) => Some(fd),
                Namespace::Host | Namespace::New => None,
            });
        let user = of.user.map(|user| user.namespace);
        let gate = self.gate.iter().map(|gate| gate.0.as_fd());
        let inherited = self.inherited.iter().map(AsFd::as_fd);
        let given = self.given_mounts.values().copied();
        joined.chain(user).chain(given).chain(gate).chain(inherited).chain(self.stdio.descriptors()).collect()
    }
}

/// A process that is to run in a container.
#[derive(Debug)]
pub struct ExecLaunch<'a> {
    /// The container's first process.
    pub init: BorrowedFd<'a>,
    /// Root of the container's user namespace, if it has one.
    pub user: Option<MappedRoot>,
    /// Specification of the container, where its filter is to apply.
    pub spec: Option<&'a Spec>,
    /// The process. Its user is taken as numbers; a `username` other than empty is looked up.
    pub process: &'a Process,
    /// Streams.
    pub stdio: Stdio,
    /// Cgroup of the container.
    pub cgroup: CgroupEntry<'a>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Look-up of groups.
    pub user_lookup: UserLookup,
    /// Descriptors that the program keeps, with consecutive numbers from 3 on.
    pub inherited: Vec<OwnedFd>,
}

impl ExecLaunch<'_> {
    /// All descriptors that it names.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let inherited = self.inherited.iter().map(AsFd::as_fd);
        self.stdio.descriptors().into_iter().chain(inherited).chain([self.init]).collect()
    }
}

/// The namespaces that the containers of a pod share.
#[derive(Debug, Clone, Default)]
pub struct PodPlan {
    /// A network namespace, with its loopback link up.
    pub network: bool,
    /// An IPC namespace.
    pub ipc: bool,
    /// A user namespace, which owns the others.
    pub user: Option<IdMappings>,
    /// A UTS namespace with this host name.
    pub hostname: Option<String>,
    /// Sysctls of these namespaces, dotted or slashed names.
    pub sysctls: BTreeMap<String, String>,
}

/// Namespaces made from a [`PodPlan`]; they live while a descriptor or process does.
#[derive(Debug, Default)]
pub struct PodNamespaces {
    /// Network.
    pub network: Option<OwnedFd>,
    /// IPC.
    pub ipc: Option<OwnedFd>,
    /// UTS.
    pub uts: Option<OwnedFd>,
    /// User.
    pub user: Option<PodUser>,
}

/// The user namespace of a pod.
#[derive(Debug)]
pub struct PodUser {
    /// The namespace.
    pub namespace: OwnedFd,
    /// Its root.
    pub root: MappedRoot,
    /// All its mappings.
    pub mappings: IdMappings,
}

impl PodUser {
    /// For a container or the pause process.
    #[must_use]
    pub fn join(&self) -> UserJoin<'_> {
        UserJoin { namespace: self.namespace.as_fd(), root: self.root, mappings: &self.mappings }
    }
}
