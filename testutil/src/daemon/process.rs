//! The process of a daemon: its start, up to the word that it is ready, and its end.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::host::TestHost;
use crate::tools;

/// Time for a start; generous, because tests share two cores.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Time for an orderly end.
const STOPPED_WITHIN_SECONDS: i64 = 30;
/// How often the wait for readiness looks whether the daemon still lives.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a start went.
pub(super) enum Start {
    /// It said that it is ready.
    Ready(Process),
    /// It ended before.
    Ended(ExitStatus),
}

/// A daemon that said that it is ready. Killed on drop.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts the daemon and waits for its readiness, which it tells as it would tell systemd.
    pub(super) fn start(host: &TestHost, arguments: &[String]) -> Result<Self> {
        match Self::launch(host, arguments, &[])? {
            Start::Ready(process) => Ok(process),
            Start::Ended(status) => {
                bail!("podwrightd ended with {status} before it was ready; its log:\n{}", log(host))
            }
        }
    }

    /// The same, with more in its environment, and for a daemon that may end meanwhile.
    pub(super) fn launch(host: &TestHost, arguments: &[String], environment: &[(&str, &str)]) -> Result<Start> {
        let path = host.dir().join("notify.sock");
        let _ = fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).with_context(|| format!("binding {}", path.display()))?;
        notify.set_read_timeout(Some(LOOK_AGAIN))?;
        let log = File::options().create(true).append(true).open(log_path(host)).context("opening the daemon's log")?;
        let child = host
            .command(tools::program("podwrightd")?)
            .args(arguments)
            .envs(environment.iter().copied())
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting podwrightd")?;
        Self { child }.wait_until_ready(&notify, host)
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("looking whether the daemon ended")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the daemon")?;
        self.child.wait().context("waiting for the killed daemon").map(|_| ())
    }

    pub(super) fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "the daemon ended with {status} after SIGTERM");
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the daemon's pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("opening the daemon's pidfd")?;
        kill_process(pid, Signal::TERM).context("sending SIGTERM to the daemon")?;
        let limit = Timespec { tv_sec: STOPPED_WITHIN_SECONDS, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).context("waiting for the daemon")?;
        ensure!(ended == 1, "the daemon did not end within {STOPPED_WITHIN_SECONDS} s of SIGTERM");
        self.child.wait().context("waiting for the daemon")
    }

    fn wait_until_ready(mut self, notify: &UnixDatagram, host: &TestHost) -> Result<Start> {
        let end = Instant::now() + READY_WITHIN;
        let mut message = [0; 4096];
        while Instant::now() < end {
            let length = notify.recv(&mut message).unwrap_or(0);
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default());
            if text.lines().any(|line| line == "READY=1") {
                return Ok(Start::Ready(self));
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Start::Ended(status));
            }
        }
        bail!("podwrightd was not ready within {} s; its log:\n{}", READY_WITHIN.as_secs(), log(host))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn log(host: &TestHost) -> String {
    fs::read_to_string(log_path(host)).unwrap_or_default()
}

fn log_path(host: &TestHost) -> PathBuf {
    host.dir().join("podwrightd.log")
}
