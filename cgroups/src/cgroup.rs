//! One cgroup, whichever version the host has.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Hierarchy, files, v1, v2};

/// How often the processes of a cgroup that has no kill file are listed and killed; each round kills all that it saw.
const MAX_KILL_ROUNDS: usize = 64;

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
    /// If a directory can not be made.
    pub fn create(&self) -> Result<(), Error> {
        match &self.hierarchy {
            Hierarchy::V1(mounts) => v1::create(mounts, &self.relative),
            Hierarchy::V2(root) => v2::create(root, &self.relative),
        }
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
            Hierarchy::V1(_) => self.directories().iter().try_for_each(|d| files::write(&d.join("tasks"), "0")),
            Hierarchy::V2(root) => files::write(&root.join(&self.relative).join("cgroup.procs"), "0"),
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
            Err(cause) => Err(Error::File { step: "open".to_owned(), path, cause }),
        }
    }

    /// Its processes and those of all cgroups below; none if it does not exist.
    ///
    /// # Errors
    /// If a list can not be read.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = Vec::new();
        for top in self.directories() {
            for directory in files::tree(&top)? {
                pids.extend(files::pids(&directory)?);
            }
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to all processes in it and below. They may take a moment to end. Absent is success.
    ///
    /// # Errors
    /// If its files refuse, or new processes appear faster than they can be killed.
    pub fn kill_all(&self) -> Result<(), Error> {
        if let Hierarchy::V2(root) = &self.hierarchy {
            let kill = root.join(&self.relative).join("cgroup.kill");
            if files::write_if_there(&kill, "1")? || !self.exists() {
                return Ok(());
            }
        }
        // A frozen process can not fork away from the list; it dies when it is thawed.
        let frozen = self.set_frozen(true).is_ok();
        let result = self.kill_listed(frozen);
        if frozen && self.exists() {
            self.set_frozen(false)?;
        }
        result
    }

    fn kill_listed(&self, frozen: bool) -> Result<(), Error> {
        let mut killed: Vec<Pid> = Vec::new();
        for _ in 0..MAX_KILL_ROUNDS {
            let pids = self.processes()?;
            let fresh = pids.iter().filter(|pid| !killed.contains(pid)).count();
            for pid in &pids {
                // Gone already is as good.
                let _ = kill_process(*pid, Signal::KILL);
            }
            if fresh == 0 || frozen {
                return Ok(());
            }
            killed = pids;
        }
        Err(Error::Busy { path: self.path(), processes: self.processes()?.len() })
    }

    /// Freezes or thaws all processes in it. Freezing is complete a moment after.
    ///
    /// # Errors
    /// If it does not exist or there is no freezer.
    pub fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        match &self.hierarchy {
            Hierarchy::V1(_) => {
                let directory = self
                    .directory("freezer")
                    .ok_or(Error::NoController { controller: "freezer", limit: "freezing".to_owned() })?;
                files::write(&directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
            }
            Hierarchy::V2(root) => {
                files::write(&root.join(&self.relative).join("cgroup.freeze"), if frozen { "1" } else { "0" })
            }
        }
    }

    /// How many processes of it the kernel killed for want of memory.
    ///
    /// # Errors
    /// If the memory controller's file can not be read.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(directory) = self.directory("memory") else { return Ok(0) };
        let name = if self.hierarchy.is_v2() { "memory.events" } else { "memory.oom_control" };
        files::read(&directory.join(name)).map(|text| files::keyed_number(&text, "oom_kill").unwrap_or(0))
    }

    /// Removes it and all cgroups below, in every hierarchy. Absent is success.
    ///
    /// # Errors
    /// `Busy` while processes are in it.
    pub fn remove(&self) -> Result<(), Error> {
        let mut first = None;
        for top in self.directories() {
            for directory in files::tree(&top)? {
                if let Err(error) = files::remove_directory(&directory) {
                    first.get_or_insert(error);
                }
            }
        }
        let Some(error) = first else { return Ok(()) };
        match self.processes()?.len() {
            0 => Err(error),
            processes => Err(Error::Busy { path: self.path(), processes }),
        }
    }
}

#[cfg(test)]
mod tests;
