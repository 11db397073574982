//! Where the programs under test are, and what kind of host this is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Names the directory with podwrightd, podwright-shim, crictl and `cni/`; set where there is no build tree (in a VM).
const BIN_DIR: &str = "PODWRIGHT_BIN_DIR";
/// `cgroupfs` or `systemd`; the default is cgroupfs.
const DRIVER: &str = "PODWRIGHT_CGROUP_DRIVER";

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The daemon and its shims.
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
}

impl CgroupDriver {
    /// What the environment asks for.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var(DRIVER).as_deref() {
            Ok("systemd") => Self::Systemd,
            _ => Self::Cgroupfs,
        }
    }

    /// As the configuration file spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// Path of a program under test, or of one that was built for the tests.
///
/// # Errors
/// It is not there; the text says how to build it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = bin_dir()?.join(name);
    if !path.exists() {
        bail!("{} is missing; run `cargo xtask build`, or set {BIN_DIR}", path.display());
    }
    Ok(path)
}

/// The directory of the CNI plugins that critest/go.mod pins.
///
/// # Errors
/// They are not built.
pub fn cni_bin_dir() -> Result<PathBuf> {
    program("cni")
}

/// `target/podwright`, found from the test's own path, unless the environment names another.
fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BIN_DIR) {
        return Ok(PathBuf::from(dir));
    }
    let own = std::env::current_exe().context("asking for the path of this program")?;
    let found = own.ancestors().map(|dir| dir.join("podwright")).find(|dir| dir.is_dir());
    found.with_context(|| format!("no directory podwright above {}; run `cargo xtask build`", shown(&own)))
}

/// Writes a program that may be executed at once. Another process writes it: a descriptor of ours, inherited by a child that another thread
/// starts at that moment, would make the file busy for whoever executes it.
///
/// # Errors
/// It can not be written.
pub fn write_program(path: &Path, text: &str) -> Result<()> {
    let script = r#"cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0""#;
    let mut writer = Command::new("sh").args(["-c", script]).arg(path).stdin(Stdio::piped()).spawn().context("sh")?;
    let written = writer.stdin.take().context("no pipe")?.write_all(text.as_bytes());
    let status = writer.wait().context("sh")?;
    written.with_context(|| format!("writing {}", shown(path)))?;
    ensure!(status.success(), "writing {}: {status}", shown(path));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A CRIU that works with this kernel: `PODWRIGHT_CRIU`, or the one that is installed. `None` is said, for a test that then tries nothing.
#[allow(clippy::print_stdout)]
pub fn criu() -> Option<PathBuf> {
    let program = std::env::var_os("PODWRIGHT_CRIU").map_or_else(|| "/usr/sbin/criu".into(), PathBuf::from);
    let works = Command::new(&program).arg("check").output().is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: {} is no CRIU that works with this kernel", program.display());
    }
    works.then_some(program)
}
