//! The daemon as a unit of systemd: restarted, stopped and upgraded under running pods. And scopes that systemd removes.
//!
//! Needs systemd, so it does nothing elsewhere and says so; `cargo xtask vm systemd` runs it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_critest::{Cri, Pod, World, linux, must, read_log, shell, with_world};
use podwright_testutil::{Registry, TestHost, base, program};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Endpoint;

/// Prints numbers without end, so that a gap in the log would show.
const COUNTER: &str = "i=0; while :; do echo n $i; i=$((i+1)); sleep 0.05; done";

#[tokio::test]
async fn root_pods_outlive_restart_stop_and_upgrade_of_the_unit() {
    if has_systemd() {
        must(outlive().await);
    }
}

/// systemd removes a scope, and with it what the kernel counted, as soon as its last process has ended. The supervisor may come later.
#[test]
fn root_an_oom_kill_is_told_where_systemd_was_faster_than_the_supervisor() {
    if has_systemd() {
        with_world(killed_while_the_supervisor_stands_still);
    }
}

#[allow(clippy::print_stdout)]
fn has_systemd() -> bool {
    let it_runs = Path::new("/run/systemd/system").is_dir();
    if !it_runs {
        println!("systemd does not run this machine: nothing was tried; see `cargo xtask vm systemd`");
    }
    it_runs
}

async fn killed_while_the_supervisor_stands_still(world: &mut World) -> Result<()> {
    let pod = world.run_pod_named("oom").await?;
    let program = "until [ -e /go ]; do sleep 0.1; done; head -c 200000000 /dev/zero | tail";
    let mut greedy = shell("greedy", &world.image, program);
    linux(&mut greedy).0.memory_limit_in_bytes = 16 << 20;
    let id = world.run(&pod, &greedy).await?;
    let pid = world.pid(&id).await?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("reading the container's cgroup")?;
    let scope = groups.trim().strip_prefix("0::/").context("the container is in no cgroup of version 2")?;
    let scope = Path::new("/sys/fs/cgroup").join(scope);
    ensure!(scope.is_dir(), "{} is not there", scope.display());

    let supervisor = parent_of(pid)?;
    kill_process(supervisor, Signal::STOP).context("stopping the supervisor")?;
    let removed = go_on_until_it_is_gone(pid, &scope).await;
    kill_process(supervisor, Signal::CONT).context("continuing the supervisor")?;
    removed?;
    let status = world.wait(&id, 60).await?;
    ensure!(status.reason == "OOMKilled" && status.exit_code == 137, "{status:?}");

    // Nobody was killed for want of memory in this one, only before it in the pod.
    let id = world.run_shell(&pod, "killed", "sleep 1000").await?;
    world.stop(&id, 0).await?;
    let status = world.wait(&id, 60).await?;
    ensure!(status.reason == "Error" && status.exit_code == 137, "{status:?}");
    Ok(())
}

