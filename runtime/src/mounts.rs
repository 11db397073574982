//! The mounts of a container. Sources are opened in the host's mount namespace, as detached mounts; later they are attached
//! inside, where the host's paths are gone. Masks, devices and the root itself are left to others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};
use podwright_sys::{MountAttributes, Propagation, clone_tree, set_mount_attributes};
use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use crate::copy_up::copy_up;
use crate::error::{Failure, Step};
use crate::idmap::{self, Mapper};
use crate::launch::IdMappings;
use crate::options::{self, Options};
use crate::propagation;
use crate::root::{self, Root};
use crate::rootfs::{self, Overlay};
use crate::selinux;

pub(crate) mod cgroup;
mod layered;

/// Destinations whose symlinks in an image are refused rather than followed.
const PLAIN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A mount with what it needs from the host.
pub(crate) struct Prepared<'a> {
    destination: &'a Path,
    options: Options,
    source: Source<'a>,
    /// SELinux label for the root of a file system that takes no option for it.
    root_label: Option<String>,
}

enum Source<'a> {
    /// A detached mount, with its attributes set.
    Tree(OwnedFd),
    /// An overlay that has to wait for the private mount namespace; see [`put_together`].
    Overlay(Overlay<'static>),
    /// A file system that is made inside.
    New { kind: &'a str, name: String },
    /// One that is made already, its attributes not set.
    Made(OwnedFd),
    /// The cgroup trees.
    Cgroup(cgroup::Trees),
}

/// What all mounts of a container have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Overlays may be put together detached.
    pub(crate) detached: bool,
    /// It has a cgroup namespace of its own.
    pub(crate) own_cgroup_namespace: bool,
    /// SELinux label of what is made for it.
    pub(crate) label: Option<&'a str>,
}

/// Opens the sources of all mounts. May block for as long as a source does.
pub(crate) fn prepare<'a>(
    mounts: &'a [Mount],
    given: &BTreeMap<PathBuf, BorrowedFd<'_>>,
    way: Way<'_>,
    mapper: &mut Mapper<'_>,
) -> Result<Vec<Prepared<'a>>, Failure> {
    mounts.iter().map(|mount| prepare_one(mount, given, way, mapper)).collect()
}

/// Mounts what could not be made detached. To be called in the private mount namespace, while the host's paths are there.
pub(crate) fn put_together(mounts: &mut [Prepared<'_>]) -> Result<(), Failure> {
    for mount in mounts {
        if let Source::Overlay(overlay) = &mut mount.source {
            let tree = overlay.mount_privately().map_err(|failure| placed(failure, mount.destination))?;
            set_attributes(&tree, &mount.options, mount.destination)?;
            mount.source = Source::Tree(tree);
        }
    }
    Ok(())
}

fn prepare_one<'a>(
    mount: &'a Mount,
    given: &BTreeMap<PathBuf, BorrowedFd<'_>>,
    way: Way<'_>,
    mapper: &mut Mapper<'_>,
) -> Result<Prepared<'a>, Failure> {
    let destination = mount.destination().as_path();
    if !destination.is_absolute() || root::normalized(destination) == Path::new("/") {
        return Err(Failure::because(
            "mount",
            destination.display(),
            "the destination must be an absolute path below /",
        ));
    }
    let mut options = options::parse(mount.options().as_deref().unwrap_or_default());
    let mappings = id_mappings(mount, options.mapped.is_some())?;
    let kind = mount.typ().as_deref().unwrap_or("bind");
    if matches!(kind, "bind" | "rbind" | "none" | "") && options.bind.is_none() {
        options.bind = Some(kind == "rbind");
    }
    if let (Some(_), Some(word)) = (options.bind, options.data.first()) {
        let reason = format!("{word:?} is no option of a bind mount that is known here; leave it out");
        return Err(Failure::because("bind", destination.display(), reason));
    }
    if options.bind.is_none() && kind != "overlay" && mappings.is_some() {
        let reason = "only a bind mount and the overlay of an image can have id mappings";
        return Err(Failure::because("mount", destination.display(), reason));
    }
    let mut root_label = None;
    let source = match options.bind {
        Some(recursive) => {
            let tree = bind_source(mount, given, recursive, &options, way)?;
            if let Some(mappings) = mappings {
                idmap::apply(&tree, mapper.namespace(&mappings)?, options.mapped == Some(true), destination)?;
            }
            Source::Tree(tree)
        }
        None if kind == "overlay" => {
            let mapped_by = mappings.map(|mappings| mapper.owned(&mappings)).transpose()?;
            layered_source(destination, &options, way, mapped_by)?
        }
        None if matches!(kind, "cgroup" | "cgroup2") => Source::Cgroup(cgroup::prepare(way.own_cgroup_namespace)?),
        None => {
            let name = mount.source().as_deref().and_then(Path::to_str).unwrap_or(kind).to_owned();
            if let (Some(label), "tmpfs" | "devpts") = (way.label, kind) {
                options.data.push(format!("context={label}"));
            }
            root_label = way.label.filter(|_| kind == "mqueue").map(str::to_owned);
            Source::New { kind, name }
        }
    };
    Ok(Prepared { destination, options, source, root_label })
}

