//! Pods with a user namespace, as kubelet makes them for `hostUsers: false`.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ContainerConfig, IdMapping, Int64Value, Mount, MountPropagation, NamespaceMode, PodSandboxConfig, StatusRequest,
    UserNamespace,
};
use podwright_critest::{World, WorldBuilder, linux, mount, shell, with_world, with_world_of};
use podwright_testutil::Daemon;

const FIRST: u32 = 655_360;
const LENGTH: u32 = 65_536;
const SLEEP: &str = "sleep 1000";

fn range() -> IdMapping {
    IdMapping { host_id: FIRST, container_id: 0, length: LENGTH }
}

fn user_namespace() -> UserNamespace {
    UserNamespace { mode: NamespaceMode::Pod.into(), uids: vec![range()], gids: vec![range()] }
}

fn pod(world: &World, name: &str, user: UserNamespace) -> PodSandboxConfig {
    let mut config = world.pod(name);
    let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    security.namespace_options.get_or_insert_default().userns_options = Some(user);
    config
}

/// As kubelet copies the pod's mappings onto its mounts.
fn mapped(mut mount: Mount) -> Mount {
    mount.uid_mappings = vec![range()];
    mount.gid_mappings = vec![range()];
    mount
}

/// User and group of a process as the host sees them.
fn ids_on_host(pid: u32) -> Result<(u32, u32)> {
    let seen = fs::metadata(format!("/proc/{pid}"))?;
    Ok((seen.uid(), seen.gid()))
}

#[test]
fn root_users_of_a_pod_are_nobody_on_the_host() {
    with_world(async |world| complete(world).await);
}

#[test]
fn root_users_on_a_bridge() {
    with_world_of(WorldBuilder::daemon(Daemon::builder().bridge_chain("1.0.0")), async |world| complete(world).await);
}

async fn complete(world: &mut World) -> Result<()> {
    let volume = world.daemon.path("volume");
    fs::create_dir_all(&volume)?;
    fs::write(volume.join("of-root"), "hidden")?;
    world.count().await?;
    let mut config = pod(world, "mapped", user_namespace());
    config.linux.get_or_insert_default().sysctls.insert("net.ipv4.ping_group_range".into(), "0 1000".into());
    config.linux.get_or_insert_default().sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    let pod = world.run_pod(config).await?;
    let mut config = shell("main", &world.image, SLEEP);
    config.mounts = vec![mapped(mount(&volume, "/volume")), mount(&volume, "/foreign")];
    let id = world.run(&pod, &config).await?;

    ensure!(
        world.sh(&id, "cat /proc/self/uid_map | tr -s ' '").await? == format!(" 0 {FIRST} {LENGTH}"),
        "the mapping"
    );
    let pid = world.pid(&id).await?;
    ensure!(ids_on_host(pid)? == (FIRST, FIRST), "the host sees {:?}", ids_on_host(pid)?);
    ensure!(world.sh(&id, "id -u; id -G").await? == "0\n0", "root inside");
    world.sh_until(&id, "test $(cat /proc/1/comm) = sleep").await.context("process 1 is the container's")?;
    let sysctls = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shm_rmid_forced | tr '\\t\\n' '  '";
    ensure!(world.sh(&id, sysctls).await? == "0 1000 1 ", "sysctls of the pod: {}", world.sh(&id, sysctls).await?);

    let owners =
        "stat -c %u / /etc/passwd /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /volume /volume/of-root | sort -u";
    ensure!(world.sh(&id, owners).await? == "0", "{}", world.sh(&id, owners).await?);
    ensure!(world.sh(&id, "stat -c %u /foreign/of-root").await? == "65534", "a volume that is not mapped");
    world.sh(&id, "cat /etc/hosts /etc/resolv.conf /etc/hostname; echo x > /dev/shm/x; echo x > /dev/null; echo new > /volume/new").await?;
    ensure!(fs::metadata(volume.join("new"))?.uid() == 0, "on the volume's disk");
    fs::remove_file(volume.join("new"))?;
    ensure!(world.sh(&id, "stat -c %a /dev/pts/ptmx").await? == "666", "terminals for everybody");

    // The log, and streams that are opened again by somebody else than root.
    let mut other =
        shell("other", &world.image, "echo first; echo again > /dev/stdout; echo 3 > /dev/stderr; id -u; id -G");
    linux(&mut other).1.run_as_user = Some(Int64Value { value: 1234 });
    linux(&mut other).1.supplemental_groups = vec![77];
    world.run_to_end(&pod, &other).await?;
    let log = world.log_text(&pod, "other")?;
    ensure!(log.contains("again") && log.contains("1234") && log.contains("0 77"), "{log}");

    // The pod's network works: its address is up, and the node reaches it.
    let address = world.pod_ip(&pod.id).await?;
    ensure!(world.sh(&id, "ip -4 addr").await?.contains(&address), "{address} is the pod's");
    world.daemon.host().run(&["ping", "-c", "1", "-W", "5", &address]).or_else(|_| {
        // Not every test machine has ping; the neighbour table is as good.
        world.daemon.host().run(&["ip", "route", "get", &address])
    })?;
    Ok(())
}

