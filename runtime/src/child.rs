//! What every child does alike: its first steps after the clone, and its last before the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use podwright_sys::{close_all_except, make_all_cloexec_from, reset_signals};

use crate::error::{Failure, Step};
use crate::filters;
use crate::gate;
use crate::hooks::InitHooks;
use crate::launch::{CgroupEntry, Gate, SeccompChoice, UserLookup};
use crate::lsm::{Labels, Wanted};
use crate::message::{self, Message};
use crate::privileges;
use crate::program::{self, Program};
use crate::root::Root;
use crate::seccomp::{self, Filter};
use crate::streams;
use crate::user::{self, Request};

/// Largest seccomp profile that is read, in bytes.
const MAX_PROFILE_BYTES: u64 = 4 << 20;

/// Runs a child's part; tells the failure; never returns.
pub(crate) fn run(socket: &OwnedFd, part: impl FnOnce() -> Result<(), Failure>) -> ! {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(Ok(())) => podwright_sys::exit_now(0),
        Ok(Err(failure)) => message::send_failure(socket, failure),
        Err(_) => {
            message::send_failure(socket, Failure::because("start", "the process", "a bug; its panic is on stderr"))
        }
    }
    podwright_sys::exit_now(1)
}

/// No descriptor of the parent but those of `keep`, a session of its own, default signals, and a place in its cgroup.
///
/// A child that hangs on a dead mount lives for ever; it must not hold the parent's sockets open, nor show them to a container
/// that it has joined.
pub(crate) fn begin(socket: &OwnedFd, cgroup: CgroupEntry<'_>, keep: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let what = || "the process";
    let keep: Vec<BorrowedFd<'_>> = keep.iter().copied().chain([socket.as_fd()]).collect();
    close_all_except(&keep).step("close the parent's descriptors in", what)?;
    reset_signals().step("reset the signals of", what)?;
    rustix::process::setsid().step("make a session for", what)?;
    match cgroup {
        CgroupEntry::Inherit => Ok(()),
        // With v2 it was cloned into its cgroup.
        CgroupEntry::Join(cgroup) if cgroup.hierarchy().is_v2() => Ok(()),
        CgroupEntry::Join(cgroup) => cgroup.join().map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::because("join the cgroup", cgroup.path(), format_args!("{error}{cause}"))
        }),
        CgroupEntry::Deferred => wait_for_release(socket),
    }
}

pub(crate) fn wait_for_release(socket: &OwnedFd) -> Result<(), Failure> {
    let what = || "the release of the process";
    message::send(socket, &Message::Waiting, &[]).step("ask for", what)?;
    match podwright_sys::receive_packet(socket, &mut [0; 16]).step("wait for", what)?.length {
        0 => Err(Failure::because("wait for", what(), "the caller went away")),
        _ => Ok(()),
    }
}

/// Things of the host that the last steps need.
pub(crate) struct Preparation {
    filter: Option<Rc<Filter>>,
    labels: Wanted,
}

impl Preparation {
    /// Reads and compiles, in the host's mount namespace.
    pub(crate) fn new(spec: Option<&Spec>, process: &Process, choice: &SeccompChoice) -> Result<Self, Failure> {
        Ok(Self { filter: filter(spec, process, choice)?, labels: Wanted::check(process)? })
    }

    /// Opens what belongs to the process that executes the program, while a /proc is there that no container could change.
    pub(crate) fn open(self) -> Result<Finish, Failure> {
        Ok(Finish { filter: self.filter, labels: self.labels.open()? })
    }
}

/// What the last steps have to heed.
#[derive(Clone, Copy)]
pub(crate) struct After<'a> {
    /// Where to wait.
    pub(crate) gate: Option<&'a Gate>,
    /// Descriptors that stay open.
    pub(crate) inherited: &'a [OwnedFd],
    /// Hooks of the container.
    pub(crate) hooks: &'a InitHooks<'a>,
}

/// Nothing from 3 on stays open in the program but these.
fn keep(inherited: &[OwnedFd]) -> Result<(), Failure> {
    make_all_cloexec_from(3).step("close", || "the descriptors of the daemon")?;
    let open = |fd: &OwnedFd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
    inherited.iter().try_for_each(open).step("keep open", || "a descriptor that the program is to have")
}

/// The last steps.
pub(crate) struct Finish {
    filter: Option<Rc<Filter>>,
    labels: Labels,
}

