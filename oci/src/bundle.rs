//! A bundle: config.json with what the library does not look at checked, and what it says about places.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroupBuilder, LinuxResources, Process, Spec};
use podwright_cgroups::{Cgroup, Hierarchy};

use crate::launch::Cgroups;

/// Largest config.json, in bytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// Parent of cgroups whose config.json names none.
const DEFAULT_PARENT: &str = "/podwright-oci";

/// A bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute path.
    pub(crate) directory: PathBuf,
    /// As it was read.
    pub(crate) text: Vec<u8>,
    /// What it means.
    pub(crate) spec: Spec,
}

impl Bundle {
    /// Reads config.json.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory).context("finding the bundle")?;
        let path = directory.join("config.json");
        let size = std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
        if size > MAX_CONFIG_BYTES {
            bail!("{} is larger than {MAX_CONFIG_BYTES} bytes", path.display());
        }
        let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut spec: Spec =
            serde_json::from_slice(&text).with_context(|| format!("understanding {}", path.display()))?;
        check(&spec)?;
        tidy(&mut spec, &directory);
        Ok(Self { directory, text, spec })
    }

    /// Absolute path of the root file system.
    pub(crate) fn rootfs(&self) -> Result<PathBuf> {
        let root = self.spec.root().as_ref().context("config.json has no root.path")?;
        let path = self.directory.join(root.path());
        // Hooks see it mounted there, and a mount follows no link.
        let path = path.canonicalize().with_context(|| format!("root.path of config.json: {}", path.display()))?;
        match path.is_dir() {
            true => Ok(path),
            false => bail!("root.path of config.json: {} is no directory", path.display()),
        }
    }

    /// The cgroup of the container.
    pub(crate) fn cgroup(&self, id: &str, cgroups: Cgroups) -> Result<Cgroup> {
        let asked = self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
        let asked = asked.map(|path| path.display().to_string()).filter(|path| !path.is_empty());
        if cgroups == Cgroups::Systemd {
            bail!(
                "--systemd-cgroup is not supported by podwright-oci yet: it would have to ask systemd for the scope {:?}; \
                 use cgroupfs (podman: --cgroup-manager cgroupfs; containerd: SystemdCgroup = false)",
                asked.unwrap_or_default()
            );
        }
        let path = match asked {
            None => format!("{DEFAULT_PARENT}/{id}"),
            Some(path) if path.starts_with('/') => path,
            Some(path) => format!("/{path}"),
        };
        Hierarchy::detect()?.cgroup(&path).with_context(|| format!("naming the cgroup {path:?} of config.json"))
    }

    /// Its limits. Devices that are not named are denied, whether or not there is a list.
    pub(crate) fn resources(&self) -> Result<LinuxResources> {
        let linux = self.spec.linux().as_ref();
        let mut resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
        if resources.devices().as_ref().is_none_or(Vec::is_empty) {
            let none = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
            resources.set_devices(Some(vec![none]));
        }
        Ok(resources)
    }
}

fn check(spec: &Spec) -> Result<()> {
    let version = spec.version();
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    if !matches!((numbers.next(), numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(_)), Some(Ok(_)))) {
        bail!("ociVersion {version:?} of config.json is not 1.x.y, which is what podwright-oci knows");
    }
    if spec.linux().is_none() {
        bail!("config.json has no `linux`: it is not for a Linux container");
    }
    Ok(())
}

fn tidy(spec: &mut Spec, bundle: &Path) {
    if let Some(mut process) = spec.process().clone() {
        tidy_process(&mut process);
        spec.set_process(Some(process));
    }
    let Some(mut mounts) = spec.mounts().clone() else { return };
    for mount in &mut mounts {
        let bound = mount.typ().as_deref().is_none_or(|kind| matches!(kind, "bind" | "rbind" | "none" | ""))
            || mount.options().iter().flatten().any(|option| matches!(option.as_str(), "bind" | "rbind"));
        let relative =
            mount.source().as_ref().filter(|source| bound && source.is_relative()).map(|source| bundle.join(source));
        if let Some(absolute) = relative {
            mount.set_source(Some(absolute));
        }
        // Early drafts and some tools leave the slash out.
        if mount.destination().is_relative() {
            mount.set_destination(Path::new("/").join(mount.destination()));
        }
    }
    spec.set_mounts(Some(mounts));
}

/// `user.username` is of Windows; the library would look it up.
pub(crate) fn tidy_process(process: &mut Process) {
    let mut user = process.user().clone();
    user.set_username(None);
    process.set_user(user);
}
