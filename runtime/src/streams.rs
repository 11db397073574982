//! Streams 0, 1 and 2 of a process: given descriptors, or a terminal of the container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Process;
use podwright_sys::Errno;
use rustix::fs::{FileType, Gid, OFlags, Uid, fchown, fstat, fstatfs, major, makedev, minor};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::{Failure, Step};
use crate::launch::{MappedRoot, Stdio};
use crate::message::{self, Message};
use crate::root::Root;

/// `f_type` of devpts.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// The null device that stands in for streams that were not given. It is the container's own: on the host's, the container
/// could change mode and owner for everybody.
fn open_null(root: &Root) -> Result<OwnedFd, Failure> {
    let path = "/dev/null";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let null = root.open(Path::new(path), flags).step("open the container's", || path)?;
    let status = fstat(&null).step("look at the container's", || path)?;
    let is_null =
        FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice && status.st_rdev == makedev(1, 3);
    if !is_null {
        let reason = "it is not the null device; the container has put something else there";
        return Err(Failure::because("use the container's", path, reason));
    }
    rustix::fs::fcntl_setfl(&null, OFlags::empty()).step("prepare the container's", || path)?;
    Ok(null)
}

/// Puts descriptors in place as streams, which outlive the exec.
pub(crate) fn place(fds: &[Option<OwnedFd>; 3], root: &Root) -> Result<(), Failure> {
    let null = if fds.iter().all(Option::is_some) { None } else { Some(open_null(root)?) };
    let [stdin, stdout, stderr] = fds.each_ref().map(|fd| fd.as_ref().or(null.as_ref()));
    stdin.map_or(Ok(()), dup2_stdin).step("place", || "stdin")?;
    stdout.map_or(Ok(()), dup2_stdout).step("place", || "stdout")?;
    stderr.map_or(Ok(()), dup2_stderr).step("place", || "stderr")
}

/// Opens a terminal of the container's own devpts, sends its master to the parent and makes it the controlling one.
pub(crate) fn make_terminal(root: &Root, process: &Process, socket: impl AsFd) -> Result<OwnedFd, Failure> {
    let what = || "a terminal in the container";
    let master = open_multiplexer(root)?;
    unlockpt(&master).step("unlock", what)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).step("open the other end of", what)?;
    if let Some(size) = process.console_size() {
        let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: clamp(size.height()), ws_col: clamp(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).step("set the size of", what)?;
    }
    message::send(&socket, &Message::Terminal, &[master.as_fd()]).step("hand over", what)?;
    ioctl_tiocsctty(&slave).step("take control of", what)?;
    dup2_stdin(&slave).step("place", || "stdin")?;
    dup2_stdout(&slave).step("place", || "stdout")?;
    dup2_stderr(&slave).step("place", || "stderr")?;
    Ok(slave)
}

/// `/dev/pts/ptmx`, if that is truly the multiplexer of a devpts.
fn open_multiplexer(root: &Root) -> Result<OwnedFd, Failure> {
    let path = "/dev/pts/ptmx";
    let master = root.open(Path::new(path), OFlags::RDWR | OFlags::NOCTTY).step("open", || path)?;
    let status = fstat(&master).step("look at", || path)?;
    let filesystem = fstatfs(&master).step("look at", || path)?;
    let is_multiplexer = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && (major(status.st_rdev), minor(status.st_rdev)) == (5, 2);
    if !is_multiplexer || filesystem.f_type != DEVPTS_MAGIC {
        return Err(Failure::because("open", path, "it is not the multiplexer of a devpts; mount devpts on /dev/pts"));
    }
    Ok(master)
}

/// Makes root of a user namespace the owner of pipes, who can hand them on then. As root of the host.
pub(crate) fn give_pipes(stdio: &Stdio, to: MappedRoot) -> Result<(), Failure> {
    let what = || "a standard stream";
    for fd in stdio.descriptors() {
        let status = fstat(fd).step("look at", what)?;
        if matches!(FileType::from_raw_mode(status.st_mode), FileType::Fifo | FileType::Socket) {
            fchown(fd, Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid))).step("change the owner of", what)?;
        }
    }
    Ok(())
}

/// Makes the user the owner of its streams, so that it can open `/dev/stdout` and the like again.
pub(crate) fn give_to(uid: u32) -> Result<(), Failure> {
    give(rustix::stdio::stdin(), uid)?;
    give(rustix::stdio::stdout(), uid)?;
    give(rustix::stdio::stderr(), uid)
}

fn give(stream: impl AsFd, uid: u32) -> Result<(), Failure> {
    let status = fstat(&stream).step("look at", || "a standard stream")?;
    let kind = FileType::from_raw_mode(status.st_mode);
    let is_terminal = kind == FileType::CharacterDevice && major(status.st_rdev) == 136;
    if status.st_uid == uid || !(is_terminal || matches!(kind, FileType::Fifo | FileType::Socket)) {
        return Ok(());
    }
    match fchown(&stream, Some(Uid::from_raw(uid)), None::<Gid>) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        Err(errno) => Err(Failure::errno("change the owner of", "a standard stream", errno)),
    }
}
