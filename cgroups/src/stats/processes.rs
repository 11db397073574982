//! How many processes a cgroup has.

use super::Stats;
use crate::{Cgroup, Error};

impl Cgroup {
    /// Processes of it and of all cgroups below, given what was read of it: the list is looked at only where there is more
    /// than one thread, because v1 sorts it anew each time.
    ///
    /// # Errors
    /// If a list can not be read.
    pub fn process_count(&self, stats: &Stats) -> Result<u64, Error> {
        match stats.tasks {
            Some(tasks @ 0..=1) => Ok(tasks),
            Some(_) | None => {
                // A process is in all hierarchies; one suffices to count it.
                let directory = ["pids", "cpuacct", "memory"].iter().find_map(|controller| self.directory(controller));
                let Some(directory) = directory else { return Ok(0) };
                let mut count = 0;
                for directory in crate::files::tree(&directory)? {
                    count += crate::files::pids(&directory)?.len();
                }
                Ok(u64::try_from(count).unwrap_or(u64::MAX))
            }
        }
    }
}
