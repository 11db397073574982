//! Waiting for a process in the foreground: signals are passed on, the terminal is served, its exit code is ours.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use podwright_runtime::Starting;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::terminal::Console;

/// What shells add to the number of a signal that ended a program.
const SIGNALLED: i32 = 128;
/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// Signals that people send to what they run.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on they are told here. A container's process has none of them blocked.
    pub(crate) fn catch() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGWINCH,
            Signal::SIGCONT,
        ] {
            set.add(signal);
        }
        set.thread_block().context("catching signals")?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self).context("catching signals")
    }

    fn next(&self) -> Option<i32> {
        let signal = self.0.read_signal().ok()??;
        i32::try_from(signal.ssi_signo).ok()
    }
}

/// The caller's terminal, in raw mode until this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        Self(tcsetattr(stdin, OptionalActions::Now, &raw).ok().map(|()| before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Serves a process until its end.
pub(crate) fn serve(starting: &Starting, console: Console, signals: &Signals) -> Result<ExitCode> {
    let mut master = match console {
        Console::Foreground(master) => master,
        Console::Socket(_) | Console::Nowhere => None,
    };
    let _raw = master.as_ref().map(|master| {
        resize(master);
        Raw::enter()
    });
    let mut stdin_open = master.is_some();
    loop {
        let pidfd = starting.pidfd();
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        if let Some(master) = &master {
            fds.push(PollFd::new(master, PollFlags::IN));
            if stdin_open {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting for the process"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
        drop(fds);
        if is_ready(1) {
            pass_signals(signals, starting, master.as_ref());
        }
        if let Some(terminal) = &master {
            if is_ready(3) && !copy(stdin, terminal) {
                stdin_open = false;
            }
            if is_ready(2) && !copy(terminal, rustix::stdio::stdout()) {
                master = None;
            }
        }
        // The rest of what it wrote comes first.
        if is_ready(0) && !(master.is_some() && is_ready(2)) {
            return end(starting);
        }
    }
}

fn pass_signals(signals: &Signals, starting: &Starting, master: Option<&OwnedFd>) {
    while let Some(number) = signals.next() {
        match master {
            Some(master) if number == Signal::SIGWINCH as i32 => resize(master),
            _ => drop(podwright_sys::signal_pidfd(starting.pidfd(), number)),
        }
    }
}

fn resize(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(master, size);
    }
}

/// `false` at the end of `from`.
fn copy(from: impl AsFd, to: impl AsFd) -> bool {
    let mut buffer = [0; CHUNK_BYTES];
    let Ok(length) = rustix::io::read(from, &mut buffer) else { return false };
    let mut rest = buffer.get(..length).unwrap_or_default();
    while let Some(written) =
        Some(rest).filter(|rest| !rest.is_empty()).and_then(|rest| rustix::io::write(&to, rest).ok())
    {
        rest = rest.get(written..).unwrap_or_default();
    }
    length > 0
}

fn end(starting: &Starting) -> Result<ExitCode> {
    let status = waitid(WaitId::PidFd(starting.pidfd()), WaitIdOptions::EXITED).context("waiting for the process")?;
    let status = status.context("the process has no exit status")?;
    let code = status.exit_status().or_else(|| Some(SIGNALLED + status.terminating_signal()?));
    Ok(ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(u8::MAX)))
}
