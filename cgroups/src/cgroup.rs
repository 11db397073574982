//! One cgroup, whichever version the host has: the handle, making it, limiting it, entering it. Its processes and its end are
//! in the modules below.

mod processes;
mod remove;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

use crate::{Details, Error, Hierarchy, Reader, Stats, files, v1, v2};

/// A handle for one cgroup. It owns nothing: dropping it leaves the cgroup as it is.
#[derive(Debug, Clone)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    /// Relative to the root, without slashes at the ends.
    relative: String,
}

impl Cgroup {
    pub(crate) fn new(hierarchy: Hierarchy, path: &str) -> Result<Self, Error> {
        let relative = path.strip_prefix('/').unwrap_or_default().trim_end_matches('/');
        let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.chars().any(char::is_control);
        if relative.split('/').any(bad) {
            return Err(Error::Invalid(format!("{path:?} is no cgroup path; it must look like /a/b")));
        }
        Ok(Self { hierarchy, relative: relative.to_owned() })
    }

    /// Its path, as `/a/b`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.relative)
    }

    /// The version's tree or trees.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The cgroup above it; `None` below the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.relative.rsplit_once('/')?;
        Some(Self { hierarchy: self.hierarchy.clone(), relative: parent.to_owned() })
    }

    /// Its directory under `controller`; with v2 always the same. `None` if v1 lacks the controller.
    #[must_use]
    pub fn directory(&self, controller: &str) -> Option<PathBuf> {
        match &self.hierarchy {
            Hierarchy::V1(mounts) => mounts.iter().find(|m| m.has(controller)).map(|m| m.directory(&self.relative)),
            Hierarchy::V2(root) => Some(root.join(&self.relative)),
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        match &self.hierarchy {
            Hierarchy::V1(mounts) => mounts.iter().map(|m| m.directory(&self.relative)).collect(),
            Hierarchy::V2(root) => vec![root.join(&self.relative)],
        }
    }

    /// Makes it and those above it; with v2 their controllers are enabled for it. One that exists is success.
    ///
    /// # Errors
    /// If a directory can not be made; none is left over then.
    pub fn create(&self) -> Result<(), Error> {
        let mut made = Vec::new();
        let result = match &self.hierarchy {
            Hierarchy::V1(mounts) => v1::create(mounts, &self.relative, &mut made),
            Hierarchy::V2(root) => v2::create(root, &self.relative, &mut made),
        };
        if result.is_err() {
            unmake(&made);
        }
        result
    }

    /// Makes it and puts the calling process in, as [`Self::create`] and [`Self::join`] do, for a process without limits of its own,
    /// which is to be found and killed by it. With v1 it is made for the controllers that do this alone; by the others the process is
    /// counted in the cgroup above.
    ///
    /// # Errors
    /// If a directory can not be made, or not be joined.
    pub fn enter_unlimited(&self) -> Result<(), Error> {
        let Hierarchy::V1(mounts) = &self.hierarchy else { return self.create().and_then(|()| self.join()) };
        let mut made = Vec::new();
        let directories = v1::create_to_hold(mounts, &self.relative, &mut made).inspect_err(|_| unmake(&made))?;
        directories.iter().try_for_each(|directory| files::enter(&directory.join("tasks")))
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|directory| directory.is_dir())
    }

    /// Writes limits to the new cgroup, its device rules included; the devices that every container has are added to rules
    /// that begin by denying all.
    ///
    /// # Errors
    /// If the kernel refuses one, or a controller for it is missing.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.update(resources)?;
        let Some(rules) = resources.devices() else { return Ok(()) };
        match &self.hierarchy {
            Hierarchy::V1(_) => v1::apply_devices(self, rules),
            Hierarchy::V2(root) => v2::apply_devices(&root.join(&self.relative), rules),
        }
    }

    /// Writes the limits that `resources` holds, all but device rules.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        match &self.hierarchy {
            Hierarchy::V1(_) => v1::update(self, resources),
            Hierarchy::V2(root) => v2::update(&root.join(&self.relative), resources),
        }
    }

    /// Puts the calling process in, which must have one thread. With v1 this writes `tasks`, which unlike `cgroup.procs` does
    /// not wait for a grace period.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn join(&self) -> Result<(), Error> {
        match &self.hierarchy {
            Hierarchy::V1(_) => self.directories().iter().try_for_each(|d| files::enter(&d.join("tasks"))),
            Hierarchy::V2(root) => files::enter(&root.join(&self.relative).join("cgroup.procs")),
        }
    }

    /// Its directory, to start a process in it at once; `None` with v1.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn clone_target(&self) -> Result<Option<OwnedFd>, Error> {
        let Hierarchy::V2(root) = &self.hierarchy else { return Ok(None) };
        let path = root.join(&self.relative);
        match File::open(&path) {
            Ok(directory) => Ok(Some(directory.into())),
            Err(cause) => Err(Error::file("open", &path, cause)),
        }
    }

    /// Puts another process in, with all of its threads. With v1 this costs milliseconds; see [`Self::join`].
    ///
    /// # Errors
    /// If either does not exist.
    pub fn add(&self, pid: Pid) -> Result<(), Error> {
        let pid = pid.as_raw_nonzero().to_string();
        self.directories().iter().try_for_each(|directory| files::write(&directory.join("cgroup.procs"), &pid))
    }

    /// How many processes of it the kernel killed for want of memory; with v2 also those of cgroups below, removed ones too.
    ///
    /// # Errors
    /// If the memory controller's file can not be read.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(directory) = self.directory("memory") else { return Ok(0) };
        let name = if self.hierarchy.is_v2() { "memory.events" } else { "memory.oom_control" };
        match files::read(&directory.join(name)) {
            Ok(text) => Ok(files::keyed_number(&text, "oom_kill").unwrap_or(0)),
            // The cgroup is there, only without the controller.
            Err(error) if error.is_absent() && directory.is_dir() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// What it uses now. What has no controller is `None`.
    ///
    /// # Errors
    /// If it does not exist, or a file can not be read.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.stats_with(&mut Reader::default())
    }

    /// As [`Self::stats`], with a buffer that serves for many.
    ///
    /// # Errors
    /// As [`Self::stats`].
    pub fn stats_with(&self, reader: &mut Reader) -> Result<Stats, Error> {
        Stats::read(self, reader)
    }

    /// What it uses in detail; `page_sizes` are the sizes of huge pages to look for, as `2MB`.
    ///
    /// # Errors
    /// If a file can not be read.
    pub fn details(&self, reader: &mut Reader, page_sizes: &[String]) -> Result<Details, Error> {
        Details::read(self, reader, page_sizes)
    }

    /// Its path without slashes at the ends.
    pub(crate) fn relative(&self) -> &str {
        &self.relative
    }
}

/// Removes what was made. Somebody else may have begun to use one of them; then it stays.
fn unmake(made: &[PathBuf]) {
    made.iter().rev().for_each(|directory| drop(std::fs::remove_dir(directory)));
}

#[cfg(test)]
mod tests;
