//! The end of a cgroup. The kernel refuses while processes are in it, and for a moment after the last of them has ended.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Cgroup;
use crate::{Error, Hierarchy, files};

/// How long the kernel may take to let go of ended processes before [`Cgroup::remove`] gives up.
const LET_GO: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(16);

impl Cgroup {
    /// Removes it and all cgroups below, in every hierarchy. Absent is success. Does not wait for processes.
    ///
    /// # Errors
    /// `Busy` while processes are in it.
    pub fn remove(&self) -> Result<(), Error> {
        let until = Instant::now() + LET_GO;
        loop {
            match self.try_remove() {
                Err(Error::Busy { processes: 0, .. }) if Instant::now() < until => std::thread::sleep(FIRST_PAUSE),
                result => return result,
            }
        }
    }

    /// Like [`Self::remove`], but waits until its processes have ended, `wait` at most. For callers that may block.
    ///
    /// # Errors
    /// `Busy` if there are processes after that time.
    pub fn remove_within(&self, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.try_remove() {
                Err(Error::Busy { .. }) if !left.is_zero() => self.wait_for_exit(pause.min(left), left),
                result => return result,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// v2 tells when the last process is gone; v1 can only be asked again.
    fn wait_for_exit(&self, pause: Duration, left: Duration) {
        let told = match &self.hierarchy {
            Hierarchy::V1(_) => false,
            Hierarchy::V2(root) => await_empty(&root.join(&self.relative), left).unwrap_or(false),
        };
        if !told {
            std::thread::sleep(pause);
        }
    }

    fn try_remove(&self) -> Result<(), Error> {
        let mut first = None;
        for top in self.directories() {
            if let Err(error) = files::remove_tree(&top) {
                first.get_or_insert(error);
            }
        }
        match first {
            None => Ok(()),
            Some(error) if error.errno() == Some(Errno::BUSY) => {
                Err(Error::Busy { path: self.path(), processes: self.processes()?.len() })
            }
            Some(error) => Err(error),
        }
    }
}

/// Waits for a change of `cgroup.events`; `false` if the cgroup was empty already.
fn await_empty(directory: &Path, left: Duration) -> std::io::Result<bool> {
    let mut events = File::open(directory.join("cgroup.events"))?;
    let mut text = String::new();
    events.read_to_string(&mut text)?;
    if files::keyed_number(&text, "populated") != Some(1) {
        return Ok(false);
    }
    let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    Ok(poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout))? > 0)
}