/// The mappings of one mount. Both kinds or none, or somebody's files would be shown as somebody else's.
fn id_mappings(mount: &Mount, asked: bool) -> Result<Option<IdMappings>, Failure> {
    let of = |list: &Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    let mappings = IdMappings { uids: of(mount.uid_mappings()), gids: of(mount.gid_mappings()) };
    match (mappings.uids.is_empty(), mappings.gids.is_empty()) {
        (true, true) if !asked => Ok(None),
        (false, false) => Ok(Some(mappings)),
        _ => {
            let reason = "it needs mappings of user ids and of group ids, or none of both";
            Err(Failure::because("map the ids of", mount.destination().display(), reason))
        }
    }
}

fn bind_source(
    mount: &Mount,
    given: &BTreeMap<PathBuf, BorrowedFd<'_>>,
    recursive: bool,
    options: &Options,
    way: Way<'_>,
) -> Result<OwnedFd, Failure> {
    let destination = mount.destination();
    let source = mount.source().as_deref().ok_or_else(|| {
        Failure::because("bind", destination.display(), "the mount has no source; give a path of the host")
    })?;
    let tree = match given.get(source) {
        Some(fd) => fd.try_clone_to_owned().step("use the given mount for", || destination.display())?,
        None => {
            options.propagation.map_or(Ok(()), |(wanted, _)| propagation::check(source, wanted))?;
            way.label.filter(|_| options.relabel).map_or(Ok(()), |label| selinux::relabel(source, label))?;
            clone_tree(CWD, source, recursive).step("open the source of a mount,", || source.display())?
        }
    };
    // A clone is a peer of its source where that is shared; whoever did not ask for that gets a private one.
    let propagation = options.propagation.unwrap_or((Propagation::Private, true));
    set_propagation(&tree, propagation, destination)?;
    set_attributes(&tree, options, destination)?;
    Ok(tree)
}

/// Directories that are shown as one: an image that is mounted as a volume.
fn layered_source(
    destination: &Path,
    options: &Options,
    way: Way<'_>,
    mapped_by: Option<OwnedFd>,
) -> Result<Source<'static>, Failure> {
    let directories = layered::directories(&options.data, destination)?;
    let overlay =
        rootfs::prepare_readonly(directories, mapped_by, way).map_err(|failure| placed(failure, destination))?;
    Ok(match overlay {
        rootfs::Prepared::Detached(tree) => {
            set_attributes(&tree, options, destination)?;
            Source::Tree(tree)
        }
        rootfs::Prepared::Later(overlay) => Source::Overlay(overlay),
    })
}

fn set_propagation(tree: &OwnedFd, (propagation, recursive): (Propagation, bool), at: &Path) -> Result<(), Failure> {
    let attributes = MountAttributes { propagation: Some(propagation), recursive, ..MountAttributes::default() };
    set_mount_attributes(tree, &attributes).step("set the propagation of the mount", || at.display())
}

fn set_attributes(mount: &OwnedFd, options: &Options, at: &Path) -> Result<(), Failure> {
    for (change, recursive) in [(options.top, false), (options.tree, true)] {
        if change.is_nothing() {
            continue;
        }
        let attributes =
            MountAttributes { set: change.set, clear: change.clear, recursive, ..MountAttributes::default() };
        let step = if recursive { "set the recursive options of the mount" } else { "set the options of the mount" };
        set_mount_attributes(mount, &attributes).step(step, || at.display())?;
    }
    Ok(())
}

