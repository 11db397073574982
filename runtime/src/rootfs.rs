//! A container's root file system as a detached mount, put together from a [`RootfsPlan`]. Attaching it is left to others.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use podwright_sys::{Errno, MountAttributes, Propagation, clone_tree, set_mount_attributes};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, mount, unmount,
};

use crate::error::{Failure, Step};
use crate::launch::{MappedRoot, RootfsPlan, UserJoin};
use crate::mounts::Way;
use crate::options::Change;
use crate::{idmap, kernel};

/// Longest value that fsconfig(2) takes, in bytes.
const MAX_VALUE_BYTES: usize = 255;
/// Longest option string of mount(2): one page.
const MAX_OPTIONS_BYTES: usize = 4095;

/// Lower directories and the writable ones of an overlay.
pub(crate) struct Overlay<'a> {
    layers: Cow<'a, [PathBuf]>,
    writable: Option<(PathBuf, PathBuf)>,
    detached: bool,
    /// User namespace whose mapping the layers get.
    mapped_by: Option<OwnedFd>,
    /// SELinux label of all files that it shows.
    label: Option<String>,
}

/// What became of a plan in the host's mount namespace.
pub(crate) enum Prepared<'a> {
    /// A detached mount.
    Detached(OwnedFd),
    /// To be mounted in a private mount namespace: the kernel can not do it detached (no `lowerdir+`, before 6.8), or the layers are
    /// to be mapped.
    Later(Overlay<'a>),
}

/// Makes the mount detached, or says that it has to wait.
pub(crate) fn prepare<'a>(
    plan: &'a RootfsPlan,
    user: Option<&UserJoin<'a>>,
    way: Way<'_>,
) -> Result<Prepared<'a>, Failure> {
    let (layers, writable) = match plan {
        RootfsPlan::Directory(path) => return mapped(clone(path, true)?, true, user, path),
        RootfsPlan::Owned(path) => return clone(path, true).map(Prepared::Detached),
        RootfsPlan::Layers { layers, writable } => (layers.as_slice(), writable.as_deref()),
    };
    let writable = writable.map(|directory| make_writable(directory, user.map(|user| user.root))).transpose()?;
    match (layers, &writable) {
        ([], None) => return Err(Failure::because("mount", "the root file system", "the image has no layer")),
        ([], Some((upper, _))) => return clone(upper, false).map(Prepared::Detached),
        ([only], None) => return mapped(clone_readonly(only)?, false, user, only),
        _ => {}
    }
    let mapped_by = user.map(|user| user.namespace.try_clone_to_owned()).transpose();
    let mapped_by = mapped_by.step("keep", || "the pod's user namespace")?;
    Overlay { layers: layers.into(), writable, mapped_by, detached: false, label: way.label.map(str::to_owned) }
        .prepare(way)
}

/// An overlay of at least two directories that nothing can write to, the topmost first.
pub(crate) fn prepare_readonly(
    directories: Vec<PathBuf>,
    mapped_by: Option<OwnedFd>,
    way: Way<'_>,
) -> Result<Prepared<'static>, Failure> {
    Overlay {
        layers: directories.into(),
        writable: None,
        mapped_by,
        detached: false,
        label: way.label.map(str::to_owned),
    }
    .prepare(way)
}

fn mapped<'a>(
    tree: OwnedFd,
    recursive: bool,
    user: Option<&UserJoin<'_>>,
    path: &Path,
) -> Result<Prepared<'a>, Failure> {
    user.map_or(Ok(()), |user| idmap::apply(&tree, user.namespace, recursive, path))?;
    Ok(Prepared::Detached(tree))
}

fn clone(path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let tree = clone_tree(CWD, path, recursive).step("clone the mount of", || path.display())?;
    let attributes =
        MountAttributes { propagation: Some(Propagation::Private), recursive, ..MountAttributes::default() };
    set_mount_attributes(&tree, &attributes).step("make private", || path.display())?;
    Ok(tree)
}

fn clone_readonly(path: &Path) -> Result<OwnedFd, Failure> {
    let tree = clone(path, false)?;
    let attributes = MountAttributes { set: Change::READONLY.set, ..MountAttributes::default() };
    set_mount_attributes(&tree, &attributes).step("make read-only", || path.display())?;
    Ok(tree)
}

/// What the container writes belongs to its root, on disk too.
fn make_writable(directory: &Path, root: Option<MappedRoot>) -> Result<(PathBuf, PathBuf), Failure> {
    let (upper, work) = (directory.join("upper"), directory.join("work"));
    for (path, mode) in [(&upper, 0o755), (&work, 0o700)] {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure::errno("make the directory", path.display(), errno)),
        }
        if let Some(root) = root {
            rustix::fs::chown(path, Some(Uid::from_raw(root.uid)), Some(Gid::from_raw(root.gid)))
                .step("change the owner of", || path.display())?;
        }
    }
    Ok((upper, work))
}

