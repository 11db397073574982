//! From being executed to being ready: what the process makes of itself.

use std::fmt::Display;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use podwright_cgroups::Hierarchy;
use podwright_types::SandboxId;
use rustix::process::{DumpableBehavior, Pid, set_child_subreaper, set_dumpable_behavior};

use crate::server::Server;

/// Wanted `oom_score_adj`: among the last to be killed, for its death takes the pod along.
const OOM_SCORE_ADJ: &[u8] = b"-998";

const HELP: &str = "podwright-shim is started by podwrightd, one for each pod, and cannot be started by hand.
It was looking for a listening unix socket as descriptor 3 and for its directory as descriptor 4.
To see what a pod's shim does, use crictl, or read /run/podwright/shims/<sandbox id>.log.";

/// Why the process can not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FatalError {
    /// Not started by a daemon.
    #[error("{HELP}")]
    ByHand,
    /// A step failed.
    #[error("{step}: {cause}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        cause: Box<dyn std::error::Error>,
    },
}

/// Names the step that failed.
pub(crate) fn step<E: Into<Box<dyn std::error::Error>>>(step: &'static str) -> impl FnOnce(E) -> FatalError {
    move |cause| FatalError::Step { step, cause: cause.into() }
}

/// Last words: they go to the file that the daemon shows when its shim is gone.
pub(crate) fn complain(error: &dyn Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "podwright-shim: {error}");
    ExitCode::FAILURE
}

struct Arguments {
    sandbox: SandboxId,
    cgroup: Option<String>,
}

/// `--sandbox ID [--cgroup PATH]`.
fn arguments() -> Result<Arguments, FatalError> {
    let mut given = std::env::args().skip(1);
    let (mut sandbox, mut cgroup) = (None, None);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(FatalError::ByHand)?;
        match name.as_str() {
            "--sandbox" => sandbox = Some(value.parse().map_err(|_| FatalError::ByHand)?),
            "--cgroup" => cgroup = Some(value),
            _ => return Err(FatalError::ByHand),
        }
    }
    Ok(Arguments { sandbox: sandbox.ok_or(FatalError::ByHand)?, cgroup })
}

/// Prepares everything that must be there before the first request.
pub(crate) fn start() -> Result<Server, FatalError> {
    let arguments = arguments()?;
    let (listener, directory) = inherited()?;
    become_quiet().map_err(step("prepare the process"))?;
    let hierarchy = Hierarchy::detect().map_err(step("find the cgroups of the host"))?;
    if let Some(path) = &arguments.cgroup {
        let cgroup = hierarchy.cgroup(path).map_err(step("join the shim's cgroup"))?;
        cgroup.enter_unlimited().map_err(step("join the shim's cgroup"))?;
    }
    let signals = watch_children().map_err(step("watch for children"))?;
    Server::new(arguments.sandbox, listener, directory, signals, hierarchy).map_err(step("set up the event loop"))
}

/// Takes descriptors 3 and 4 over, and closes all that came along by accident.
fn inherited() -> Result<(OwnedFd, OwnedFd), FatalError> {
    podwright_sys::close_all_from(5).map_err(step("close descriptors"))?;
    let [listener, directory] = podwright_sys::take_inherited([3, 4]).map_err(|_| FatalError::ByHand)?;
    match rustix::net::sockopt::socket_acceptconn(&listener) {
        Ok(true) => Ok((listener, directory)),
        Ok(false) | Err(_) => Err(FatalError::ByHand),
    }
}

/// Its own session, no core dumps and no tracers, no signals but those of children, and orphans of the pod come to it.
fn become_quiet() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    rustix::thread::set_name(c"podwright-shim")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_child_subreaper(Pid::from_raw(1))?;
    // Lowering it takes CAP_SYS_RESOURCE, which the daemon may lack; then the daemon's value stays.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    for signal in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        podwright_sys::ignore_signal(signal)?;
    }
    Ok(())
}

fn watch_children() -> Result<SignalFd, Box<dyn std::error::Error>> {
    let set = podwright_sys::block_signals(&[Signal::SIGCHLD])?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}
