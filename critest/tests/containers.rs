//! What a container is, proven from inside.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    Capability, ContainerConfig, Device, DnsConfig, Int64Value, KeyValue, LinuxContainerResources, MountPropagation,
    NamespaceMode, SecurityProfile, Signal, UpdateContainerResourcesRequest, security_profile,
};
use podwright_critest::{Pod, World, container, linux, mount, shell, with_world};
use podwright_testutil::base;
use serde_json::json;

#[test]
fn root_process_and_file_system_are_as_configured() {
    with_world(async |world| {
        let mut config = world.pod("inside");
        config.dns_config = Some(DnsConfig {
            servers: vec!["192.0.2.53".into()],
            searches: vec!["cluster.local".into()],
            options: vec!["ndots:5".into()],
        });
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        config.working_dir = "/made/for/you".into();
        config.envs = vec![KeyValue { key: "GREETING".into(), value: "h\u{e4}llo".into() }];
        let id = world.run(&pod, &config).await?;

        ensure!(world.sh(&id, "pwd").await? == "/made/for/you", "working directory");
        ensure!(world.sh(&id, "echo $GREETING $HOSTNAME").await? == "h\u{e4}llo inside", "environment");
        ensure!(world.sh(&id, "hostname; cat /etc/hostname").await? == "inside\ninside", "host name");
        let resolv = world.sh(&id, "cat /etc/resolv.conf").await?;
        for line in ["nameserver 192.0.2.53", "search cluster.local", "options ndots:5"] {
            ensure!(resolv.contains(line), "{line} is not in {resolv}");
        }
        world.sh_until(&id, "test $(cat /proc/1/comm) = sleep").await.context("process 1 is the container's")?;
        ensure!(world.sh(&id, "ls /proc | grep -c '^[0-9]'").await?.parse::<u32>()? < 8, "no foreign process is seen");
        ensure!(world.sh(&id, "ls -l /proc/self/fd | wc -l").await?.parse::<u32>()? <= 5, "no foreign descriptor");
        let mounts = world.sh(&id, "cat /proc/mounts").await?;
        for (point, kind) in [("/", "overlay"), ("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs")] {
            let found = mounts.lines().any(|line| line.contains(&format!(" {point} {kind} ")));
            ensure!(found, "{kind} on {point}: {mounts}");
        }
        ensure!(world.sh(&id, "mount | grep 'on /sys ' | grep -c '(ro'").await? == "1", "/sys is read-only");
        world.sh(&id, "for d in null zero full random urandom tty; do test -c /dev/$d || exit 1; done").await?;
        world.sh(&id, "test -L /dev/fd && test -L /dev/stdin && test -d /dev/pts && test -d /dev/mqueue").await?;
        world.sh(&id, "dd if=/dev/zero of=/dev/shm/x bs=1M count=1 && rm /dev/shm/x").await?;
        let host = world.daemon.host().dir().display().to_string();
        ensure!(
            !world.sh(&id, "cat /proc/mounts | cut -d' ' -f2").await?.contains(&host),
            "the host's paths are hidden"
        );
        Ok(())
    });
}

