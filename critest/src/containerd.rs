//! containerd in directories of its own, with any OCI runtime: a peer of the bench, and a caller of our own runtime.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use podwright_testutil::TestHost;
use serde_json::{Value, json};

/// A running containerd. It ends with this value.
pub struct Containerd {
    child: Child,
    program: PathBuf,
    host: TestHost,
}

impl Containerd {
    /// Starts it with this OCI runtime; its pause container runs `image`.
    ///
    /// # Errors
    /// If it is not installed, too old, or can not be started.
    pub fn start(host: TestHost, oci: &Path, image: &str) -> Result<Self> {
        let program = installed()?;
        let dir = host.dir().to_owned();
        for name in ["net.d", "certs.d"] {
            fs::create_dir_all(dir.join(name)).with_context(|| format!("making {name} in {}", dir.display()))?;
        }
        fs::write(dir.join("net.d/10-bench.conflist"), chain().to_string()).context("writing a conflist")?;
        fs::write(dir.join("containerd.toml"), configuration(&dir, oci, image))
            .context("writing containerd's configuration")?;
        // crun refuses both versions of cgroups at once.
        let _ = host.run(&["umount", "/sys/fs/cgroup/unified"]);
        let child = launch(&host, &program)?;
        Ok(Self { child, program, host })
    }

    /// The host that it runs in.
    #[must_use]
    pub fn host(&self) -> &TestHost {
        &self.host
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.host.dir()
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `unix://…` of its CRI.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.host.dir().join("containerd.sock").display())
    }

    /// Kills it.
    ///
    /// # Errors
    /// If it can not be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing containerd")?;
        self.child.wait().context("waiting for containerd")?;
        Ok(())
    }

    /// Starts it again.
    ///
    /// # Errors
    /// If it can not be executed.
    pub fn start_again(&mut self) -> Result<()> {
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

/// containerd's path, if it and its shim are there and new enough.
///
/// # Errors
/// They are not.
pub fn installed() -> Result<PathBuf> {
    let program = found("containerd")?;
    found("containerd-shim-runc-v2")?;
    let version = version_of(&program);
    if !version.contains(" 2.") {
        bail!("containerd 2 or newer is needed, and {} says {version:?}", program.display());
    }
    Ok(program)
}

/// bridge with masquerading and host-local, portmap: the least that a node has.
#[must_use]
pub fn chain() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "bench",
        "plugins": [
            {
                "type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.23.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}]
                }
            },
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    })
}

/// Path of a program in PATH or the usual places for administrators.
///
/// # Errors
/// It is nowhere; the text says which package has it.
pub fn found(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let place = places.find(|dir| dir.join(name).is_file());
    let place =
        place.with_context(|| format!("{name} is not in PATH; install Debian's package {name}, trixie's or newer"))?;
    Ok(place.join(name))
}

/// First line of what a program says of its version.
fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
