//! Processes that race with a start or an exec: swapped names, and hunters for the shim's own processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{Capability, IdMapping, NamespaceMode, NamespaceOption, UserNamespace};
use podwright_critest::{Pod, World, linux, mount, shell, with_world};
use podwright_testutil::program;

use crate::{SLEEP, tree};

/// How often what is raced with is done.
const TRIES: usize = 15;
/// Execs beside a hunter.
const HUNTED: usize = 40;

/// Runs `work` while `swap` is called as fast as it can be.
fn while_swapping<T>(swap: impl Fn() + Send + Sync, work: impl Future<Output = Result<T>>) -> Result<T> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                swap();
            }
        });
        let outcome = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Looks at each process that it sees (the shim's binary is on a mount of its own, so its path is `/`), as fast as a shell can: where its binary is, and whether that can be written to. To see the one is as
/// much as to trace the process: the kernel asks the same of both.
const HUNTER: &str = r#"
    echo ready
    while :; do
        ls -l /proc/[0-9]*/exe 2>/dev/null | grep -e '-> /$' -e podwright -e memfd && echo SAW
        for p in /proc/[0-9]*; do { echo x >> $p/exe; } 2>/dev/null && echo "WROTE $p"; done
    done"#;

/// runc's CVE-2019-5736 and CVE-2016-9962: a container gets hold of the process that starts or joins it, or of its binary. In a pod with a
/// user namespace only the shim's own care keeps it out: there the hunter has every capability that the joining process has.
#[test]
fn root_a_hunter_inside_gets_nothing_of_the_shim() {
    with_world(async |world| {
        let binary = program("podwright-shim")?;
        let before = fs::read(&binary)?;
        for (user_namespace, capability) in [(false, None), (false, Some("SYS_PTRACE")), (true, Some("ALL"))] {
            let what = format!("user namespace {user_namespace}, {capability:?}");
            let log = hunt(world, user_namespace, capability).await.with_context(|| what.clone())?;
            // With the capability in the node's own namespace it may look, as any debugger.
            let may_look = capability == Some("SYS_PTRACE");
            ensure!(!log.contains("WROTE") && (may_look || !log.contains("SAW")), "{what}: {log}");
        }
        ensure!(fs::read(&binary)? == before, "the shim's binary was changed");
        Ok(())
    });
}

/// Starts and executes things beside a hunter, and returns what that told.
async fn hunt(world: &mut World, user_namespace: bool, capability: Option<&str>) -> Result<String> {
    let image = world.image.clone();
    let options = NamespaceOption {
        userns_options: user_namespace.then(|| UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: vec![IdMapping { host_id: 700_000, container_id: 0, length: 65_536 }],
            gids: vec![IdMapping { host_id: 700_000, container_id: 0, length: 65_536 }],
        }),
        ..Default::default()
    };
    let mut config = world
        .pod(&format!("hunted-{user_namespace}-{}", capability.unwrap_or("none").to_lowercase().replace('_', "-")));
    let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    security.namespace_options = Some(options.clone());
    let pod = world.run_pod(config).await?;
    let in_pod = |name: &str, script: &str| {
        let mut config = shell(name, &image, script);
        linux(&mut config).1.namespace_options = Some(options.clone());
        config
    };
    let mut config = in_pod("hunter", HUNTER);
    linux(&mut config).1.capabilities =
        capability.map(|name| Capability { add_capabilities: vec![name.into()], ..Default::default() });
    world.run(&pod, &config).await?;
    world.wait_for_log(&pod, "hunter", "ready").await?;
    let script = format!("printf '#!/proc/self/exe\\n' > /evil; chmod +x /evil; echo ready; {SLEEP}");
    let victim = world.run(&pod, &in_pod("victim", &script)).await?;
    world.wait_for_log(&pod, "victim", "ready").await?;
    for at in 0..HUNTED {
        ensure!(world.exec(&victim, &["true"]).await?.exit_code == 0, "exec {at}");
    }
    let mut log = world.log_text(&pod, "hunter")?;
    for _ in 0..HUNTED {
        // The interpreter is what executes it: the shim itself, as a program of the container, which anybody inside may see.
        let evil = world.exec(&victim, &["/evil"]).await;
        ensure!(evil.is_err() || evil.is_ok_and(|reply| reply.exit_code != 0), "the shim ran inside");
    }
    log.push_str(&world.log_text(&pod, "hunter")?.replace("SAW", ""));
    world.remove_pod(&pod.id).await?;
    Ok(log)
}

/// Starts containers with these mounts, and lets go of each. Whether one starts or not is not the question.
async fn start_many(world: &mut World, pod: &Pod, mounts: &[(&Path, &str)], terminal: bool) -> Result<usize> {
    let mut started = 0;
    for at in 0..TRIES {
        let mut config = shell(&format!("try-{at}"), &world.image, SLEEP);
        config.mounts = mounts.iter().map(|(source, path)| mount(source, path)).collect();
        config.tty = terminal;
        let security = linux(&mut config).1;
        security.masked_paths = vec!["/proc/keys".into(), "/proc/timer_list".into()];
        security.readonly_paths = vec!["/proc/sys".into()];
        let Ok(id) = world.create(pod, &config).await else { continue };
        if world.start(&id).await.is_ok() {
            started += 1;
            let fenced = "test $(cat /proc/keys | wc -c) = 0 && ! (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null";
            world.sh(&id, fenced).await.with_context(|| format!("try {at}: what is masked"))?;
        }
        world.remove(&id).await?;
    }
    Ok(started)
}

