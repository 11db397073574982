//! The end of a container of another runtime: its `delete`, and what that leaves.

use std::path::PathBuf;
use std::time::Duration;

use podwright_sys::{CloneFlags, Clones, clone_process};
use rustix::process::Pid;

use super::OtherRuntime;
use super::command::{self, Output};
use super::execute::WorkPlace;
use crate::error::Error;

/// Longest wait for a `delete`: nothing of the container lives, and who removes it waits.
const DELETE_LIMIT: Duration = Duration::from_secs(8);

/// What another runtime is to forget once nothing of the container lives.
#[derive(Debug, Clone)]
pub struct Forget {
    runtime: OtherRuntime,
    id: String,
}

impl Forget {
    /// Of a container.
    #[must_use]
    pub fn new(runtime: &OtherRuntime, id: &str) -> Self {
        Self { runtime: runtime.clone(), id: id.to_owned() }
    }

    /// Has it forgotten by a child process, which the caller reaps. Failures go to its stderr.
    ///
    /// # Errors
    /// If the clone fails.
    pub fn spawn(&self) -> Result<Pid, Error> {
        match clone_process(CloneFlags::empty(), None)
            .map_err(Error::system("clone", "a process that deletes a container of another runtime"))?
        {
            Clones::Parent(process) => Ok(process.pid),
            Clones::Child => self.run(),
        }
    }

    fn run(&self) -> ! {
        use std::io::Write;
        let _ = podwright_sys::close_all_from(3);
        let _ = podwright_sys::reset_signals();
        let _ = rustix::process::setsid();
        let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
        if let Err(failure) = self.delete() {
            let _ = writeln!(std::io::stderr(), "podwright-shim: {}: {}", self.id, failure.text);
        }
        command::kill_children(None);
        // Whatever the runtime says: nothing lives that this could describe.
        let _ = std::fs::remove_dir_all(self.leftover());
        podwright_sys::exit_now(0)
    }

    fn delete(&self) -> Result<(), crate::error::Failure> {
        if !self.leftover().exists() {
            // It was never made, or deleted itself.
            return Ok(());
        }
        let place = WorkPlace::make(&self.runtime)?;
        let limit = self.runtime.deadline.min(DELETE_LIMIT);
        command::run(&self.runtime, place.path(), &["delete", "--force", &self.id], Output::Own, limit)
    }

    fn leftover(&self) -> PathBuf {
        self.runtime.root().join(&self.id)
    }
}
