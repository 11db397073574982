//! The processes of a cgroup: listing, signalling, freezing, killing.

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::Cgroup;
use crate::{Error, Hierarchy, files};

/// How often the processes of a cgroup that has no kill file are listed and killed; each round kills all that it saw.
const MAX_KILL_ROUNDS: usize = 64;

impl Cgroup {
    /// Its processes and those of all cgroups below; none if it does not exist.
    ///
    /// # Errors
    /// If a list can not be read.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = Vec::new();
        // A privileged container can leave one hierarchy, hardly all.
        for top in self.directories() {
            for directory in files::tree(&top)? {
                pids.extend(files::pids(&directory)?);
            }
        }
        pids.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        pids.dedup();
        Ok(pids)
    }

    /// Sends a signal to all processes in it and below. One that forks meanwhile may be missed; see [`Self::kill_all`].
    ///
    /// # Errors
    /// If a list can not be read.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        for pid in self.processes()? {
            // Gone already is as good.
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// As [`Self::signal_all`] for any signal, by its number.
    ///
    /// # Errors
    /// As there.
    pub fn signal_all_by_number(&self, number: i32) -> Result<(), Error> {
        for pid in self.processes()? {
            let _ = podwright_sys::signal_process(pid, number);
        }
        Ok(())
    }

    /// Sends SIGKILL to all processes in it and below, frozen ones too. They may take a moment to end. Absent is success.
    ///
    /// # Errors
    /// If its files refuse, or new processes appear faster than they can be killed. With v1 also if the caller is in it.
    pub fn kill_all(&self) -> Result<(), Error> {
        if let Hierarchy::V2(root) = &self.hierarchy {
            let kill = root.join(&self.relative).join("cgroup.kill");
            if files::write_if_there(&kill, "1")? || !self.exists() {
                return Ok(());
            }
        }
        let mut killed: Vec<Pid> = Vec::new();
        for _ in 0..MAX_KILL_ROUNDS {
            // Signals of the round before are acted upon, and what a fork hid from its list shows now.
            let before = killed;
            killed = self.kill_round(&before)?;
            if killed
                .iter()
                .all(|pid| before.binary_search_by_key(&pid.as_raw_nonzero(), |p| p.as_raw_nonzero()).is_ok())
            {
                return Ok(());
            }
        }
        Err(Error::Busy { path: self.path(), processes: self.processes()?.len() })
    }

    /// A frozen process can not fork away from the list, and dies when it is thawed.
    fn kill_round(&self, before: &[Pid]) -> Result<Vec<Pid>, Error> {
        if self.processes()?.contains(&getpid()) {
            let path = self.path();
            return Err(Error::Invalid(format!(
                "cgroup {path} can not be killed by a process in it; let it leave first"
            )));
        }
        if self.set_frozen(true).is_err() && !before.is_empty() {
            self.forbid_forks();
        }
        let pids = self.processes();
        for pid in pids.iter().flatten() {
            let _ = kill_process(*pid, Signal::KILL);
        }
        self.thaw_tree()?;
        pids
    }

    /// Best effort, for hosts without a freezer.
    fn forbid_forks(&self) {
        if let Some(directory) = self.directory("pids") {
            let _ = files::write(&directory.join("pids.max"), "0");
        }
    }

    /// Containers with cgroups of their own may have frozen some of them.
    fn thaw_tree(&self) -> Result<(), Error> {
        let (file, value) = self.freezer(false);
        let Some(top) = self.directory("freezer") else { return Ok(()) };
        for directory in files::tree(&top)? {
            files::write_if_there(&directory.join(file), value)?;
        }
        Ok(())
    }

    /// Freezes or thaws all processes in it. Freezing is complete a moment after.
    ///
    /// # Errors
    /// If it does not exist or there is no freezer.
    pub fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let directory = self
            .directory("freezer")
            .ok_or_else(|| Error::NoController { controller: "freezer", limit: "freezing".to_owned() })?;
        let (file, value) = self.freezer(frozen);
        files::write(&directory.join(file), value)
    }

    /// Whether all its processes are frozen. `false` without a freezer.
    ///
    /// # Errors
    /// If the file can not be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let Some(directory) = self.directory("freezer") else { return Ok(false) };
        match &self.hierarchy {
            Hierarchy::V1(_) => Ok(files::read(&directory.join("freezer.state"))?.trim() == "FROZEN"),
            Hierarchy::V2(_) => {
                let events = files::read(&directory.join("cgroup.events"))?;
                Ok(files::keyed_number(&events, "frozen") == Some(1))
            }
        }
    }

    fn freezer(&self, frozen: bool) -> (&'static str, &'static str) {
        match (&self.hierarchy, frozen) {
            (Hierarchy::V1(_), true) => ("freezer.state", "FROZEN"),
            (Hierarchy::V1(_), false) => ("freezer.state", "THAWED"),
            (Hierarchy::V2(_), true) => ("cgroup.freeze", "1"),
            (Hierarchy::V2(_), false) => ("cgroup.freeze", "0"),
        }
    }
}
