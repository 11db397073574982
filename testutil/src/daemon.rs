//! A podwrightd in a host of its own.
//!
//! Owns starting, restarting, stopping and asking it; what it must answer is the tests' part.

mod disk;
mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use anyhow::{Context, Result, bail, ensure};
use tonic::transport::{Channel, Endpoint};

use crate::census::Census;
use crate::cni;
use crate::host::TestHost;
use crate::registry::Registry;
use crate::tools;
pub use disk::SmallDisk;
use process::{Process, Start};

/// Lines of its log that a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// How a daemon is to be.
#[derive(Debug, Clone)]
pub struct DaemonBuilder {
    network: &'static str,
    cni_version: Option<String>,
    cni_bin_dir: Option<PathBuf>,
    log_level: String,
    nri: String,
    extra_config: String,
    small_disk: Option<SmallDisk>,
}

impl Default for DaemonBuilder {
    fn default() -> Self {
        Self {
            network: "embedded",
            cni_version: None,
            cni_bin_dir: None,
            log_level: "debug".into(),
            nri: String::new(),
            extra_config: String::new(),
            small_disk: None,
        }
    }
}

impl DaemonBuilder {
    /// Network by plugins; the directory for conflists is empty at first.
    #[must_use]
    pub fn cni(mut self) -> Self {
        self.network = "cni";
        self
    }

    /// Network by the plugin chain of [`cni::bridge_conflist`].
    #[must_use]
    pub fn bridge_chain(mut self, cni_version: &str) -> Self {
        self.network = "cni";
        self.cni_version = Some(cni_version.into());
        self
    }

    /// Plugins of another directory than those that critest/go.mod pins.
    #[must_use]
    pub fn cni_bin_dir(mut self, dir: &Path) -> Self {
        self.cni_bin_dir = Some(dir.into());
        self
    }

