//! What the daemon and its helpers may still do, as the kernel says it in /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use podwright_critest::{WorldBuilder, container, linux, with_world, with_world_of};
use podwright_testutil::{Daemon, write_program};

/// CAP_DAC_OVERRIDE, as a mask.
const DAC_OVERRIDE: u64 = 1 << 1;
/// CAP_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _KILL, _NET_BIND_SERVICE, _NET_ADMIN, _SYS_PTRACE, _SYS_ADMIN, _MKNOD, _SETFCAP.
const DAEMON: u64 =
    1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 27 | 1 << 31;

/// The lines of a process's status.
struct Status(BTreeMap<String, String>);

impl Status {
    fn of(path: &str) -> Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("{path}/status")).with_context(|| format!("status of {path}"))?))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn mask(&self, key: &str) -> Result<u64> {
        u64::from_str_radix(self.get(key), 16).with_context(|| format!("{key} is {:?}", self.get(key)))
    }

    /// Effective, permitted, inheritable and ambient sets.
    fn sets(&self) -> Result<[u64; 4]> {
        Ok([self.mask("CapEff")?, self.mask("CapPrm")?, self.mask("CapInh")?, self.mask("CapAmb")?])
    }
}

fn children(pid: &str) -> Result<Vec<(String, Status)>> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    list.split_whitespace()
        .map(|child| {
            let status = Status::of(&format!("/proc/{child}"))?;
            Ok((status.get("Name").to_owned(), status))
        })
        .collect()
}

#[test]
fn root_the_daemon_gives_up_what_it_does_not_need_and_its_containers_do_not() {
    with_world(async |world| {
        let given = Status::of("/proc/self")?.mask("CapBnd")?;
        let daemon = world.daemon.pid().context("no daemon")?;
        let kept = given & DAEMON;
        for thread in fs::read_dir(format!("/proc/{daemon}/task"))?.flatten() {
            // A thread may end meanwhile.
            let Ok(status) = Status::of(&thread.path().display().to_string()) else { continue };
            let [effective, permitted, inheritable, ambient] = status.sets()?;
            let name = status.get("Name");
            ensure!(permitted & !kept == 0 && effective == permitted, "{name} holds {permitted:x}, {effective:x}");
            ensure!(inheritable == 0 && ambient == 0, "{name} hands {inheritable:x}, {ambient:x} on");
            // The threads of a pull that are about to end start no container.
            let is_free = status.get("NoNewPrivs") == "0" || name.starts_with("layer-");
            ensure!(status.mask("CapBnd")? == given && is_free, "{name} takes from containers");
        }
        let main = Status::of(&format!("/proc/{daemon}"))?;
        ensure!(main.sets()?[0] == kept, "the daemon holds {:x} and not {kept:x}", main.sets()?[0]);

        let mut config = world.pod("privileged");
        config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
        let pod = world.run_pod(config).await?;
        let mut config = container("main", &world.image, &["sleep", "1000"]);
        linux(&mut config).1.privileged = true;
        let id = world.run(&pod, &config).await?;
        let inside = Status::parse(&world.sh(&id, "cat /proc/self/status").await?);
        ensure!(
            inside.sets()?[..2] == [given, given] && inside.mask("CapBnd")? == given,
            "not all that the node gives"
        );
        ensure!(inside.get("NoNewPrivs") == "0", "set-uid programs do not work");
        Ok(())
    });
}

#[test]
fn root_log_writers_and_pause_processes_are_left_with_little() {
    with_world(async |world| {
        let mut config = world.pod("confined");
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.namespace_options.get_or_insert_default().pid = 0; // POD: with a pause process.
        let pod = world.run_pod(config).await?;
        let mut config = container("main", &world.image, &["sh", "-c", "echo said; exec sleep 1000"]);
        linux(&mut config).1.namespace_options.get_or_insert_default().pid = 0;
        let id = world.run(&pod, &config).await?;
        world.wait_for_log(&pod, "main", "said").await?;
        let pid = world.pid(&id).await?;
        let shim = Status::of(&format!("/proc/{pid}"))?.get("PPid").to_owned();
        let found = children(&shim)?;
        for (name, kept) in [("podwright-log", DAC_OVERRIDE), ("pause", 0)] {
            let (_, status) = found.iter().find(|(of, _)| of == name).with_context(|| format!("there is no {name}"))?;
            let given = Status::of("/proc/self")?.mask("CapBnd")?;
            ensure!(status.sets()? == [given & kept, given & kept, 0, 0], "{name}: {:x?}", status.sets()?);
            ensure!(status.get("NoNewPrivs") == "1", "{name} can gain privileges");
            ensure!(status.get("Seccomp") == "2", "{name} has no filter");
        }
        let (_, shim) = (shim.clone(), Status::of(&format!("/proc/{shim}"))?);
        ensure!(shim.get("Seccomp") == "0" && shim.get("NoNewPrivs") == "0", "containers would inherit it");
        Ok(())
    });
}

/// Prints what it may do into a file, and an address.
const PLUGIN: &str = "#!/bin/sh
case $CNI_COMMAND in
    ADD) cat /proc/self/status >\"$(dirname \"$0\")/told\"
         echo '{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.99.0.9/24\"}]}' ;;
esac
";

#[test]
fn root_plugins_of_the_administrator_may_what_the_node_gives() {
    let builder = Daemon::builder().bridge_chain("1.0.0");
    with_world_of(WorldBuilder::daemon(builder), async |world| {
        let plugin = world.daemon.path("plugins/teller");
        write_program(&plugin, PLUGIN)?;
        let conflist = r#"{"cniVersion":"1.0.0","name":"teller","plugins":[{"type":"teller"}]}"#;
        fs::write(world.daemon.path("net.d/10-testnet.conflist"), conflist)?;
        let pod = world.run_pod_named("told").await?;
        let told = Status::parse(&fs::read_to_string(world.daemon.path("plugins/told"))?);
        let given = Status::of("/proc/self")?.mask("CapBnd")?;
        ensure!(told.sets()?[..2] == [given, given], "{:x?}", told.sets()?);
        ensure!(told.get("NoNewPrivs") == "0" && told.get("Seccomp") == "0", "its set-uid helpers do not work");
        world.remove_pod(&pod.id).await
    });
}
