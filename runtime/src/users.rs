//! User namespaces: made with their mappings, and entered. Whose files are mapped is left to `idmap`.
//!
//! A container of a pod with a user namespace is built by root of the host until only what needs the namespace is left. A new pid
//! namespace has to be owned by the user namespace, so a second child is cloned by the first from inside it:
//!
//! ```text
//! shim ─ clone ─> first child: all that takes the host's root ─> joins the user namespace ─> ends
//!   └─────────────────── (its sibling) second child: process 1, root of the user namespace <─┘
//! ```

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use oci_spec::runtime::LinuxIdMapping;
use podwright_sys::{CloneFlags, Clones, Errno, Process, clone_process, join_namespace, packet_pair};
use rustix::fs::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Failure, Step};
use crate::launch::{IdMappings, UserJoin};
use crate::message::{self, Message};

/// Makes a user namespace. It lives while its descriptor does.
pub(crate) fn make(mappings: &IdMappings) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = packet_pair().step("make a pair of sockets for", || "a user namespace")?;
    match clone_process(CloneFlags::NEWUSER, None).map_err(no_namespace)? {
        Clones::Child => {
            drop(ours);
            // Lives until the caller has what it needs.
            let _ = podwright_sys::receive_packet(&theirs, &mut [0]);
            podwright_sys::exit_now(0)
        }
        Clones::Parent(child) => {
            drop(theirs);
            let made = map(&child, mappings);
            drop(ours);
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
                .step("reap", || "the child that made a user namespace")?;
            made
        }
    }
}

fn no_namespace(errno: Errno) -> Failure {
    let reason = std::io::Error::from(errno);
    let advice = "see the sysctl user.max_user_namespaces of the node";
    let failure = Failure::because("make", "a user namespace", format_args!("{reason}; {advice}"));
    Failure { errno: errno.raw_os_error(), ..failure }
}

fn map(child: &Process, mappings: &IdMappings) -> Result<OwnedFd, Failure> {
    let what = || "the process of a new user namespace";
    let pid = visible_pid(&child.pidfd).step("find", what)?;
    let pid = pid.ok_or_else(|| Failure::because("map ids of", what(), "it was killed"))?.as_raw_nonzero();
    for (name, ranges) in [("uid_map", &mappings.uids), ("gid_map", &mappings.gids)] {
        let path = format!("/proc/{pid}/{name}");
        // The kernel takes a map in one write.
        std::fs::write(&path, text(ranges)).step("write the mapping", || format!("{name}: {}", text(ranges).trim()))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("open", || path)
}

fn text(ranges: &[LinuxIdMapping]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.container_id(), r.host_id(), r.size())).collect()
}

/// The pid by which /proc shows a process, whatever pid namespace the caller is in; `None` if it was reaped.
pub(crate) fn visible_pid(pidfd: impl AsFd) -> std::io::Result<Option<Pid>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    Ok(pid.filter(|pid| *pid > 0).and_then(Pid::from_raw))
}

/// Joins the user namespace and becomes its root. With `process_ids` the rest of the life of this process is another one's, the
/// first of a new pid namespace, and only that one returns.
pub(crate) fn enter(user: &UserJoin<'_>, process_ids: bool, socket: &OwnedFd) -> Result<(), Failure> {
    join_namespace(user.namespace).step("join", || "the pod's user namespace")?;
    if process_ids {
        go_on_as_another(socket)?;
    }
    become_root()
}

/// After joining a user namespace a process has all capabilities there, but ids that mean nothing there.
pub(crate) fn become_root() -> Result<(), Failure> {
    let what = || "root of the user namespace";
    set_thread_groups(&[]).step("drop the groups to become", what)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).step("take the group of", what)?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).step("become", what)
}

fn go_on_as_another(socket: &OwnedFd) -> Result<(), Failure> {
    let what = || "the first process of a pid namespace";
    let (ours, theirs) = packet_pair().step("make a pair of sockets for", what)?;
    match clone_process(CloneFlags::NEWPID | CloneFlags::PARENT, None).step("clone", what)? {
        Clones::Parent(child) => {
            drop(theirs);
            message::send(socket, &Message::Moved, &[child.pidfd.as_fd()]).step("tell of", what)?;
            podwright_sys::send_packet(&ours, b"go", &[]).step("let go on", what)?;
            podwright_sys::exit_now(0)
        }
        Clones::Child => {
            drop(ours);
            // Whoever was not told of does not go on.
            match podwright_sys::receive_packet(&theirs, &mut [0; 16]).step("wait as", what)?.length {
                0 => Err(Failure::because("start", what(), "the process that cloned it was killed")),
                _ => rustix::process::setsid().map(drop).step("make a session for", what),
            }
        }
    }
}
