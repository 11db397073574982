//! A host of a test's own: a network and a mount namespace, a directory, a cgroup. Daemons, registries and plugins of a test run in
//! it, so tests run beside each other and leave this machine's network alone.
//!
//! A janitor (a shell that holds the namespaces) waits for the end of its standard input. When the host is dropped, or the test is
//! killed, it kills what runs in the host, removes its cgroups and its directory.

mod outside;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use outside::Outside;

use crate::tools::CgroupDriver;

/// Runs in the new namespaces, and outlives the test by the moment that cleaning takes.
const JANITOR: &str = include_str!("host/janitor.sh");

/// Namespaces, a directory and a cgroup of a test's own.
pub struct TestHost {
    id: String,
    dir: PathBuf,
    janitor: Child,
    stdin: Option<ChildStdin>,
    driver: CgroupDriver,
}

impl TestHost {
    /// Makes a host: `lo` is up, /run/netns and /var/lib/cni are empty, mounts are shared as systemd has them.
    ///
    /// # Errors
    /// The test does not run as root, or a tool is missing.
    pub fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "this test makes namespaces and mounts; run it as root");
        let dir = tempfile::Builder::new().prefix("pwt-").tempdir().context("making the test's directory")?.keep();
        let id = dir.file_name().map(|name| name.to_string_lossy().to_lowercase().replace('.', "x"));
        let id = id.context("the test's directory has no name")?;
        let mut janitor = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", JANITOR, "janitor"])
            .arg(&id)
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("making namespaces with unshare; is util-linux installed?")?;
        let stdin = janitor.stdin.take();
        let mut line = String::new();
        BufReader::new(janitor.stdout.take().context("the janitor has no output")?).read_line(&mut line)?;
        let host = Self { id, dir, janitor, stdin, driver: CgroupDriver::from_env() };
        if line.trim() != "ready" {
            bail!("the janitor did not come up in the new namespaces; what it printed to stderr says why");
        }
        Ok(host)
    }

    /// A name that no other test has.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The test's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which cgroup driver daemons of this host use.
    #[must_use]
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.driver
    }

    /// A cgroup parent for pods, as kubelet gives one.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => format!("/{}", self.id),
            // A dash would make another level.
            CgroupDriver::Systemd => format!("{}.slice", self.id.replace('-', "")),
        }
    }

    /// The cgroup's name at the top of each hierarchy.
    pub(crate) fn cgroup_name(&self) -> String {
        self.cgroup_parent().trim_start_matches('/').to_owned()
    }

    /// Process that holds the namespaces.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.janitor.id()
    }

    /// A command that runs in the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let namespaces = format!("/proc/{}/ns", self.pid());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={namespaces}/net")).arg(format!("--mount={namespaces}/mnt")).arg("--").arg(program);
        command
    }

    /// Runs a command line in the host and returns what it printed.
    ///
    /// # Errors
    /// It failed; the text holds its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("a command without a program")?;
        let output = self.command(program).args(arguments).output().with_context(|| format!("starting {program}"))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{} failed with {}: {}{stdout}",
            words.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// Kills a process (signal 9); false if it is gone already.
    ///
    /// # Errors
    /// It may not be killed.
    pub fn kill(&self, pid: u32) -> Result<bool> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process has this id")?;
        match kill_process(pid, Signal::KILL) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error).context("killing a process"),
        }
    }

    /// Runs `work` on a thread in the host's network; sockets made there belong to it.
    ///
    /// # Errors
    /// The namespace can not be entered, or `work` failed.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_network_of(self.pid(), work)
    }

    /// A listening socket in the host's network.
    ///
    /// # Errors
    /// The address is taken.
    pub fn listen(&self, address: &str) -> Result<TcpListener> {
        self.in_network(|| TcpListener::bind(address).with_context(|| format!("listening on {address}")))
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.janitor.wait();
    }
}

/// Runs `work` on a thread in the network of a process; sockets made there belong to it.
///
/// # Errors
/// The namespace can not be entered, or `work` failed.
pub fn in_network_of<T: Send>(pid: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = std::fs::File::open(&path).with_context(|| format!("opening {path}"))?;
    let joined = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("entering {path}"))?;
            work()
        });
        thread.join()
    });
    match joined {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests;