#[test]
fn root_users_are_numbers_and_names() {
    with_world(async |world| {
        let pod = world.run_pod_named("users").await?;
        let number = |value: i64| Some(Int64Value { value });
        let image = world.image.clone();
        type Change<'a> = &'a dyn Fn(&mut ContainerConfig);
        let cases: [(&str, Change<'_>, &str); 5] = [
            ("root", &|_| {}, "0 0 0"),
            ("number", &|c| linux(c).1.run_as_user = number(1234), "1234 0 0"),
            ("name", &|c| linux(c).1.run_as_username = "www-data".into(), "33 33 33 50"),
            (
                "group",
                &|c| {
                    linux(c).1.run_as_user = number(8);
                    linux(c).1.run_as_group = number(100);
                },
                "8 100 100",
            ),
            (
                "more",
                &|c| {
                    linux(c).1.run_as_user = number(33);
                    linux(c).1.supplemental_groups = vec![7000];
                },
                "33 33 33 50 7000",
            ),
        ];
        for (name, change, wanted) in cases {
            let mut config = shell(name, &image, "echo $(id -u) $(id -g) $(id -G)");
            change(&mut config);
            world.run_to_end(&pod, &config).await?;
            let seen = sorted_groups(&world.log_text(&pod, name)?);
            ensure!(seen == sorted_groups(wanted), "{name}: {seen}, not {wanted}");
        }
        let mut unknown = shell("unknown", &image, "true");
        linux(&mut unknown).1.run_as_username = "nobody-knows-me".into();
        let outcome = world.run(&pod, &unknown).await;
        ensure!(outcome.is_err_and(|e| format!("{e:#}").contains("nobody-knows-me")), "an unknown name is an error");
        Ok(())
    });
}

/// Group lists have no order.
fn sorted_groups(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    if let Some(groups) = words.get_mut(2..) {
        groups.sort_unstable();
    }
    words.join(" ")
}

#[test]
fn root_images_say_what_runs() {
    with_world(async |world| {
        let image = base::variant("entrypoint", |image| {
            image
                .set("Entrypoint", json!(["echo", "entry"]))
                .set("Cmd", json!(["cmd"]))
                .set("User", json!("www-data:1004"))
                .set("WorkingDir", json!("/var/www"))
                .set("Env", json!(["PATH=/bin", "FROM_IMAGE=yes"]))
                .set("StopSignal", json!("SIGUSR1"))
        })?;
        let reference = world.registry.push(&image, "entrypoint", "1")?;
        world.pull(&reference).await?;
        world.count().await?;
        let pod = world.run_pod_named("entry").await?;
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (name, command, args, wanted) in [
            ("image", &[][..], &[][..], "entry cmd"),
            ("args", &[][..], &["a"][..], "entry a"),
            ("command", &["echo", "c"][..], &[][..], "c"),
            ("both", &["echo", "c"][..], &["a"][..], "c a"),
        ] {
            let mut config = container(name, &reference, &[]);
            (config.command, config.args) = (words(command), words(args));
            world.run_to_end(&pod, &config).await?;
            ensure!(world.log_text(&pod, name)? == wanted, "{name}");
        }
        let script =
            "echo $(id -u) $(id -g) $PWD $FROM_IMAGE; trap 'echo usr1; exit 5' USR1; while :; do sleep 0.1; done";
        let id = world.run(&pod, &shell("rest", &reference, script)).await?;
        world.wait_for_log(&pod, "rest", "33 1004 /var/www yes").await?;
        ensure!(world.status(&id).await?.stop_signal() == Signal::Sigusr1, "the image's stop signal is reported");
        world.stop(&id, 10).await?;
        ensure!(world.status(&id).await?.exit_code == 5, "the image's stop signal is sent");
        Ok(())
    });
}

#[test]
fn root_security_is_what_was_asked_for() {
    with_world(async |world| {
        let pod = run_privileged_pod(world, "secure").await?;
        let image = world.image.clone();
        let status = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t ' | tr '\\n' ' '";

        let id = world.run(&pod, &shell("default", &image, "sleep 1000")).await?;
        let seen = world.sh(&id, status).await?;
        ensure!(seen.contains("CapEff:00000000a80425fb"), "the usual fourteen capabilities: {seen}");

        let mut tight = shell("tight", &image, "sleep 1000");
        let security = linux(&mut tight).1;
        security.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["NET_BIND_SERVICE".into()],
            ..Default::default()
        });
        security.no_new_privs = true;
        security.readonly_rootfs = true;
        security.seccomp = Some(SecurityProfile {
            profile_type: security_profile::ProfileType::RuntimeDefault.into(),
            ..Default::default()
        });
        security.masked_paths = vec!["/proc/kcore".into(), "/sys/firmware".into()];
        security.readonly_paths = vec!["/proc/sys".into()];
        let id = world.run(&pod, &tight).await?;
        let seen = world.sh(&id, status).await?;
        for part in ["CapEff:0000000000000400", "NoNewPrivs:1", "Seccomp:2"] {
            ensure!(seen.contains(part), "{part}: {seen}");
        }
        ensure!(world.sh(&id, "touch /x 2>&1; true").await?.contains("Read-only file system"), "read-only root");
        ensure!(world.sh(&id, "head -c 1 /proc/kcore | wc -c").await? == "0", "masked");
        ensure!(
            world.sh(&id, "echo 1 2>&1 >/proc/sys/kernel/panic; true").await?.contains("Read-only"),
            "read-only path"
        );
        ensure!(world.exec(&id, &["unshare", "-m", "true"]).await?.exit_code != 0, "no new mount namespace");

        let mut privileged = shell("privileged", &image, "sleep 1000");
        linux(&mut privileged).1.privileged = true;
        let id = world.run(&pod, &privileged).await?;
        world.sh(&id, "mount -t tmpfs none /mnt 2>/dev/null || { mkdir -p /mnt && mount -t tmpfs none /mnt; }").await?;
        ensure!(world.sh(&id, status).await?.contains("Seccomp:0"), "no filter");
        Ok(())
    });
}

