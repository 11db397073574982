//! A bundle, from its config.json to the end of its program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use podwright_cgroups::{Cgroup, Hierarchy};
use podwright_runtime::{
    CgroupEntry, Launch, Namespace, Namespaces, Progress, RootfsMethod, RootfsPlan, SeccompChoice, Starting, Stdio,
    UserLookup, spawn,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What shells add to the number of a signal that ended a program.
const SIGNALLED: i32 = 128;

/// Runs it, and returns its exit code.
pub(crate) fn run(bundle: &Path) -> Result<u8> {
    let path = bundle.join("config.json");
    let spec = Spec::load(&path).with_context(|| format!("reading {}", path.display()))?;
    let cgroup = cgroup_of(&spec)?;
    cgroup.create().context("making the cgroup")?;
    let outcome = limited(bundle, &spec, &cgroup);
    let removed = cgroup.remove().context("removing the cgroup");
    let code = outcome?;
    removed?;
    Ok(code)
}

fn cgroup_of(spec: &Spec) -> Result<Cgroup> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = path.context("config.json names no linux.cgroupsPath")?;
    Hierarchy::detect()?.cgroup(&path.display().to_string()).context("naming the cgroup")
}

fn limited(bundle: &Path, spec: &Spec, cgroup: &Cgroup) -> Result<u8> {
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        cgroup.apply(resources).context("limiting the cgroup")?;
    }
    let root = spec.root().as_ref().map_or_else(|| PathBuf::from("rootfs"), |root| root.path().clone());
    let mut starting = spawn(Launch {
        spec,
        rootfs: &RootfsPlan::Directory(bundle.join(root)),
        rootfs_method: RootfsMethod::Auto,
        namespaces: namespaces(spec),
        stdio: Stdio::Fds([None, None, None]),
        cgroup: CgroupEntry::Join(cgroup),
        given_mounts: BTreeMap::new(),
        seccomp: SeccompChoice::FromSpec,
        user_lookup: UserLookup::default(),
        hooks: None,
        gate: None,
        inherited: Vec::new(),
    })?;
    follow(&mut starting)?;
    let status = waitid(WaitId::PidFd(starting.pidfd()), WaitIdOptions::EXITED)?.context("no exit status")?;
    let code = status.exit_status().or_else(|| Some(SIGNALLED + status.terminating_signal()?));
    Ok(u8::try_from(code.context("a process that ended without a code")?)?)
}

/// New ones of the kinds that the specification lists. (None that is to be joined by path: pods do that another way.)
fn namespaces(spec: &Spec) -> Namespaces<'static> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
    let of = |kind| if listed.iter().any(|one| one.typ() == kind) { Namespace::New } else { Namespace::Host };
    Namespaces {
        network: of(LinuxNamespaceType::Network),
        ipc: of(LinuxNamespaceType::Ipc),
        uts: of(LinuxNamespaceType::Uts),
        pid: of(LinuxNamespaceType::Pid),
        user: None,
        cgroup: of(LinuxNamespaceType::Cgroup),
    }
}

/// Waits until the program runs; a child that failed is reaped.
fn follow(starting: &mut Starting) -> Result<()> {
    loop {
        poll(&mut [PollFd::new(&*starting, PollFlags::IN)], None).context("waiting for the container")?;
        match starting.on_readable()? {
            Progress::Pending | Progress::Moved | Progress::Ready | Progress::Resolved(_) => {}
            Progress::Waiting => starting.release()?,
            Progress::Warning(text) => eprintln_line(&text),
            Progress::Terminal(_) => bail!("terminals are not served here: set process.terminal to false"),
            Progress::Started => return Ok(()),
            Progress::Failed(failure) => {
                waitid(WaitId::PidFd(starting.pidfd()), WaitIdOptions::EXITED)?;
                return Err(anyhow!(failure));
            }
        }
    }
}

#[allow(clippy::print_stderr)] // It is a program for a terminal.
fn eprintln_line(text: &str) {
    eprintln!("warning: {text}");
}
