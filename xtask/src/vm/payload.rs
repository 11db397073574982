//! The payload that runs tests of the whole in a guest: the programs, the test executables, and a script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::critest::{self, Kit};
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

/// Where critest's kit lies in the guest.
const KIT: &str = "/payload/critest";

/// The daemon as a node has it: a unit, whose pods outlive it.
const SERVICE: &str = "[Unit]
Description=Podwright
[Service]
Type=notify
ExecStart=/usr/local/bin/podwrightd --cgroup-driver @DRIVER@ --log-level debug
Delegate=yes
KillMode=process
TasksMax=infinity
LimitNOFILE=1048576
";

/// A directory that becomes the guest's second disk.
pub(super) struct Payload {
    dir: tempfile::TempDir,
    driver: Driver,
    script: String,
}

impl Payload {
    /// The programs, and no test yet.
    pub(super) fn new(workspace: &Workspace, binaries: &Path, driver: Driver) -> Result<Self> {
        // Not in /tmp: it is large.
        let dir = tempfile::tempdir_in(&workspace.target)?;
        copy_tree(binaries, &dir.path().join("bin"))?;
        let script = format!(
            "export PODWRIGHT_BIN_DIR=/payload/bin PODWRIGHT_CGROUP_DRIVER={} RUST_BACKTRACE=0 TMPDIR=/var/tmp\nfailed=0\n\
             uname -r; stat -f -c %T /sys/fs/cgroup\n",
            driver.name()
        );
        Ok(Self { dir, driver, script })
    }

    /// Adds a test of critest/tests, `FILE` or `FILE::NAME`.
    pub(super) fn add_test(&mut self, workspace: &Workspace, test: &str) -> Result<()> {
        let (file, name) = test.split_once("::").unwrap_or((test, ""));
        copy(&executable(workspace, file)?, &self.dir.path().join(file))?;
        self.script.push_str(&format!("/payload/{file} --test-threads=2 {name} || failed=1\n"));
        Ok(())
    }

    /// Adds critest, against a daemon that systemd runs.
    pub(super) fn add_critest(&mut self, workspace: &Workspace, words: &[String], limit_seconds: u64) -> Result<()> {
        let kit = Kit::ensure(workspace, critest::Options::default().cri_tools().as_deref())?;
        let to = self.dir.path().join("critest");
        copy_tree(&kit.programs, &to.join("programs"))?;
        copy_tree(&kit.parts, &to.join("parts"))?;
        copy(&kit.runner, &to.join("runner"))?;
        fs::copy(&kit.skips, to.join("skips.toml")).context("copying skips.toml")?;
        fs::write(to.join("podwright.service"), SERVICE.replace("@DRIVER@", self.driver.name()))?;
        let words: String = words.iter().map(|word| format!(" {}", shell_quoted(word))).collect();
        self.script.push_str(&format!(
            "install -D -t /usr/local/bin /payload/bin/podwrightd /payload/bin/podwright-shim\n\
             cp {KIT}/podwright.service /etc/systemd/system/ && systemctl daemon-reload && systemctl start podwright || failed=1\n\
             {KIT}/runner --programs {KIT}/programs --parts {KIT}/parts --skips {KIT}/skips.toml --output /var/tmp/critest \
             --endpoint unix:///run/podwright/podwright.sock --hosts-dir /etc/podwright/certs.d --limit-seconds {limit_seconds} \
             --{words} || {{ failed=1; journalctl -u podwright -o cat --no-pager | grep -E ' (WARN|ERROR) ' | tail -n 40; }}\n",
        ));
        Ok(())
    }

    /// Writes the script and hands the directory out.
    pub(super) fn finish(mut self) -> Result<tempfile::TempDir> {
        self.script.push_str("exit $failed\n");
        fs::write(self.dir.path().join("run"), &self.script)?;
        Ok(self.dir)
    }
}

fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_guest_whole() {
        assert_eq!(shell_quoted("a 'b' $c"), "'a '\\''b'\\'' $c'");
    }
}
