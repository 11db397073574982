//! From a bundle to a first process in its cgroup and namespaces; undone if a step fails.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use podwright_cgroups::Cgroup;
use podwright_runtime::{
    CgroupEntry, Gate, HookContext, Launch, RootfsMethod, RootfsPlan, SeccompChoice, Starting, Stdio, UserLookup, spawn,
};
use rustix::process::Signal;

use crate::arguments::CreateOptions;
use crate::bundle::Bundle;
use crate::log::Log;
use crate::namespaces::Held;
use crate::store::{Place, Record, Store};
use crate::terminal::Console;
use crate::{clock, gate, process, waiting};

/// Seconds in which what was killed has to end.
const END_SECONDS: i64 = 10;

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// This program.
    Files,
    /// systemd.
    Systemd,
}

/// Whether the first process waits for `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Gate,
    Program,
}

/// A container whose first process is there.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) place: Place,
    pub(crate) starting: Starting,
}

/// Makes a container. On a failure nothing is left.
pub(crate) fn launch(
    store: &Store,
    options: &CreateOptions,
    cgroups: Cgroups,
    console: &mut Console,
    until: Until,
    log: &Log,
) -> Result<Launched> {
    let inherited = inherited(options.preserve_fds)?;
    let place = store.reserve(&options.id)?;
    let mut undo = Undo { place: Some(place.clone()), cgroup: None, child: None };
    let bundle = Bundle::read(&options.bundle)?;
    let (rootfs, cgroup) = (bundle.rootfs()?, bundle.cgroup(&options.id, cgroups)?);
    let terminal = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    console.check(terminal)?;
    if cgroup.exists() && !cgroup.processes()?.is_empty() {
        bail!("the cgroup {} has processes already; a container needs one of its own", cgroup.path());
    }
    undo.cgroup = Some(cgroup.clone());
    let mut record = Record {
        oci_version: bundle.spec.version().clone(),
        bundle: bundle.directory.clone(),
        rootfs: rootfs.clone(),
        created: clock::now(),
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        cgroup: cgroup.path(),
        own_processes: false,
        user: None,
        process: None,
    };
    // Whoever finds what is left of a call that was killed knows the cgroup by it.
    place.keep(&record)?;
    place.keep_config(&bundle.text)?;
    cgroup.create().context("making the cgroup")?;
    cgroup.apply(&bundle.resources()?).with_context(|| format!("limiting the cgroup {}", cgroup.path()))?;
    let namespaces = Held::prepare(&bundle.spec)?;
    let gate: Option<Gate> = match until {
        Until::Gate => Some(gate::make(&place)?),
        Until::Program => None,
    };
    if !options.no_new_keyring {
        podwright_sys::new_session_keyring().context("making a session keyring; see --no-new-keyring")?;
    }
    let starting = spawn(Launch {
        spec: &bundle.spec,
        rootfs: &RootfsPlan::Owned(rootfs),
        rootfs_method: RootfsMethod::Auto,
        namespaces: namespaces.borrow(),
        stdio: if terminal { Stdio::Terminal } else { own_streams()? },
        cgroup: CgroupEntry::Join(&cgroup),
        given_mounts: BTreeMap::new(),
        seccomp: SeccompChoice::FromSpec,
        user_lookup: UserLookup::default(),
        hooks: Some(HookContext { container: &options.id, bundle: &bundle.directory }),
        gate,
        inherited,
    })
    .context("starting the container's process")?;
    let starting = undo.child.insert(starting);
    waiting::follow(starting, |master| console.take(master), Some(log))?;
    record.own_processes = namespaces.own_processes();
    record.user = namespaces.user().map(|user| user.root.into());
    record.process = Some(process::identity(starting.pid().as_raw_pid())?);
    place.keep(&record)?;
    if let Some(path) = &options.pid_file {
        write_pid(path, starting.pid().as_raw_pid())?;
    }
    undo.done().map(|starting| Launched { place, starting })
}

/// Descriptors that the caller wants the program to have.
pub(crate) fn inherited(count: u16) -> Result<Vec<OwnedFd>> {
    let numbers = 3..3 + i32::from(count);
    podwright_sys::take_inherited_range(numbers)
        .with_context(|| format!("--preserve-fds {count}: not all of them are open"))
}

/// The caller's streams.
pub(crate) fn own_streams() -> Result<Stdio> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut copies = streams.into_iter().map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3).ok());
    Ok(Stdio::Fds([copies.next().flatten(), copies.next().flatten(), copies.next().flatten()]))
}

/// Writes a pid file that is never seen half written.
pub(crate) fn write_pid(path: &std::path::Path, pid: i32) -> Result<()> {
    let name = path.file_name().with_context(|| format!("--pid-file {}: it names no file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = path.with_file_name(hidden);
    std::fs::write(&new, pid.to_string()).with_context(|| format!("writing the pid file {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("writing the pid file {}", path.display()))
}

/// What is taken back when a container could not be made.
struct Undo {
    place: Option<Place>,
    /// Only one that holds nobody else's processes.
    cgroup: Option<Cgroup>,
    child: Option<Starting>,
}

impl Undo {
    /// It was made.
    fn done(mut self) -> Result<Starting> {
        self.place = None;
        self.child.take().context("the container has no process")
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        if let Some(child) = &self.child {
            let _ = rustix::process::pidfd_send_signal(child.pidfd(), Signal::KILL);
            let pidfd = child.pidfd().try_clone_to_owned();
            let _ = pidfd.map(|pidfd| process::await_end(&pidfd, END_SECONDS));
        }
        let _ = self.cgroup.as_ref().map(Cgroup::kill_all);
        reap_all();
        let within = std::time::Duration::from_secs(END_SECONDS.unsigned_abs());
        let _ = self.cgroup.as_ref().map(|cgroup| cgroup.remove_within(within));
        let _ = place.remove();
    }
}

/// A child that was not waited for keeps its cgroup.
fn reap_all() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}