impl<'a> Overlay<'a> {
    fn prepare(mut self, way: Way<'_>) -> Result<Prepared<'a>, Failure> {
        // An older kernel takes `lowerdir+` until the very end, and complains then in its log.
        self.detached = way.detached && kernel::is_at_least(6, 8);
        if !self.detached || self.mapped_by.is_some() {
            return Ok(Prepared::Later(self));
        }
        self.mount_detached().map(Prepared::Detached)
    }

    fn mount_detached(&self) -> Result<OwnedFd, Failure> {
        let what = || "the overlay of the image's layers";
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step("open the file system of", what)?;
        let set = |key: &str, value: &str| fsconfig_set_string(&context, key, value);
        set("source", "overlay").step("name", what)?;
        let mut held = Vec::new();
        for layer in self.layers.iter() {
            set("lowerdir+", &short(layer, &mut held)?).step("add the layer", || layer.display())?;
        }
        if let Some((upper, work)) = &self.writable {
            set("upperdir", &short(upper, &mut held)?).step("use", || upper.display())?;
            set("workdir", &short(work, &mut held)?).step("use", || work.display())?;
        }
        set("index", "off").step("set index=off of", what)?;
        self.label.as_deref().map_or(Ok(()), |label| set("context", label)).step("label", what)?;
        fsconfig_create(&context).map_err(|errno| self.explain(errno, &context))?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).step("mount", what)
    }

    /// The kernel's own words, which it leaves in the context.
    fn explain(&self, errno: Errno, context: &OwnedFd) -> Failure {
        let mut words = [0; 1024];
        let words = match rustix::io::read(context, &mut words) {
            Ok(length) => String::from_utf8_lossy(words.get(..length).unwrap_or_default()).trim().to_owned(),
            Err(_) => format!("no more is told; are all {} layers there?", self.layers.len()),
        };
        let reason = format_args!("{} ({words})", std::io::Error::from(errno)).to_string();
        Failure {
            errno: errno.raw_os_error(),
            ..Failure::because("mount", "the overlay of the image's layers", reason)
        }
    }

    /// Makes the mount in a mount namespace that is private already.
    pub(crate) fn mount_privately(&mut self) -> Result<OwnedFd, Failure> {
        let Some(namespace) = self.mapped_by.take() else { return self.mount() };
        let mut held = Vec::new();
        // What is written is not mapped; it may lie below what gets covered.
        if let Some((upper, work)) = &mut self.writable {
            *upper = by_descriptor(upper, &mut held)?.into();
            *work = by_descriptor(work, &mut held)?.into();
        }
        let covered = idmap::cover(&self.layers, namespace.as_fd())?;
        let mount = self.mount();
        covered.uncover()?;
        mount
    }

    fn mount(&self) -> Result<OwnedFd, Failure> {
        if self.detached { self.mount_detached() } else { self.mount_attached() }
    }

    /// Mounts by mount(2) for a moment, and detaches a clone.
    fn mount_attached(&self) -> Result<OwnedFd, Failure> {
        let what = || "the overlay of the image's layers";
        let mut held = Vec::new();
        let mut through = |path: &Path| -> Result<String, Failure> { by_descriptor(path, &mut held) };
        let layers = self.layers.iter().map(|layer| through(layer)).collect::<Result<Vec<_>, _>>()?.join(":");
        let mut options = format!("lowerdir={layers},index=off");
        if let Some((upper, work)) = &self.writable {
            options.push_str(&format!(",upperdir={},workdir={}", through(upper)?, through(work)?));
        }
        if let Some(label) = &self.label {
            // Quoted, as a level has commas.
            options.push_str(&format!(",context=\"{label}\""));
        }
        if options.len() > MAX_OPTIONS_BYTES {
            let reason = format!(
                "{} layers do not fit the one page that mount(2) takes; use Linux 6.8 or later",
                self.layers.len()
            );
            return Err(Failure::because("mount", what(), reason));
        }
        let options = std::ffi::CString::new(options)
            .map_err(|_| Failure::because("mount", what(), "a path holds a NUL byte"))?;
        let place = self.layers.first().map_or(Path::new("/"), PathBuf::as_path);
        mount("overlay", place, "overlay", MountFlags::empty(), Some(options.as_c_str())).step("mount", what)?;
        let tree = clone_tree(CWD, place, false).step("detach", what);
        unmount(place, UnmountFlags::DETACH).step("unmount", what)?;
        tree
    }
}

/// The path, or one through a descriptor where the path is too long for fsconfig(2).
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String, Failure> {
    match path.to_str() {
        Some(text) if text.len() <= MAX_VALUE_BYTES => Ok(text.to_owned()),
        _ => by_descriptor(path, held),
    }
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> Result<String, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).step("open", || path.display())?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    held.push(fd);
    Ok(name)
}