async fn go_on_until_it_is_gone(pid: u32, scope: &Path) -> Result<()> {
    fs::write(format!("/proc/{pid}/root/go"), "").context("letting the program go on")?;
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while scope.exists() {
        ensure!(Instant::now() < give_up_at, "systemd has not removed {}", scope.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn parent_of(pid: u32) -> Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading the container's status")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent in the status")?;
    Pid::from_raw(parent.trim().parse()?).context("the parent's pid is 0")
}

async fn outlive() -> Result<()> {
    let unit = Unit::install()?;
    let registry = Registry::start_in(&unit.host)?;
    let image = registry.push(&base::busybox()?, "busybox", "1")?;
    unit.trust(&registry)?;
    unit.systemctl("start")?;
    let mut cri = unit.connect().await?;
    cri.pull(&image).await?;
    let pod = cri.run_pod_named("outlives").await?;
    let id = cri.run(&pod, &shell("main", &image, COUNTER)).await?;
    let pid = cri.pid(&id).await?;

    unit.systemctl("restart")?;
    cri = unit.connect().await?;
    goes_on(&mut cri, &pod, &id, pid).await.context("after a restart")?;

    unit.systemctl("stop")?;
    counts_on(&cri, &pod).await.context("while the unit is stopped")?;
    unit.systemctl("start")?;
    cri = unit.connect().await?;
    goes_on(&mut cri, &pod, &id, pid).await.context("after a stop and a start")?;

    unit.replace_programs()?;
    unit.systemctl("restart")?;
    ensure!(unit.runs_new_program()?, "the unit does not run the program that was put in place");
    cri = unit.connect().await?;
    goes_on(&mut cri, &pod, &id, pid).await.context("after an upgrade")?;
    // The old shim works for the new daemon, and a pod with the new shim stands beside it.
    let second = cri.run(&pod, &shell("second", &image, "sleep 1000")).await.context("in the old pod")?;
    ensure!(cri.sh(&second, "echo in").await? == "in", "exec in a new container of an old pod");
    let fresh = cri.run_pod_named("fresh").await?;
    let third = cri.run(&fresh, &shell("main", &image, "sleep 1000")).await.context("in a new pod")?;
    ensure!(cri.sh(&third, "echo in").await? == "in", "exec in a new pod");

    for pod in [pod, fresh] {
        cri.remove_pod(&pod.id).await?;
    }
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "the container is still there");
    unit.systemctl("stop")
}

/// The same process, an unbroken log, an exec.
async fn goes_on(cri: &mut Cri, pod: &Pod, id: &str, pid: u32) -> Result<()> {
    let now = cri.pid(id).await?;
    ensure!(now == pid, "the container's process was {pid} and is {now}");
    ensure!(cri.sh(id, "echo in").await? == "in", "exec");
    counts_on(cri, pod).await
}

/// The log grows, and no number is missing.
async fn counts_on(cri: &Cri, pod: &Pod) -> Result<()> {
    let path = cri.log_path(pod, "main");
    let seen = read_log(&path)?.len();
    cri.wait_for_log(pod, "main", &format!("n {}", seen + 10)).await?;
    for (index, line) in read_log(&path)?.iter().enumerate() {
        let text = String::from_utf8_lossy(&line.text);
        ensure!(text == format!("n {index}"), "line {index} of the log is {text}");
    }
    Ok(())
}

/// A unit that lives until the next boot at most, in the network of a test host.
struct Unit {
    name: String,
    dir: PathBuf,
    host: TestHost,
}

impl Unit {
    fn install() -> Result<Self> {
        let host = TestHost::new()?;
        let dir = host.dir().to_owned();
        let unit = Self { name: format!("podwright-{}.service", host.id()), dir, host };
        for name in ["bin", "certs.d", "logs"] {
            fs::create_dir_all(unit.dir.join(name))?;
        }
        unit.replace_programs()?;
        let hosts = unit.dir.join("certs.d").display().to_string();
        let config = format!(
            "[network]\nmode = \"embedded\"\n\n[cgroup]\ndriver = \"{}\"\n\n[nri]\nsocket = \"{}\"\n\n\
             [images]\nhosts_dir = \"{hosts}\"\n",
            unit.host.cgroup_driver().name(),
            unit.dir.join("nri.sock").display()
        );
        fs::write(unit.dir.join("config.toml"), config)?;
        fs::write(unit.path(), unit.text())?;
        systemctl(&["daemon-reload"])?;
        Ok(unit)
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/systemd/system").join(&self.name)
    }

    /// As a node has it, with directories of its own.
    fn text(&self) -> String {
        let dir = self.dir.display();
        format!(
            "[Unit]\nDescription=Podwright under test\n[Service]\nType=notify\nDelegate=yes\nKillMode=process\n\
             NetworkNamespacePath=/proc/{}/ns/net\nPrivateMounts=no\n\
             ExecStart={dir}/bin/podwrightd --config {dir}/config.toml --root {dir}/root --state {dir}/state \
             --listen unix://{dir}/podwright.sock --shim {dir}/bin/podwright-shim --log-level debug\n",
            self.host.pid()
        )
    }

    /// Puts the programs in place as a package manager does: new files under the old names.
    fn replace_programs(&self) -> Result<()> {
        for name in ["podwrightd", "podwright-shim"] {
            let new = self.dir.join("bin").join(format!("{name}.new"));
            fs::copy(program(name)?, &new).with_context(|| format!("copying {name}"))?;
            fs::rename(&new, self.dir.join("bin").join(name)).with_context(|| format!("replacing {name}"))?;
        }
        Ok(())
    }

    fn runs_new_program(&self) -> Result<bool> {
        let pid = systemctl(&["show", "--property=MainPID", "--value", &self.name])?;
        let running = fs::metadata(format!("/proc/{}/exe", pid.trim())).context("looking at the unit's program")?;
        Ok(running.ino() == fs::metadata(self.dir.join("bin/podwrightd"))?.ino())
    }

    fn trust(&self, registry: &Registry) -> Result<()> {
        let dir = self.dir.join("certs.d").join(registry.address());
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join("hosts.toml"), format!("server = \"{}\"\n", registry.url()))?)
    }

    fn systemctl(&self, verb: &str) -> Result<()> {
        systemctl(&[verb, &self.name]).map(|_| ()).with_context(|| self.journal())
    }

    /// The unit says that it is ready before systemctl returns, so there is nothing to wait for.
    async fn connect(&self) -> Result<Cri> {
        let socket = format!("unix://{}", self.dir.join("podwright.sock").display());
        let channel = Endpoint::from_shared(socket)?.connect().await.context("connecting to the unit")?;
        Ok(Cri::over(channel, self.dir.join("logs"), self.host.cgroup_parent()))
    }

    fn journal(&self) -> String {
        let output =
            Command::new("journalctl").args(["-u", &self.name, "-n", "30", "--no-pager", "-o", "cat"]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stdout)]
            {
                println!("{}", self.journal());
            }
        }
        let _ = systemctl(&["stop", &self.name]);
        let _ = fs::remove_file(self.path());
        let _ = systemctl(&["daemon-reload"]);
    }
}

fn systemctl(words: &[&str]) -> Result<String> {
    let output = Command::new("systemctl").args(words).output().context("starting systemctl")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "systemctl {} failed with {}: {text}", words.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