    /// `info` for measurements.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        self.log_level = level.into();
        self
    }

    /// Lines for the table `[nri]`; the socket is `nri.sock` of the test's directory, plugins and their configurations are read from
    /// `nri-plugins` and `nri-conf`.
    #[must_use]
    pub fn nri(mut self, lines: &str) -> Self {
        self.nri.push_str(lines);
        self
    }

    /// Lines for the end of the configuration file.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.extra_config.push_str(lines);
        self
    }

    /// Puts its root, its pods' logs and (on a tmpfs) its state on one small disk of their own, mounted at `disk`. Only the host sees
    /// it: see [`Daemon::inside`].
    #[must_use]
    pub fn small_disk(mut self, disk: SmallDisk) -> Self {
        self.small_disk = Some(disk);
        self
    }

    /// Starts it in a new host and waits until it says that it is ready.
    ///
    /// # Errors
    /// It is not built, or ended, or did not get ready in time; the text holds its log.
    pub fn start(self) -> Result<Daemon> {
        self.start_in(TestHost::new()?)
    }

    /// Starts it in `host`.
    ///
    /// # Errors
    /// It is not built, or ended, or did not get ready in time; the text holds its log.
    pub fn start_in(self, host: TestHost) -> Result<Daemon> {
        let dir = host.dir().to_owned();
        // Containers of any user reach mounts below it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
        for name in ["net.d", "certs.d", "logs", "plugins", "volumes", "nri-plugins", "nri-conf"] {
            fs::create_dir_all(dir.join(name)).with_context(|| format!("making {name} in {}", dir.display()))?;
        }
        if let Some(disk) = &self.small_disk {
            disk.mount(&host)?;
        }
        if let Some(version) = &self.cni_version {
            cni::write_bridge_chain(&dir.join("net.d"), version)?;
        }
        fs::write(dir.join("config.toml"), self.config_file(&host)).context("writing the daemon's configuration")?;
        let arguments = self.arguments(&dir)?;
        let process = Process::start(&host, &arguments)?;
        Ok(Daemon { process: Some(process), arguments, plugins: self.network == "cni", host })
    }

    fn config_file(&self, host: &TestHost) -> String {
        let at = |name: &str| host.dir().join(name).display().to_string();
        format!(
            "[network]\nmode = \"{}\"\n\n[cgroup]\ndriver = \"{}\"\n\n\
             [nri]\nsocket = \"{}\"\nplugin_dir = \"{}\"\nconfig_dir = \"{}\"\n{}\n\n[images]\nhosts_dir = \"{}\"\n\n{}",
            self.network,
            host.cgroup_driver().name(),
            at("nri.sock"),
            at("nri-plugins"),
            at("nri-conf"),
            self.nri,
            at("certs.d"),
            self.extra_config
        )
    }

    fn arguments(&self, dir: &Path) -> Result<Vec<String>> {
        let plugins = match (&self.cni_bin_dir, self.network) {
            (Some(dir), _) => dir.clone(),
            (None, "cni") => tools::cni_bin_dir()?,
            (None, _) => dir.join("no-plugins"),
        };
        let at = |name: &str| dir.join(name).display().to_string();
        Ok([
            ("--config", at("config.toml")),
            ("--root", at("root")),
            ("--state", at("state")),
            ("--listen", format!("unix://{}", at("podwright.sock"))),
            ("--cni-conf-dir", at("net.d")),
            ("--cni-bin-dir", plugins.display().to_string()),
            ("--cni-bin-dir", at("plugins")),
            ("--log-level", self.log_level.clone()),
            ("--shim", tools::program("podwright-shim")?.display().to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect())
    }
}

/// A running daemon. It, its pods and its host end with this value; a failed test shows its log.
pub struct Daemon {
    // First, so that the daemon ends before its host.
    process: Option<Process>,
    arguments: Vec<String>,
    plugins: bool,
    host: TestHost,
}

impl Daemon {
    /// Describes one.
    #[must_use]
    pub fn builder() -> DaemonBuilder {
        DaemonBuilder::default()
    }

    /// One on the embedded network.
    ///
    /// # Errors
    /// See [`DaemonBuilder::start`].
    pub fn start() -> Result<Self> {
        DaemonBuilder::default().start()
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &TestHost {
        &self.host
    }

    /// A path in the test's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.host.dir().join(name)
    }

    /// The same path as the host sees it, with what is mounted there.
    #[must_use]
    pub fn inside(&self, name: &str) -> PathBuf {
        let dir = self.host.dir();
        Path::new(&format!("/proc/{}/root", self.host.pid())).join(dir.strip_prefix("/").unwrap_or(dir)).join(name)
    }

    /// Its pid while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Kills it (signal 9), as a crash would. Pods go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the daemon does not run")?.kill()
    }

    /// Asks it to end (SIGTERM) and waits. Pods go on.
    ///
    /// # Errors
    /// It does not run, did not end in time, or ended with an error.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the daemon does not run")?.stop()
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// See [`DaemonBuilder::start`].
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the daemon runs already");
        self.process = Some(Process::start(&self.host, &self.arguments)?);
        Ok(())
    }

    /// Starts it again so that it kills itself at a fail point, after it passed that `passes` times; needs a daemon that was built
    /// with the feature `failpoints`. False if it did so before it was ready.
    ///
    /// # Errors
    /// It ended in another way, or was not ready in time.
    pub fn start_armed(&mut self, point: &str, passes: u32) -> Result<bool> {
        ensure!(self.process.is_none(), "the daemon runs already");
        let armed = format!("{point}={passes}");
        match Process::launch(&self.host, &self.arguments, &[("PODWRIGHT_FAILPOINT", &armed)])? {
            Start::Ready(process) => self.process = Some(process),
            Start::Ended(status) if killed(status) => return Ok(false),
            Start::Ended(status) => bail!("podwrightd, armed with {point:?}, ended with {status}; its log tells why"),
        }
        Ok(true)
    }

    /// Whether it was killed, or killed itself, since it was started.
    ///
    /// # Errors
    /// It ended in another way.
    pub fn was_killed(&mut self) -> Result<bool> {
        let status = match &mut self.process {
            None => return Ok(true),
            Some(process) => process.ended()?,
        };
        let Some(status) = status else { return Ok(false) };
        self.process = None;
        ensure!(killed(status), "the daemon ended by itself with {status}");
        Ok(true)
    }

    /// Whether pods of this daemon leave something of their network behind that the next pods use, as the bridge plugin does.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        self.plugins
    }

    /// A gRPC connection.
    ///
    /// # Errors
    /// The socket can not be reached.
    pub async fn channel(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(self.endpoint()).context("making an endpoint")?;
        endpoint.connect().await.with_context(|| format!("connecting to {}", self.endpoint()))
    }

    /// `unix://…` of its socket.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path("podwright.sock").display())
    }

    /// Tells the daemon, by a hosts.toml, how to reach a registry.
    ///
    /// # Errors
    /// The file can not be written.
    pub fn trust(&self, registry: &Registry) -> Result<()> {
        let ca = registry.ca().map(|path| format!("ca = \"{}\"\n", path.display())).unwrap_or_default();
        self.write_hosts_toml(registry.address(), &format!("server = \"{}\"\n{ca}", registry.url()))
    }

    /// Sends the pulls of every registry to this one.
    ///
    /// # Errors
    /// The file can not be written.
    pub fn mirror_all(&self, registry: &Registry) -> Result<()> {
        let url = registry.url();
        self.write_hosts_toml("_default", &format!("[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"))
    }

    fn write_hosts_toml(&self, name: &str, text: &str) -> Result<()> {
        let dir = self.path("certs.d").join(name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        fs::write(dir.join("hosts.toml"), text).with_context(|| format!("writing hosts.toml for {name}"))
    }

    /// Counts what its host holds now, its root and state directories included.
    ///
    /// # Errors
    /// Something can not be read.
    pub fn census(&self) -> Result<Census> {
        Census::take(&self.host, &[&self.inside("root"), &self.inside("state")])
    }

    /// A crictl command for this daemon.
    ///
    /// # Errors
    /// crictl is not built.
    pub fn crictl_command(&self) -> Result<Command> {
        let mut command = self.host.command(tools::program("crictl")?);
        command.args(["--timeout", "60s", "--config", "/dev/null"]);
        command.args(["--runtime-endpoint", &self.endpoint(), "--image-endpoint", &self.endpoint()]);
        Ok(command)
    }

    /// Runs crictl and returns its standard output.
    ///
    /// # Errors
    /// It failed; the text holds what it printed.
    pub fn crictl(&self, words: &[&str]) -> Result<String> {
        let output = self.crictl_output(words)?;
        if !output.status.success() {
            bail!("crictl {} failed: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        String::from_utf8(output.stdout).context("crictl printed no text")
    }

    /// Runs crictl and returns everything about its end.
    ///
    /// # Errors
    /// It can not be started.
    pub fn crictl_output(&self, words: &[&str]) -> Result<Output> {
        self.crictl_command()?.args(words).output().context("starting crictl")
    }

    /// Runs `podwright` for this daemon and returns everything about its end.
    ///
    /// # Errors
    /// It is not built or can not be started.
    pub fn podwright(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.host.command(tools::program("podwright")?);
        command.arg("--state").arg(self.path("state")).arg("--root").arg(self.path("root"));
        command.args(words).output().context("starting podwright")
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        process::log(&self.host)
    }
}

fn killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(9)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.get(lines.len().saturating_sub(SHOWN_LOG_LINES)..).unwrap_or_default();
            #[allow(clippy::print_stderr)] // Where a failed test's output goes.
            {
                eprintln!("--- the daemon's log, last {} lines\n{}\n---", shown.len(), shown.join("\n"));
            }
        }
    }
}
