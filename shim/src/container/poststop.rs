//! poststop hooks: programs of the node that run when nothing of a container lives, also after a start that failed. Its end is told
//! before they have run; it is not deleted before.

use podwright_runtime::{Forget, StoppedHooks};
use rustix::process::Pid;

use super::{Container, warn};
use crate::child::Ended;
use crate::server::Server;

/// Where they stand.
#[derive(Debug)]
pub(super) enum Poststop {
    /// There are none, or they have run.
    Nothing,
    /// They wait for its end.
    Kept(Box<StoppedHooks>),
    /// Another runtime is to forget the container then, and runs them.
    Forget(Box<Forget>),
    /// A child runs them.
    Running(Pid),
}

impl From<Option<StoppedHooks>> for Poststop {
    fn from(hooks: Option<StoppedHooks>) -> Self {
        hooks.map_or(Self::Nothing, |hooks| Self::Kept(Box::new(hooks)))
    }
}

impl Container {
    /// Runs them once nothing of it lives; true if they have run.
    pub(super) fn poststop_has_run(&mut self) -> bool {
        let spawned = match &self.poststop {
            Poststop::Kept(hooks) => hooks.spawn(),
            Poststop::Forget(forget) => forget.spawn(),
            Poststop::Nothing => return true,
            Poststop::Running(_) => return false,
        };
        self.poststop = match spawned {
            Ok(pid) => Poststop::Running(pid),
            Err(error) => {
                warn(&self.id, &format!("its poststop hooks are not run: {error}"));
                Poststop::Nothing
            }
        };
        matches!(self.poststop, Poststop::Nothing)
    }

    /// Whether they run now.
    pub(crate) fn poststop_runs(&self) -> bool {
        matches!(self.poststop, Poststop::Running(_))
    }
}

impl Server {
    /// A child ended; true if it was one that ran them.
    pub(super) fn poststop_ended(&mut self, ended: Ended) -> bool {
        let is_it =
            |container: &&mut Container| matches!(container.poststop, Poststop::Running(pid) if pid == ended.pid);
        let Some(container) = self.containers.iter_mut().find(is_it) else { return false };
        container.poststop = Poststop::Nothing;
        let serial = container.serial;
        self.settle_container(serial);
        true
    }
}