impl Prepared<'_> {
    /// Whether something of the host is to be at `path`.
    pub(crate) fn binds(&self, path: &str) -> bool {
        self.destination == Path::new(path) && matches!(self.source, Source::Tree(_))
    }

    /// Whether what is mounted below it shows up on the host.
    pub(crate) fn hands_back(&self) -> bool {
        matches!(self.options.propagation, Some((Propagation::Shared, _)))
    }

    /// Makes a file system of this kind now and not when it is attached, with these options too.
    pub(crate) fn make(&mut self, wanted: &str, more: &[String]) -> Result<Option<&OwnedFd>, Failure> {
        let Source::New { kind, name } = &self.source else { return Ok(None) };
        if *kind != wanted {
            return Ok(None);
        }
        self.options.data.extend_from_slice(more);
        let mount =
            new_file_system(kind, name, &self.options.data).map_err(|failure| placed(failure, self.destination))?;
        self.source = Source::Made(mount);
        Ok(match &self.source {
            Source::Made(mount) => Some(mount),
            Source::Tree(_) | Source::Overlay(_) | Source::New { .. } | Source::Cgroup(_) => None,
        })
    }

    /// What was opened or put together for it, with its attributes; `None` if it is made inside.
    pub(crate) fn into_tree(self) -> Option<OwnedFd> {
        match self.source {
            Source::Tree(tree) => Some(tree),
            Source::Overlay(_) | Source::New { .. } | Source::Made(_) | Source::Cgroup(_) => None,
        }
    }

    /// Where it is to be.
    pub(crate) fn destination(&self) -> &Path {
        self.destination
    }

    /// Attaches the mount below `root`.
    pub(crate) fn attach(self, root: &Root) -> Result<(), Failure> {
        let at = self.destination;
        if PLAIN.iter().any(|plain| Path::new(plain) == at) {
            root.refuse_symlink(at)?;
        }
        match self.source {
            Source::Tree(tree) => {
                let directory = root::is_directory(&tree).step("look at the source of", || at.display())?;
                attach_tree(root, &tree, at, directory)
            }
            Source::Overlay(_) => Err(Failure::because("mount", at.display(), "its directories were not put together")),
            Source::New { kind, name } => {
                let mount = new_file_system(kind, &name, &self.options.data).map_err(|failure| placed(failure, at))?;
                self.root_label.map_or(Ok(()), |label| selinux::label_root(&mount, &label, at))?;
                attach_new(root, &mount, at, &self.options)
            }
            Source::Made(mount) => attach_new(root, &mount, at, &self.options),
            Source::Cgroup(trees) => trees.attach(root, at, &self.options),
        }
    }
}

fn attach_new(root: &Root, mount: &OwnedFd, at: &Path, options: &Options) -> Result<(), Failure> {
    if options.copy_up {
        copy_up(root, at, mount)?;
    }
    set_attributes(mount, options, at)?;
    attach_tree(root, mount, at, true)?;
    // Propagation is a matter of where a mount is, so it comes after.
    options.propagation.map_or(Ok(()), |propagation| set_propagation(mount, propagation, at))
}

fn placed(mut failure: Failure, at: &Path) -> Failure {
    failure.text = format!("{} (for {})", failure.text, at.display());
    failure
}

/// Puts a detached mount where `at` is, which is made if missing.
pub(crate) fn attach_tree(root: &Root, tree: &OwnedFd, at: &Path, directory: bool) -> Result<(), Failure> {
    let target = if directory { root.ensure_directory(at, Mode::from_raw_mode(0o755))? } else { root.ensure_file(at)? };
    move_onto(tree, &target).step("mount on", || at.display())
}

/// Attaches a detached mount to what `target` refers to. No path is resolved.
pub(crate) fn move_onto(tree: impl AsFd, target: impl AsFd) -> Result<(), podwright_sys::Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// A new file system as a detached mount.
pub(crate) fn new_file_system(kind: &str, name: &str, data: &[String]) -> Result<OwnedFd, Failure> {
    let what = || format!("a file system of type {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).step("open", what)?;
    fsconfig_set_string(&context, "source", name).step("name", what)?;
    for option in data {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, option.as_str()),
        }
        .step("give a mount option to", || format!("{}: {option}", what()))?;
    }
    fsconfig_create(&context).step("make", what)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).step("mount", what)
}
