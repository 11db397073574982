//! OCI runtimes alone: a bundle of `true`, from the start of the runtime to its end. Ours is `podwright-bundle`, which is our runtime
//! library and nothing else; crun and runc are taken where a contender uses them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use podwright_testutil::TestHost;
use serde_json::{Value, json};

use super::Bench;
use crate::contender::{Kind, found};
use crate::lane::{Lanes, Part};
use crate::report::{Better, Row};

pub(super) const ROW: &str = "a bundle of true run by the OCI runtime alone";

/// Runs of each.
const RUNS: u32 = 100;
/// Runs in a row, before it is another's turn.
const TURN: u32 = 5;
const CAPABILITIES: [&str; 4] = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"];

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[ROW]) {
        return;
    }
    let mut peers: Vec<(String, &str)> = Vec::new();
    for kind in [Kind::ContainerdRunc, Kind::ContainerdCrun] {
        if bench.contenders.iter().any(|one| one.name == kind.name()) {
            peers.push((kind.name().to_owned(), kind.runtime()));
        }
    }
    bench.part("bundles, by the OCI runtimes alone");
    let names: Vec<&str> = ["podwright"].into_iter().chain(peers.iter().map(|(name, _)| name.as_str())).collect();
    let (mut row, mut part) = (Lanes::of(names.iter().copied()), Part::of(names.iter().copied()));
    let place = part.step(0, async { Place::new() }).await;
    if let Some(place) = place {
        for turn in 0..RUNS / TURN {
            for index in 0..names.len() {
                let runtime = peers.get(index.wrapping_sub(1)).map(|(_, runtime)| *runtime);
                let words = async { place.time(turn * TURN, TURN, &place.words(runtime)?) };
                for milliseconds in part.step(index, words).await.unwrap_or_default() {
                    row.push_value(index, milliseconds);
                }
            }
        }
    }
    bench.add(Row::new(ROW, "ms", Better::Less, row.after(&part)).times(1.0));
}

/// A host with a bundle.
pub(super) struct Place {
    host: TestHost,
    program: PathBuf,
}

impl Place {
    pub(super) fn new() -> Result<Self> {
        let own = std::env::current_exe().context("asking for the path of this program")?;
        let program = own.with_file_name("podwright-bundle");
        ensure!(program.is_file(), "{} is missing; `cargo xtask bench` builds it", program.display());
        let host = TestHost::new()?;
        // crun refuses both versions of cgroups at once.
        let _ = host.run(&["umount", "/sys/fs/cgroup/unified"]);
        let place = Self { host, program };
        make_root(&place.bundle().join("rootfs"))?;
        let config = specification(&format!("{}/bundle", place.host.cgroup_parent()));
        fs::write(place.bundle().join("config.json"), config.to_string()).context("writing config.json")?;
        Ok(place)
    }

    fn bundle(&self) -> PathBuf {
        self.host.dir().join("bundle")
    }

    pub(super) fn rootfs(&self) -> String {
        self.bundle().join("rootfs").display().to_string()
    }

    pub(super) fn program(&self) -> String {
        self.program.display().to_string()
    }

    /// The command line that runs the bundle.
    fn words(&self, runtime: Option<&str>) -> Result<Vec<String>> {
        let bundle = self.bundle().display().to_string();
        let Some(runtime) = runtime else { return Ok(vec![self.program(), "run".into(), bundle]) };
        let program = found(runtime)?.display().to_string();
        let state = self.host.dir().join(runtime).display().to_string();
        let name = format!("{}-{{}}", self.host.id());
        let words = [program.as_str(), "--root", &state, "run", "--bundle", &bundle, &name];
        Ok(words.map(str::to_owned).to_vec())
    }

    /// Milliseconds of each of `count` runs of a command in the host.
    pub(super) fn time(&self, first: u32, count: u32, words: &[String]) -> Result<Vec<f64>> {
        let mut command = self.host.command(&self.program);
        command.args(["time", "--first", &first.to_string(), "--count", &count.to_string(), "--"]).args(words);
        let output = command.output().context("starting podwright-bundle")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} ended with {}: {said}", words.join(" "), output.status);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let times: Vec<f64> = text.lines().filter_map(|line| line.parse::<f64>().ok()).collect();
        Ok(times.into_iter().map(|nanoseconds| nanoseconds / 1e6).collect())
    }
}

/// busybox, static, and the directories that are mounted over.
fn make_root(root: &Path) -> Result<()> {
    for dir in ["bin", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("making {dir} of a root file system"))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copying busybox; is busybox-static installed?")?;
    std::os::unix::fs::symlink("busybox", root.join("bin/true")).context("linking true")
}

/// As `crun spec` and `runc spec` write it, with a cgroup and without a terminal.
fn specification(cgroup: &str) -> Value {
    let mount = |kind: &str, place: &str, options: &[&str]| json!({"destination": place, "type": kind, "source": kind, "options": options});
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "hostname": "bundle",
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        },
        "mounts": [
            mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
            mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
