//! containerd in directories of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use podwright_testutil::TestHost;

use super::{chain, found, version_of};

/// A running containerd. It ends with this value.
pub(super) struct Containerd {
    child: Child,
    program: PathBuf,
    host: TestHost,
}

impl Containerd {
    /// Starts it with this OCI runtime; its pause container runs `image`.
    pub(super) fn start(host: TestHost, runtime: &str, image: &str) -> Result<Self> {
        let (program, oci) = (found("containerd")?, found(runtime)?);
        found("containerd-shim-runc-v2")?;
        let version = version_of(&program);
        if !version.contains(" 2.") {
            bail!("containerd 2 or newer is needed, and {} says {version:?}", program.display());
        }
        let dir = host.dir().to_owned();
        for name in ["net.d", "certs.d"] {
            fs::create_dir_all(dir.join(name)).with_context(|| format!("making {name} in {}", dir.display()))?;
        }
        fs::write(dir.join("net.d/10-bench.conflist"), chain().to_string()).context("writing a conflist")?;
        fs::write(dir.join("containerd.toml"), configuration(&dir, &oci, image))
            .context("writing containerd's configuration")?;
        // crun refuses both versions of cgroups at once.
        let _ = host.run(&["umount", "/sys/fs/cgroup/unified"]);
        let child = launch(&host, &program)?;
        Ok(Self { child, program, host })
    }

    pub(super) fn host(&self) -> &TestHost {
        &self.host
    }

    pub(super) fn dir(&self) -> &Path {
        self.host.dir()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn endpoint(&self) -> String {
        format!("unix://{}", self.host.dir().join("containerd.sock").display())
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing containerd")?;
        self.child.wait().context("waiting for containerd")?;
        Ok(())
    }

    pub(super) fn start_again(&mut self) -> Result<()> {
        self.child = launch(&self.host, &self.program)?;
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn launch(host: &TestHost, program: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(host.dir().join("containerd.log"));
    let log = log.context("opening containerd's log")?;
    host.command(program)
        .arg("--config")
        .arg(host.dir().join("containerd.toml"))
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting containerd")
}

fn configuration(dir: &Path, oci: &Path, image: &str) -> String {
    let (dir, oci) = (dir.display(), oci.display());
    format!(
        r#"version = 3
root = "{dir}/root"
state = "{dir}/state"

[grpc]
address = "{dir}/containerd.sock"

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{dir}/certs.d"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{image}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{oci}"
SystemdCgroup = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{dir}/cni/bin"]
conf_dir = "{dir}/net.d"

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.ttrpc.v1.ttrpc']
address = "{dir}/containerd.ttrpc.sock"

[debug]
address = "{dir}/debug.sock"
"#
    )
}