#[test]
fn root_volumes_on_etc_and_dev_leave_what_the_pod_gives() {
    with_world(async |world| {
        let mut sandbox = world.pod("covered");
        sandbox.dns_config = Some(DnsConfig { servers: vec!["192.0.2.53".into()], ..Default::default() });
        let pod = world.run_pod(sandbox).await?;
        let etc = world.daemon.path("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("own"), "mine")?;
        let mut config = shell("main", &world.image, "sleep 1000");
        config.mounts = vec![mount(&etc, "/etc"), mount(std::path::Path::new("/dev"), "/dev")];
        let id = world.run(&pod, &config).await?;
        let seen = world.sh(&id, "cat /etc/own /etc/resolv.conf; grep -c ' /dev/shm tmpfs' /proc/mounts").await?;
        ensure!(seen.contains("mine") && seen.contains("192.0.2.53"), "{seen}");
        // The pod's own memory and not the node's.
        let mark = format!("podwright-test-{}", std::process::id());
        world.sh(&id, &format!("echo x > /dev/shm/{mark}")).await?;
        world.daemon.host().run(&["test", "!", "-e", &format!("/dev/shm/{mark}")])?;
        Ok(())
    });
}

#[test]
fn root_mounts_and_their_propagation() {
    with_world(async |world| {
        let volumes = world.daemon.path("volumes");
        for name in ["plain", "receiving", "both"] {
            fs::create_dir_all(volumes.join(name).join("sub"))?;
        }
        fs::write(volumes.join("file"), "from the host")?;
        fs::set_permissions(&volumes, fs::Permissions::from_mode(0o755))?;
        // A shared mount of its own, as kubelet's directory is on a node.
        let shown = volumes.display().to_string();
        world.daemon.host().run(&["mount", "--bind", &shown, &shown])?;
        world.daemon.host().run(&["mount", "--make-shared", &shown])?;
        world.count().await?;

        let pod = run_privileged_pod(world, "volumes").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        linux(&mut config).1.privileged = true;
        let mut read_only = mount(&volumes.join("plain"), "/read-only");
        read_only.readonly = true;
        let mut receiving = mount(&volumes.join("receiving"), "/receiving");
        receiving.set_propagation(MountPropagation::PropagationHostToContainer);
        let mut both = mount(&volumes.join("both"), "/both");
        both.set_propagation(MountPropagation::PropagationBidirectional);
        config.mounts = vec![
            mount(&volumes.join("plain"), "/plain"),
            read_only,
            receiving,
            both,
            mount(&volumes.join("file"), "/etc/one-file"),
        ];
        let id = world.run(&pod, &config).await?;

        ensure!(world.sh(&id, "cat /etc/one-file").await? == "from the host", "a file as a mount");
        world.sh(&id, "echo inside > /plain/x").await?;
        ensure!(fs::read_to_string(volumes.join("plain/x"))? == "inside\n", "written through");
        fs::remove_file(volumes.join("plain/x"))?;
        ensure!(world.sh(&id, "touch /read-only/y 2>&1; true").await?.contains("Read-only"), "read-only mount");

        for (name, arrives) in [("plain", false), ("receiving", true), ("both", true)] {
            let point = volumes.join(name).join("sub").display().to_string();
            world.daemon.host().run(&["mount", "-t", "tmpfs", "pw-probe", &point])?;
            let seen = world.sh(&id, &format!("grep -c 'pw-probe /{name}/sub' /proc/mounts || true")).await?;
            ensure!((seen == "1") == arrives, "a later mount of the host, {name}: {seen}");
            world.daemon.host().run(&["umount", &point])?;
        }
        world.sh(&id, "mount -t tmpfs pw-inner /both/sub").await?;
        let host = world.daemon.host().run(&["cat", "/proc/mounts"])?;
        ensure!(host.contains("pw-inner"), "a container's mount reaches the host");
        world.sh(&id, "umount /both/sub").await?;
        ensure!(world.status(&id).await?.mounts.len() == 5, "mounts come back");
        Ok(())
    });
}

#[test]
fn root_resources_are_limited() {
    with_world(async |world| {
        let pod = world.run_pod_named("limits").await?;
        let image = world.image.clone();
        let mut config = shell("limited", &image, "sleep 1000");
        let resources = linux(&mut config).0;
        resources.memory_limit_in_bytes = 64 << 20;
        resources.cpu_shares = 512;
        resources.cpu_quota = 20_000;
        resources.cpu_period = 100_000;
        resources.oom_score_adj = 500;
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "cat /proc/1/oom_score_adj").await? == "500", "oom_score_adj");
        let limits = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max 2>/dev/null; true";
        ensure!(world.sh(&id, limits).await? == (64 << 20).to_string(), "the memory limit, as seen from inside");
        let echoed = world.status(&id).await?.resources.and_then(|r| r.linux).context("no resources in the status")?;
        ensure!(echoed.memory_limit_in_bytes == 64 << 20 && echoed.cpu_shares == 512, "{echoed:?}");

        let update = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(LinuxContainerResources { memory_limit_in_bytes: 128 << 20, ..Default::default() }),
            ..Default::default()
        };
        world.runtime.update_container_resources(update).await.context("UpdateContainerResources")?;
        ensure!(world.sh(&id, limits).await? == (128 << 20).to_string(), "the raised limit");
        let echoed = world.status(&id).await?.resources.and_then(|r| r.linux).context("no resources in the status")?;
        ensure!(
            echoed.memory_limit_in_bytes == 128 << 20 && echoed.cpu_quota == 20_000,
            "zero is unchanged: {echoed:?}"
        );

        let mut greedy = shell("greedy", &image, "sleep 0.2; head -c 200000000 /dev/zero | tail");
        linux(&mut greedy).0.memory_limit_in_bytes = 16 << 20;
        let id = world.run(&pod, &greedy).await?;
        let status = world.wait(&id, 60).await?;
        ensure!(status.reason == "OOMKilled", "{status:?}");
        Ok(())
    });
}