impl Finish {
    /// Looks the user up, drops privileges, executes. Returns only with a failure.
    pub(crate) fn execute(
        self,
        root: Root,
        process: &Process,
        lookup: UserLookup,
        after: After<'_>,
        socket: &OwnedFd,
    ) -> Result<(), Failure> {
        let found = user::look_up(&root, &request(process, lookup))?;
        message::send(socket, &Message::Resolved(found.user.clone()), &[]).step("tell", || "the user")?;
        program::change_directory(&root, process.cwd())?;
        drop(root);
        let program = Program::prepare(process, found.home.as_deref())?;
        streams::give_to(found.user.uid)?;
        privileges::set_limits(process.rlimits().as_deref().unwrap_or_default())?;
        keep(after.inherited)?;
        let last = |socket: &OwnedFd| {
            message::send(socket, &Message::Executing, &[]).step("tell", || "the start of the program")?;
            self.labels.write()?;
            // The filter may not allow to open it.
            let own = after.hooks.open_own()?;
            privileges::drop_to(process, &found.user, self.filter.as_deref())?;
            after.hooks.starting(own.as_ref(), after.gate.map(|_| socket))?;
            let failure = program.execute();
            after.hooks.failed();
            Err(failure)
        };
        match after.gate {
            None => last(socket),
            Some(gate) => {
                program.look()?;
                gate::pass(gate, socket, last)
            }
        }
    }
}

/// Whom to look up.
pub(crate) fn request(process: &Process, lookup: UserLookup) -> Request<'_> {
    let user = process.user();
    Request {
        name: user.username().as_deref().filter(|name| !name.is_empty()),
        uid: user.uid(),
        gid: user.gid(),
        additional: user.additional_gids().as_deref().unwrap_or_default(),
        merge: lookup.merge_groups,
    }
}

fn filter(spec: Option<&Spec>, process: &Process, choice: &SeccompChoice) -> Result<Option<Rc<Filter>>, Failure> {
    let compile = |profile: &LinuxSeccomp| seccomp::compile(profile).map(Rc::new);
    let (name, filter) = match choice {
        SeccompChoice::FromSpec => {
            match spec.and_then(|spec| spec.linux().as_ref()).and_then(|linux| linux.seccomp().as_ref()) {
                None => return Ok(None),
                Some(profile) => ("of the specification".to_owned(), compile(profile)),
            }
        }
        SeccompChoice::RuntimeDefault => {
            ("RuntimeDefault".to_owned(), filters::default_for(&filters::bounding(process)))
        }
        SeccompChoice::Profile(path) => {
            let json = read_profile(path)?;
            let release = crate::kernel::release();
            let profile = seccomp::parse_profile(&json, &filters::bounding(process), &release);
            (path.display().to_string(), profile.and_then(|profile| compile(&profile)))
        }
    };
    filter.map(Some).map_err(|error| Failure::because("use the seccomp profile", name, error))
}

/// The profile that applies, as the specification writes it: for a runtime that compiles filters itself.
pub(crate) fn profile(
    spec: Option<&Spec>,
    process: &Process,
    choice: &SeccompChoice,
) -> Result<Option<LinuxSeccomp>, Failure> {
    let bounding = filters::bounding(process);
    let (name, profile) = match choice {
        SeccompChoice::FromSpec => {
            return Ok(spec.and_then(|spec| spec.linux().as_ref()).and_then(|linux| linux.seccomp().clone()));
        }
        SeccompChoice::RuntimeDefault => ("RuntimeDefault".to_owned(), seccomp::runtime_default(&bounding)),
        SeccompChoice::Profile(path) => {
            let release = crate::kernel::release();
            (path.display().to_string(), seccomp::parse_profile(&read_profile(path)?, &bounding, &release))
        }
    };
    profile.map(Some).map_err(|error| Failure::because("use the seccomp profile", name, error))
}

fn read_profile(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let host = rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let host = Root::new(host.step("open", || "/")?);
    let missing = || Failure::because("read the seccomp profile", path.display(), "there is no such file on this host");
    host.read(path, MAX_PROFILE_BYTES)?.ok_or_else(missing)
}

/// Sends a line for the log; if nobody listens, nobody misses it.
pub(crate) fn warn(socket: impl AsFd, text: Option<String>) {
    if let Some(text) = text {
        let _ = message::send(socket, &Message::Warning(text), &[]);
    }
}