/// runc's CVE-2025-31133 (`/dev/null` swapped for a link while paths are masked), CVE-2025-52565 (`/dev/pts/N` and `/dev/console`
/// swapped) and CVE-2025-52881 (writes to procfs redirected by a mount that is shared). A volume is mounted over `/dev`, and its names
/// lead to files of the node and back.
#[test]
fn root_a_swapped_dev_masks_and_opens_nothing_of_the_node() {
    with_world(async |world| {
        let (dev, decoy) = (world.daemon.path("volumes/dev"), world.daemon.path("decoy"));
        fs::create_dir_all(dev.join("pts"))?;
        fs::create_dir_all(&decoy)?;
        fs::write(decoy.join("file"), "kept")?;
        world.count().await?;
        let (kept, host) = (fs::read_to_string("/proc/sys/kernel/core_pattern")?, tree(&decoy)?);
        let pod = world.run_pod_named("swapped-dev").await?;
        let names = ["null", "console", "ptmx", "pts/0", "zero"].map(|name| dev.join(name));
        let file = decoy.join("file");
        let swap = || {
            for name in &names {
                for target in [Path::new("/proc/sys/kernel/core_pattern"), &file] {
                    let _ = symlink(target, name);
                    let _ = fs::remove_file(name);
                }
            }
        };
        for terminal in [false, true] {
            while_swapping(swap, start_many(world, &pod, &[(&dev, "/dev")], terminal))?;
        }
        ensure!(fs::read_to_string("/proc/sys/kernel/core_pattern")? == kept, "a setting of the node was changed");
        ensure!(tree(&decoy)? == host, "files of the node were changed");
        // A volume over procfs: what is written there while a container starts must not come to the volume's files, nor be believed.
        let fake = world.daemon.path("volumes/proc");
        fs::create_dir_all(fake.join("self/attr"))?;
        fs::create_dir_all(fake.join("sys/net/ipv4"))?;
        for name in ["self/attr/current", "self/attr/exec", "self/oom_score_adj", "sys/net/ipv4/ip_forward", "keys"] {
            fs::write(fake.join(name), "fake")?;
        }
        let (planted, attr) = (tree(&fake)?, fake.join("self"));
        for mounts in [[(fake.as_path(), "/proc")], [(attr.as_path(), "/proc/self")]] {
            let mut config = shell("fake-proc", &world.image, SLEEP);
            config.mounts = mounts.iter().map(|(source, path)| mount(source, path)).collect();
            linux(&mut config).1.masked_paths = vec!["/proc/keys".into()];
            if let Ok(id) = world.create(&pod, &config).await {
                let _ = world.start(&id).await;
                world.remove(&id).await?;
            }
        }
        ensure!(tree(&fake)? == planted, "something of the start was written to a volume");
        Ok(())
    });
}

/// runc's CVE-2024-45310: a mount point that is swapped while it is made lets empty files and directories appear on the node.
#[test]
fn root_swapped_mount_points_make_nothing_on_the_node() {
    with_world(async |world| {
        let (shared, decoy) = (world.daemon.path("volumes/shared"), world.daemon.path("decoy"));
        let inner = world.daemon.path("volumes/inner");
        for dir in [&shared, &decoy, &inner] {
            fs::create_dir_all(dir)?;
        }
        let file = inner.join("file");
        fs::write(&file, "mine")?;
        world.count().await?;
        let listing = |dir: &str| -> Result<Vec<PathBuf>> {
            let mut names: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
            names.sort();
            Ok(names)
        };
        let before = (listing("/")?, listing("/etc")?, tree(&inner)?);
        let pod = world.run_pod_named("swapped-points").await?;
        let name = shared.join("name");
        let swap = || {
            let _ = fs::create_dir(&name);
            let _ = fs::remove_dir_all(&name);
            for target in [
                decoy.clone(),
                PathBuf::from("../../../../../../../..").join(decoy.strip_prefix("/").unwrap_or(&decoy)),
            ] {
                let _ = symlink(target, &name);
                let _ = fs::remove_file(&name);
            }
        };
        let mounts = [
            (shared.as_path(), "/shared"),
            (inner.as_path(), "/shared/name/made/dir"),
            (file.as_path(), "/shared/name/made-file"),
        ];
        while_swapping(swap, start_many(world, &pod, &mounts, false))?;
        ensure!(tree(&decoy)?.is_empty(), "made on the node: {:?}", tree(&decoy)?);
        ensure!((listing("/")?, listing("/etc")?, tree(&inner)?) == before, "the node's own directories changed");
        Ok(())
    });
}