#[test]
fn root_devices_are_given_and_denied() {
    with_world(async |world| {
        let pod = world.run_pod_named("devices").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        config.devices = vec![Device {
            container_path: "/dev/my-null".into(),
            host_path: "/dev/null".into(),
            permissions: "rwm".into(),
        }];
        let id = world.run(&pod, &config).await?;
        world.sh(&id, "test -c /dev/my-null && echo x > /dev/my-null").await?;
        // kmsg: 1:11. Making the node is allowed, opening it is not.
        let denied = world.sh(&id, "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1; true").await?;
        ensure!(denied.contains("not permitted"), "{denied}");
        Ok(())
    });
}

#[test]
fn root_namespaces_are_shared_as_asked() {
    with_world(async |world| {
        let image = world.image.clone();
        let mut config = world.pod("shared");
        namespaces(&mut config)?.set_pid(NamespaceMode::Pod);
        let pod = world.run_pod(config).await?;
        let mut containers = Vec::new();
        for name in ["one", "two"] {
            let mut config = shell(name, &image, "exec sleep 1000");
            linux(&mut config).1.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
            containers.push(world.run(&pod, &config).await?);
        }
        let [one, two] = containers.as_slice() else { anyhow::bail!("two containers") };
        world.sh_until(one, "test $(pidof sleep | wc -w) = 2").await.context("both containers' processes are seen")?;
        ensure!(world.sh(one, "cat /proc/1/comm").await? != "sleep", "process 1 is no container's");
        world.sh(one, "echo shared > /dev/shm/x").await?;
        ensure!(world.sh(two, "cat /dev/shm/x").await? == "shared", "/dev/shm is the pod's");
        for kind in ["ipc", "net", "uts", "pid"] {
            let link = format!("readlink /proc/self/ns/{kind}");
            ensure!(world.sh(one, &link).await? == world.sh(two, &link).await?, "{kind}");
        }
        world.stop(one, 0).await?;
        ensure!(world.sh(two, "echo alive").await? == "alive", "the end of one container leaves the other alone");

        let mut config = world.pod("node");
        let options = namespaces(&mut config)?;
        options.set_network(NamespaceMode::Node);
        options.set_ipc(NamespaceMode::Node);
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &image, "sleep 1000");
        let options = linux(&mut config).1.namespace_options.get_or_insert_default();
        options.set_network(NamespaceMode::Node);
        options.set_ipc(NamespaceMode::Node);
        options.set_pid(NamespaceMode::Node);
        let id = world.run(&pod, &config).await?;
        let host = world.daemon.host().run(&["readlink", "/proc/self/ns/net"])?;
        ensure!(world.sh(&id, "readlink /proc/self/ns/net").await? == host.trim(), "the host's network");
        ensure!(world.sh(&id, "ps | grep -c podwrightd || true").await? != "0", "the host's processes");
        let status = world.pod_status(&pod.id).await?;
        let seen = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options).context("options")?;
        ensure!(seen.network() == NamespaceMode::Node, "{seen:?}");
        Ok(())
    });
}

#[test]
fn root_sysctls_are_the_pods() {
    with_world(async |world| {
        let mut config = world.pod("sysctls");
        let linux = config.linux.get_or_insert_default();
        linux.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
        linux.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        let pod = world.run_pod(config).await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let seen =
            world.sh(&id, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced").await?;
        ensure!(seen == "80\n1", "{seen}");
        Ok(())
    });
}

fn namespaces(
    config: &mut podwright_cri_api::v1::PodSandboxConfig,
) -> Result<&mut podwright_cri_api::v1::NamespaceOption> {
    let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    Ok(security.context("no security context")?.namespace_options.get_or_insert_default())
}

/// kubelet makes the sandbox privileged when one of its containers is.
async fn run_privileged_pod(world: &mut World, name: &str) -> Result<Pod> {
    let mut config = world.pod(name);
    let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    security.context("no security context")?.privileged = true;
    world.run_pod(config).await
}
