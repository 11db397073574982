//! The payload that runs tests of the whole in a guest: the programs, the test executables, and a script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// Who makes cgroups in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Driver {
    /// The daemon.
    Cgroupfs,
    /// systemd.
    Systemd,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// Collects the payload in a temporary directory. `tests` are `FILE` or `FILE::NAME` of critest/tests.
pub(super) fn collect(
    workspace: &Workspace,
    binaries: &Path,
    tests: &[String],
    driver: Driver,
) -> Result<tempfile::TempDir> {
    let payload = tempfile::tempdir()?;
    let bin = payload.path().join("bin");
    copy_tree(binaries, &bin)?;
    let mut script = format!(
        "export PODWRIGHT_BIN_DIR=/payload/bin PODWRIGHT_CGROUP_DRIVER={} RUST_BACKTRACE=0 TMPDIR=/var/tmp\nfailed=0\n\
         uname -r; stat -f -c %T /sys/fs/cgroup\n",
        driver.name()
    );
    for test in tests {
        let (file, name) = test.split_once("::").unwrap_or((test, ""));
        copy(&executable(workspace, file)?, &payload.path().join(file))?;
        script.push_str(&format!("/payload/{file} --test-threads=2 {name} || failed=1\n"));
    }
    script.push_str("exit $failed\n");
    fs::write(payload.path().join("run"), script)?;
    Ok(payload)
}

/// Builds a test of critest and returns its path.
fn executable(workspace: &Workspace, file: &str) -> Result<PathBuf> {
    let mut command = workspace.cargo(&[
        "test",
        "--quiet",
        "--no-run",
        "--package",
        "podwright-critest",
        "--test",
        file,
        "--message-format",
        "json",
    ]);
    let messages = process::read(&mut command)?;
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message.pointer("/target/name").and_then(Value::as_str) == Some(file)
            && let Some(path) = message.get("executable").and_then(Value::as_str)
        {
            return Ok(PathBuf::from(path));
        }
    }
    bail!("cargo built no test {file}; critest/tests has the names")
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}; run `cargo xtask build`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { copy_tree(&entry.path(), &target)? } else { copy(&entry.path(), &target)? }
    }
    Ok(())
}

/// Copies without debug information, which would only make the guest's disk larger.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let stripped = Command::new("strip").arg("-o").arg(to).arg(from).output().context("starting strip, of binutils")?;
    if !stripped.status.success() {
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    ensure!(to.exists(), "{} was not copied", from.display());
    Ok(())
}
