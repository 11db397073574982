//! The payload that runs tests of the whole in a guest: the programs, the test executables, and a script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::image::Lsm;
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

/// Less time than that is not worth a beginning.
const LEAST_SECONDS: u64 = 60;

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

/// The daemon's label where SELinux is on: the policy has none for us, and that of another container engine fits. Its domain is made
/// permissive when the image is made: it is the containers that are to be confined.
const DAEMON_TYPE: &str = "crio_exec_t";

/// Where the programs lie in a guest with SELinux; the payload's disk has no labels.
const LABELLED: &str = "/usr/local/lib/podwright";

/// A directory that becomes the guest's second disk.
pub(super) struct Payload {
    dir: tempfile::TempDir,
    driver: Driver,
    lsm: Lsm,
    /// When all must have ended, as seconds since 1970: the guest has the machine's clock.
    until: Option<u64>,
    script: String,
}

impl Payload {
    /// The programs, and no test yet.
    pub(super) fn new(
        workspace: &Workspace,
        binaries: &Path,
        driver: Driver,
        lsm: Lsm,
        until: Option<SystemTime>,
    ) -> Result<Self> {
        // Not in /tmp: it is large.
        let dir = tempfile::tempdir_in(&workspace.target)?;
        copy_tree(binaries, &dir.path().join("bin"))?;
        let mut script = format!(
            "export PODWRIGHT_BIN_DIR=/payload/bin PODWRIGHT_CGROUP_DRIVER={} RUST_BACKTRACE=0 TMPDIR=/var/tmp\nfailed=0\n\
             uname -r; stat -f -c %T /sys/fs/cgroup; cat /sys/kernel/security/lsm; echo\n",
            driver.name()
        );
        if lsm == Lsm::Selinux {
            script.push_str(&format!(
                "cat /proc/self/attr/current; getenforce; mkdir -p {LABELLED} && cp -r /payload/bin {LABELLED}/ && \
                 chcon -t {DAEMON_TYPE} {LABELLED}/bin/podwrightd && export PODWRIGHT_BIN_DIR={LABELLED}/bin || failed=1\n"
            ));
        }
        let until = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
        Ok(Self { dir, driver, lsm, until, script })
    }

    /// Adds a test of critest/tests, `FILE` or `FILE::NAME`.
    pub(super) fn add_test(&mut self, workspace: &Workspace, test: &str) -> Result<()> {
        let (file, name) = test.split_once("::").unwrap_or((test, ""));
        copy(&executable(workspace, file)?, &self.dir.path().join(file))?;
        self.run(test, &format!("/payload/{file} --test-threads=2 {name} || failed=1\n"));
        Ok(())
    }

    /// Runs `script` if there is time.
    fn run(&mut self, name: &str, script: &str) {
        let guarded = self.until.map(|until| {
            format!(
                "if [ $(({until} - $(date +%s))) -ge {LEAST_SECONDS} ]; then\n{script}\
                 else echo 'not run, for want of time: {name}'; fi\n"
            )
        });
        self.script.push_str(guarded.as_deref().unwrap_or(script));
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
        let labelled = match self.lsm {
            Lsm::Apparmor => String::new(),
            Lsm::Selinux => format!("chcon -t {DAEMON_TYPE} /usr/local/bin/podwrightd || failed=1\n"),
        };
        let limit = match self.until {
            None => format!("--limit-seconds {limit_seconds}"),
            Some(until) => format!("--limit-seconds $(({until} - $(date +%s))) --leave-at-limit"),
        };
        let script = format!(
            "install -D -t /usr/local/bin /payload/bin/podwrightd /payload/bin/podwright-shim\n{labelled}\
             cp {KIT}/podwright.service /etc/systemd/system/ && systemctl daemon-reload && systemctl start podwright || failed=1\n\
             {KIT}/runner --programs {KIT}/programs --parts {KIT}/parts --skips {KIT}/skips.toml --output /var/tmp/critest \
             --endpoint unix:///run/podwright/podwright.sock --hosts-dir /etc/podwright/certs.d {limit} \
             --{words} || {{ failed=1; journalctl -u podwright -o cat --no-pager | grep -E ' (WARN|ERROR) ' | tail -n 40; }}\n",
        );
        self.run("critest", &script);
        Ok(())
    }

    /// Writes the script and hands the directory out.
    pub(super) fn finish(mut self) -> Result<tempfile::TempDir> {
        if self.lsm == Lsm::Selinux {
            // What was denied, by the processes' types and the files': what the permissive domain would lack, too.
            self.script.push_str(
                "dmesg | grep -o 'avc:  denied .*' | sed -E 's/ (pid|comm|name|ino|path|dev)=[^ ]*//g' | sort | uniq -c | sort -rn | head -n 60\n",
            );
        }
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

    /// What a shell prints that runs a payload of one step.
    fn printed(until: Option<u64>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut payload =
            Payload { dir, driver: Driver::Cgroupfs, lsm: Lsm::Apparmor, until, script: "failed=0\n".to_owned() };
        payload.run("step", "echo ran\n");
        let output = Command::new("sh").args(["-e", "-c", &payload.script]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_step_that_has_no_time_left_is_named() {
        assert_eq!(printed(None), "ran\n");
        assert_eq!(printed(Some(0)), "not run, for want of time: step\n");
        assert_eq!(printed(Some(u64::from(u32::MAX))), "ran\n");
    }

    #[test]
    fn words_reach_the_guest_whole() {
        assert_eq!(shell_quoted("a 'b' $c"), "'a '\\''b'\\'' $c'");
    }
}
