//! Writing a container's processes to disk while they stand still.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::error::Error;
use crate::message::{Kind, Options};
use crate::network::Network;
use crate::session::{GRACE, LAST, Session, judged};

/// CRIU leaves cgroups alone.
pub(crate) const IGNORE_CGROUPS: i32 = 0;
/// What it writes about its work: warnings and errors.
pub(crate) const LOG_LEVEL: i32 = 2;
/// Its log beside the images.
const LOG: &str = "dump.log";

/// A dump.
#[derive(Debug)]
pub struct Dump<'a> {
    /// CRIU.
    pub program: &'a Path,
    /// First process of the container.
    pub pid: i32,
    /// Directory for the images, empty.
    pub images: &'a Path,
    /// What is made outside; see [`external_mount`](crate::external_mount).
    pub external: Vec<String>,
    /// For all of it.
    pub within: Duration,
}

/// Dumps. While the processes stand still and are all written, `still` is called; then they go on, whatever came of it. On an error of
/// `still` and at the deadline CRIU is told no and has half a minute to undo what it did: to let packets through again, which it keeps
/// from the whole pod meanwhile. If it has to be killed after that, its rules are removed for it.
///
/// `still` should be done well before the deadline itself.
///
/// # Errors
/// CRIU's, or that of `still`.
pub fn dump(dump: &Dump<'_>, still: &mut dyn FnMut() -> Result<(), String>) -> Result<(), Error> {
    let directory = rustix::fs::open(dump.images, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Talk { step: "open the directory for the images", cause: errno.into() })?;
    let network = Network::of(dump.pid)?;
    let mut session = Session::start(dump.program, dump.within)?.gently(GRACE);
    let options = Options {
        images_dir_fd: directory.as_raw_fd(),
        pid: Some(dump.pid),
        leave_running: Some(true),
        tcp_established: Some(true),
        file_locks: Some(true),
        link_remap: Some(false),
        log_level: Some(LOG_LEVEL),
        log_file: Some(LOG.to_owned()),
        notify_scripts: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(IGNORE_CGROUPS),
        external: dump.external.clone(),
        // For bringing all processes to a stand; with all of the time both would give up at once.
        timeout: Some(u32::try_from(dump.within.as_secs() / 2).unwrap_or(u32::MAX).max(1)),
        ..Options::default()
    };
    let outcome = session.ask(Kind::Dump, options, &mut |notice| match notice.script.as_deref() {
        Some(LAST) => still(),
        _ => Ok(()),
    });
    let left = if session.end() { network.release() } else { String::new() };
    judged(outcome, &dump.images.join(LOG)).map(|_| ()).map_err(|error| error.and(&left))
}
