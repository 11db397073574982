//! The namespaces that config.json lists: new ones, or those of a path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Spec};
use podwright_runtime::{
    IdMappings, Namespace, Namespaces, PodNamespaces, PodPlan, PodUser, UserJoin, make_namespaces, make_namespaces_in,
};
use rustix::fs::{Mode, OFlags};

/// What a list says about one kind.
#[derive(Debug, Default)]
enum Choice {
    /// It is not listed.
    #[default]
    Callers,
    New,
    Joined(OwnedFd),
}

impl Choice {
    fn of(list: &[LinuxNamespace], kind: LinuxNamespaceType) -> Result<Self> {
        let mut named = list.iter().filter(|one| one.typ() == kind);
        let Some(first) = named.next() else { return Ok(Self::Callers) };
        if named.next().is_some() {
            bail!("config.json lists the namespace {kind:?} twice");
        }
        match first.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
            None => Ok(Self::New),
            Some(path) => open(path).map(Self::Joined),
        }
    }

    fn is_new(&self) -> bool {
        matches!(self, Self::New)
    }

    fn borrow(&self) -> Namespace<'_> {
        match self {
            Self::Callers => Namespace::Host,
            Self::New => Namespace::New,
            Self::Joined(fd) => Namespace::Join(fd.as_fd()),
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening the namespace {}", path.display()))
}

/// The namespaces of a container, held until it was cloned.
#[derive(Debug)]
pub(crate) struct Held {
    network: Choice,
    ipc: Choice,
    uts: Choice,
    pid: Choice,
    cgroup: Choice,
    user: Option<PodUser>,
}

impl Held {
    /// Opens and makes what has to be there before the clone.
    pub(crate) fn prepare(spec: &Spec) -> Result<Self> {
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
        let of = |kind| Choice::of(&list, kind);
        if !of(LinuxNamespaceType::Mount)?.is_new() {
            bail!(
                "podwright-oci always makes a new mount namespace: config.json must list one of type mount, without a path"
            );
        }
        if !matches!(of(LinuxNamespaceType::Time)?, Choice::Callers) {
            bail!("podwright-oci does not support time namespaces; take the namespace of type time out of config.json");
        }
        let mut held = Self {
            network: of(LinuxNamespaceType::Network)?,
            ipc: of(LinuxNamespaceType::Ipc)?,
            uts: of(LinuxNamespaceType::Uts)?,
            pid: of(LinuxNamespaceType::Pid)?,
            cgroup: of(LinuxNamespaceType::Cgroup)?,
            user: None,
        };
        match of(LinuxNamespaceType::User)? {
            Choice::Callers => {}
            Choice::New => held.make_with_user(spec, None)?,
            Choice::Joined(namespace) => {
                let path =
                    list.iter().find(|one| one.typ() == LinuxNamespaceType::User).and_then(|one| one.path().clone());
                let mappings = mappings_of(spec, path.as_deref())?;
                let root = mappings.root().context("the user namespace maps no id 0")?;
                held.make_with_user(spec, Some(PodUser { namespace, root, mappings }))?;
            }
        }
        Ok(held)
    }

    /// A user namespace owns the new ones beside it, so they are made from inside.
    fn make_with_user(&mut self, spec: &Spec, user: Option<PodUser>) -> Result<()> {
        let own_name = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let plan = PodPlan {
            network: self.network.is_new(),
            ipc: self.ipc.is_new(),
            user: if user.is_some() { None } else { Some(mappings(spec)?) },
            hostname: self.uts.is_new().then(|| spec.hostname().clone().unwrap_or_else(own_name)),
            sysctls: std::collections::BTreeMap::new(),
        };
        let made = match user {
            Some(user) => make_namespaces_in(user, &plan)?,
            None => make_namespaces(&plan)?,
        };
        let PodNamespaces { network, ipc, uts, user } = made;
        for (place, made) in [(&mut self.network, network), (&mut self.ipc, ipc), (&mut self.uts, uts)] {
            if let Some(made) = made {
                *place = Choice::Joined(made);
            }
        }
        self.user = user;
        Ok(())
    }

    /// As the library takes them.
    pub(crate) fn borrow(&self) -> Namespaces<'_> {
        Namespaces {
            network: self.network.borrow(),
            ipc: self.ipc.borrow(),
            uts: self.uts.borrow(),
            pid: self.pid.borrow(),
            user: self.user(),
            cgroup: self.cgroup.borrow(),
        }
    }

    /// Its user namespace.
    pub(crate) fn user(&self) -> Option<UserJoin<'_>> {
        self.user.as_ref().map(PodUser::join)
    }

    /// Whether the end of the first process is the end of all others.
    pub(crate) fn own_processes(&self) -> bool {
        self.pid.is_new()
    }
}

fn mappings(spec: &Spec) -> Result<IdMappings> {
    let linux = spec.linux().as_ref().context("config.json has no `linux`")?;
    let (uids, gids) = (linux.uid_mappings().clone(), linux.gid_mappings().clone());
    match (uids, gids) {
        (Some(uids), Some(gids)) if !uids.is_empty() && !gids.is_empty() => Ok(IdMappings { uids, gids }),
        _ => bail!("a new user namespace needs linux.uidMappings and linux.gidMappings in config.json"),
    }
}

/// Those of config.json, or of the process whose namespace is to be joined.
fn mappings_of(spec: &Spec, path: Option<&Path>) -> Result<IdMappings> {
    if let Ok(given) = mappings(spec) {
        return Ok(given);
    }
    let process = path.and_then(|path| path.parent()).and_then(Path::parent);
    let process = process.filter(|process| process.starts_with("/proc")).context(
        "a user namespace that is joined by a path outside of /proc needs linux.uidMappings and linux.gidMappings in config.json",
    )?;
    let read = |name: &str| -> Result<_> {
        let path = process.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.lines().map(range).collect::<Result<Vec<_>>>()
    };
    Ok(IdMappings { uids: read("uid_map")?, gids: read("gid_map")? })
}

fn range(line: &str) -> Result<oci_spec::runtime::LinuxIdMapping> {
    let numbers: Vec<u32> =
        line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().context("reading a mapping")?;
    let [inside, outside, size] = numbers.as_slice() else { bail!("{line:?} is no mapping of ids") };
    Ok(LinuxIdMappingBuilder::default().container_id(*inside).host_id(*outside).size(*size).build()?)
}