#[test]
fn root_users_with_shared_process_ids_survive_the_daemon() {
    with_world(async |world| {
        let mut config = pod(world, "shared", user_namespace());
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &world.image, SLEEP);
        linux(&mut config).1.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "cat /proc/1/comm; stat -c %u /proc/1").await? == "pause\n0", "the pause process");

        world.daemon.kill()?;
        world.daemon.start_again()?;
        world.reconnect().await?;
        ensure!(ids_on_host(world.pid(&id).await?)? == (FIRST, FIRST), "it runs on");
        ensure!(world.sh(&id, "id -u").await? == "0", "exec after the restart");
        config.metadata.get_or_insert_default().name = "later".into();
        config.log_path = "later.log".into();
        let later = world.run(&pod, &config).await?;
        ensure!(
            world.sh(&later, "cat /proc/self/uid_map | tr -s ' '").await? == format!(" 0 {FIRST} {LENGTH}"),
            "one more"
        );
        Ok(())
    });
}

#[test]
fn root_users_privileges_end_at_the_pod() {
    with_world(async |world| {
        let mut config = pod(world, "privileged", user_namespace());
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.privileged = true;
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &world.image, SLEEP);
        linux(&mut config).1.privileged = true;
        let id = world.run(&pod, &config).await?;
        world
            .sh(
                &id,
                "mkdir -p /mnt/x && mount -t tmpfs none /mnt/x && hostname inside && ip addr add 192.0.2.9/32 dev lo",
            )
            .await?;
        // Neither the node's settings, nor its devices, nor its files.
        for attack in [
            "echo 1 > /proc/sys/kernel/panic",
            "echo 1 > /proc/sys/vm/drop_caches",
            "mknod /tmp-null c 1 3",
            "head -c 1 /dev/mem",
            "head -c 1 /dev/vda",
        ] {
            let tried = world.exec(&id, &["sh", "-c", attack]).await?;
            ensure!(tried.exit_code != 0, "{attack}: it worked");
        }
        let null = fs::metadata("/dev/null")?;
        ensure!(null.uid() == 0 && null.mode() & 0o777 == 0o666, "the node's null device");
        Ok(())
    });
}

#[test]
fn root_users_on_the_nodes_network() {
    with_world(async |world| {
        let mut config = pod(world, "host-network", user_namespace());
        config.hostname = String::new();
        let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
        security.namespace_options.get_or_insert_default().set_network(NamespaceMode::Node);
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &world.image, SLEEP);
        linux(&mut config).1.namespace_options.get_or_insert_default().set_network(NamespaceMode::Node);
        let id = world.run(&pod, &config).await?;
        let host = world.daemon.host().run(&["readlink", "/proc/self/ns/net"])?;
        ensure!(
            world.sh(&id, "readlink /proc/self/ns/net; ls -d /sys/class/net/lo; id -u").await?
                == format!("{}\n/sys/class/net/lo\n0", host.trim()),
            "the node's network"
        );
        ensure!(
            world.exec(&id, &["ip", "link", "set", "lo", "mtu", "1000"]).await?.exit_code != 0,
            "it can not be changed"
        );
        Ok(())
    });
}

#[test]
fn root_users_are_offered_and_bad_ones_refused() {
    with_world(async |world| {
        let status = world.runtime.status(StatusRequest { verbose: false }).await?.into_inner();
        let handler =
            status.runtime_handlers.iter().find(|handler| handler.name.is_empty()).context("no default handler")?;
        let features = handler.features.as_ref().context("no features")?;
        ensure!(features.user_namespaces && features.recursive_read_only_mounts, "{features:?}");
        ensure!(status.features.context("no features")?.user_namespaces_host_network, "on the node's network too");

        let good = user_namespace;
        let two = vec![range(), IdMapping { host_id: 2_000_000, container_id: LENGTH, length: 10 }];
        let from_one = vec![IdMapping { container_id: 1, ..range() }];
        for (name, bad) in [
            ("container", UserNamespace { mode: NamespaceMode::Container.into(), ..Default::default() }),
            ("target", UserNamespace { mode: NamespaceMode::Target.into(), ..Default::default() }),
            ("two", UserNamespace { uids: two, ..good() }),
            ("from-one", UserNamespace { gids: from_one, ..good() }),
            ("none", UserNamespace { uids: vec![], ..good() }),
            ("node", UserNamespace { mode: NamespaceMode::Node.into(), ..good() }),
        ] {
            let config = pod(world, name, bad);
            let outcome = world.run_pod(config).await;
            ensure!(outcome.is_err_and(|error| format!("{error:#}").contains("userns_options")), "{name} was taken");
        }
        let config = pod(world, "good", good());
        let made = world.run_pod(config).await?;
        let mut outward = mount(&world.daemon.path("nowhere"), "/outward");
        outward.set_propagation(MountPropagation::PropagationBidirectional);
        let unmappable = mapped(mount("/proc".as_ref(), "/data"));
        for (name, mount, told) in
            [("outward", outward, "leaves a user namespace"), ("unmappable", unmappable, "can not map ids")]
        {
            let config = ContainerConfig { mounts: vec![mount], ..shell(name, &world.image, "true") };
            let outcome = world.run(&made, &config).await;
            ensure!(outcome.as_ref().is_err_and(|error| format!("{error:#}").contains(told)), "{name}: {outcome:?}");
        }
        Ok(())
    });
}
