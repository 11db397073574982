//! The streams of a process, and the log writer at their other end, as the shim's loop sees it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use podwright_sys::{CloneFlags, Clones, Errno, Process, clone_process, close_all_except, packet_pair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::server::Asker;
use crate::writer::control::{ClientFds, Order, Report};
use crate::writer::{self, Plan};

/// Streams 0, 1 and 2 of a process.
pub(crate) type Stdio = [Option<OwnedFd>; 3];

/// What is wanted for a process.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// A stdin for clients that attach.
    pub(crate) stdin: bool,
    /// Close it after the first.
    pub(crate) stdin_once: bool,
    /// Log file.
    pub(crate) log: Option<PathBuf>,
    /// A client from the start.
    pub(crate) client: Option<ClientFds>,
}

/// A log writer that was forked.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The process.
    pub(crate) process: Process,
    /// Socket to it.
    pub(crate) control: OwnedFd,
    /// It runs.
    pub(crate) alive: bool,
    /// Who waits for the log to be reopened, in the order of asking.
    pub(crate) reopening: VecDeque<Asker>,
}

impl Writer {
    /// Tells it something.
    pub(crate) fn tell(&self, order: &Order) -> io::Result<()> {
        order.send(&self.control)
    }

    /// What it has to say; `None` when it is gone.
    pub(crate) fn report(&self) -> io::Result<Option<Report>> {
        Report::receive(&self.control)
    }

    /// Ends it at once, with what it has not written.
    pub(crate) fn kill(&self) {
        if self.alive {
            let _ = rustix::process::pidfd_send_signal(&self.process.pidfd, rustix::process::Signal::KILL);
        }
    }
}

/// Makes the streams and forks their writer. For a process with a terminal they are the place-holders that keep the writer
/// waiting until its master is sent by [`Order::Terminal`].
///
/// The writer shares the shim's memory as it is now: better fork before a large document is parsed.
pub(crate) fn start(wanted: Wanted) -> Result<(Writer, Stdio), Errno> {
    let (control, writers_end) = packet_pair()?;
    let (stdin, input) = match wanted.stdin {
        true => pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (Some(read), Some(write)))?,
        false => (None, None),
    };
    let (read_stdout, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (read_stderr, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    let plan = Plan {
        control: writers_end,
        outputs: [Some(read_stdout), Some(read_stderr)],
        input,
        stdin_once: wanted.stdin_once,
        log: wanted.log,
        client: wanted.client,
    };
    let process = fork_writer(plan)?;
    Ok((Writer { process, control, alive: true, reopening: VecDeque::new() }, [stdin, Some(stdout), Some(stderr)]))
}

fn fork_writer(plan: Plan) -> Result<Process, Errno> {
    match clone_process(CloneFlags::empty(), None)? {
        Clones::Parent(process) => Ok(process),
        Clones::Child => {
            // Everything else of the shim is in this copy too, but is never looked at again.
            let _ = close_all_except(&descriptors(&plan));
            let _ = rustix::thread::set_name(c"podwright-log");
            std::process::exit(i32::from(!writer::run(plan)))
        }
    }
}

fn descriptors(plan: &Plan) -> Vec<BorrowedFd<'_>> {
    let client = plan.client.iter().flat_map(|client| [&client.stdin, &client.stdout, &client.stderr]);
    let all = plan.outputs.iter().chain([&plan.input]).chain(client).flatten();
    all.chain([&plan.control]).map(AsFd::as_fd).collect()
}
