//! Bad input: each gets an error that names step, object and cause, and the host is as before.

use std::fs;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ContainerConfig, CreateContainerRequest, ExecSyncRequest, ImageSpec, KeyValue, PodSandboxConfig,
    RunPodSandboxRequest,
};
use podwright_critest::{Pod, World, WorldBuilder, container, mount, shell, with_world, with_world_of};
use podwright_testutil::image::{Blob, Compression, Format, Image, ImageBuilder, Layer, LayerBuilder};
use podwright_testutil::{Daemon, RawReply, RawServer, base, write_program};
use tonic::Code;

/// More than any field may hold.
const HUGE: usize = 10 << 20;

#[test]
fn root_bad_pods_are_refused() {
    with_world(async |world| {
        type Change = fn(&mut PodSandboxConfig);
        let cases: [(&str, Change); 10] = [
            ("no metadata", |c| c.metadata = None),
            ("no name", |c| c.metadata.get_or_insert_default().name.clear()),
            ("no uid", |c| c.metadata.get_or_insert_default().uid.clear()),
            ("a NUL in the name", |c| c.metadata.get_or_insert_default().name = "a\0b".into()),
            ("a huge name", |c| c.metadata.get_or_insert_default().name = "x".repeat(HUGE)),
            ("a huge hostname", |c| c.hostname = "h".repeat(300)),
            ("a line feed in the hostname", |c| c.hostname = "a\nb".into()),
            ("a relative log directory", |c| c.log_directory = "../logs".into()),
            ("a sysctl of the host", |c| {
                c.linux.get_or_insert_default().sysctls.insert("kernel.panic".into(), "1".into());
            }),
            ("a line feed in a name server", |c| {
                c.dns_config.get_or_insert_default().servers = vec!["1.1.1.1\nsearch evil".into()];
            }),
        ];
        let none = world.runtime.run_pod_sandbox(RunPodSandboxRequest::default()).await;
        ensure!(none.is_err_and(|e| e.code() == Code::InvalidArgument), "no configuration");
        for (what, change) in cases {
            let mut config = world.pod("bad");
            change(&mut config);
            let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
            let error =
                world.runtime.run_pod_sandbox(request).await.err().with_context(|| format!("{what}: accepted"))?;
            ensure!(error.code() == Code::InvalidArgument, "{what}: {error}");
            ensure!(
                !error.message().is_empty() && error.message().len() < 4096,
                "{what}: {} bytes",
                error.message().len()
            );
            world.nothing_left().await.context(what)?;
        }
        let request =
            RunPodSandboxRequest { config: Some(world.pod("bad")), runtime_handler: "no-such-handler".into() };
        let error = world.runtime.run_pod_sandbox(request).await.err().context("an unknown handler")?;
        ensure!(error.message().contains("no-such-handler"), "{error}");
        Ok(())
    });
}

#[test]
fn root_bad_containers_are_refused() {
    with_world(async |world| {
        type Change = fn(&mut ContainerConfig);
        let pod = world.run_pod_named("good").await?;
        let before = world.daemon.census()?;
        let cases: [(&str, Change); 11] = [
            ("no metadata", |c| c.metadata = None),
            ("no image", |c| c.image = None),
            ("an image that is not there", |c| {
                c.image = Some(ImageSpec { image: "no/such:1".into(), ..Default::default() })
            }),
            ("a malformed reference", |c| {
                c.image = Some(ImageSpec { image: "UPPER//:::".into(), ..Default::default() })
            }),
            ("a NUL in an argument", |c| c.args = vec!["a\0b".into()]),
            ("a huge argument", |c| c.args = vec!["a".repeat(HUGE)]),
            ("a relative mount point", |c| c.mounts = vec![mount("/tmp".as_ref(), "relative")]),
            ("a mount point above the root", |c| c.mounts = vec![mount("/tmp".as_ref(), "/../../tmp")]),
            ("a log path that leads out", |c| c.log_path = "../../../escaped.log".into()),
            ("a NUL in an environment variable", |c| c.envs = vec![KeyValue { key: "A\0".into(), value: "b".into() }]),
            ("an unknown capability", |c| {
                let linux = c.linux.get_or_insert_default().security_context.get_or_insert_default();
                linux.capabilities.get_or_insert_default().add_capabilities = vec!["FLY".into()];
            }),
        ];
        for (what, change) in cases {
            let mut config = container("bad", &world.image, &["true"]);
            change(&mut config);
            // What create takes, start must not.
            let error = create_and_start(world, &pod, config).await.err();
            let error = error.with_context(|| format!("{what}: accepted"))?;
            ensure!(!format!("{error:#}").is_empty(), "{what}");
            world.comes_back_to(&before).await.context(what)?;
        }
        let request = CreateContainerRequest { pod_sandbox_id: "0".repeat(64), ..Default::default() };
        ensure!(world.runtime.create_container(request).await.is_err(), "an unknown pod");
        let exec = ExecSyncRequest { container_id: "../../etc".into(), cmd: vec!["true".into()], ..Default::default() };
        ensure!(world.runtime.exec_sync(exec).await.is_err(), "an id that is a path");
        Ok(())
    });
}

async fn create_and_start(world: &mut World, pod: &Pod, config: ContainerConfig) -> Result<()> {
    let id = world.create(pod, &config).await?;
    let outcome = world.start(&id).await;
    world.remove(&id).await?;
    outcome
}

#[test]
fn root_bad_starts_leave_nothing_running() {
    with_world(async |world| {
        let pod = world.run_pod_named("good").await?;
        fs::create_dir_all(world.log_path(&pod, "directory"))?;
        let image = world.image.clone();
        let before = world.daemon.census()?;
        let mut missing = container("missing", &image, &["true"]);
        missing.mounts = vec![mount(&world.daemon.path("volumes/not-there/at/all"), "/x")];
        let mut cwd = container("cwd", &image, &["true"]);
        cwd.working_dir = "/etc/passwd".into();
        for (what, config) in [
            ("a log path that is a directory", container("directory", &image, &["true"])),
            ("a program that is a directory", container("program", &image, &["/etc"])),
            ("a program without the right to run", container("mode", &image, &["/etc/passwd"])),
            ("a working directory that is a file", cwd),
        ] {
            let error =
                create_and_start(world, &pod, config).await.err().with_context(|| format!("{what}: started"))?;
            ensure!(format!("{error:#}").len() > 20, "{what}: {error:#}");
            world.comes_back_to(&before).await.context(what)?;
        }
        // As with other runtimes, a missing source is made as a directory or refused; either way the pod lives on.
        create_and_start(world, &pod, missing).await.ok();
        let id = world.run(&pod, &shell("fine", &image, "sleep 1000")).await?;
        ensure!(world.sh(&id, "echo fine").await? == "fine", "the pod is as good as before");
        Ok(())
    });
}

#[test]
fn root_hostile_root_file_systems_do_not_lead_out() {
    with_world(async |world| {
        let target = world.daemon.path("volumes").display().to_string();
        let image = |links: &[(&str, &str)]| -> Result<Image> {
            let mut layer = LayerBuilder::new();
            for (path, to) in links {
                // The base has directories of these names.
                layer = layer.whiteout(path).symlink(path, to);
            }
            let layer = layer.finish(Compression::Gzip)?;
            Ok(ImageBuilder::new(Format::Oci).layer(&base::busybox_layer()?).layer(&layer).build())
        };
        for (tag, links) in [
            ("dev", &[("dev", "/")][..]),
            ("etc", &[("etc", target.as_str())][..]),
            ("proc", &[("proc", "/tmp")][..]),
            ("out", &[("etc", "../../../../../../../../../..")][..]),
        ] {
            let reference = world.registry.push(&image(links)?, "hostile", tag)?;
            // A layer that has both, a whiteout and its name, may be refused as well.
            if world.pull(&reference).await.is_err() {
                continue;
            }
            world.count().await?;
            let before = fs::read_dir(&target)?.count();
            let pod = world.run_pod_named(&format!("hostile-{tag}")).await?;
            let config = shell("main", &reference, "sleep 1000");
            // Refused, or started inside; what counts is the host.
            if let Ok(id) = world.run(&pod, &config).await {
                ensure!(world.sh(&id, "cat /proc/1/mountinfo | wc -l").await.is_ok() || tag == "proc", "{tag}");
            }
            world.remove_pod(&pod.id).await?;
            ensure!(fs::read_dir(&target)?.count() == before, "{tag}: files appeared on the host");
            world.nothing_left().await.with_context(|| format!("/{tag} as a link"))?;
        }
        Ok(())
    });
}

#[test]
fn root_bad_images_are_refused_and_leave_no_file() {
    with_world(async |world| {
        world.count().await?;
        for (what, reference) in bad_images(world)? {
            let error = world.pull(&reference).await.err().with_context(|| format!("{what}: pulled"))?;
            let text = format!("{error:#}");
            ensure!(text.len() > 20 && text.len() < 8192, "{what}: {text}");
            world.nothing_left().await.with_context(|| format!("{what}; the error was {text}"))?;
        }
        for reference in ["", " ", "UPPER/case", "a@sha256:123", "http://x/y", "x:tag:tag", "\0"] {
            ensure!(world.pull(reference).await.is_err(), "{reference:?} was pulled");
        }
        world.nothing_left().await
    });
}

fn bad_images(world: &World) -> Result<Vec<(&'static str, String)>> {
    let registry = &world.registry;
    let good = LayerBuilder::new().file("x", 0o644, b"x").finish(Compression::Gzip)?;
    let of = |layer: &Layer| ImageBuilder::new(Format::Oci).layer(layer).build();
    let mut bad = Vec::new();

    let image = base::variant("truncated", |image| image)?;
    bad.push(("a truncated layer", registry.push(&image, "truncated", "1")?));
    let layer = image.layers.last().context("a layer")?;
    let half = layer.blob.bytes.get(..layer.blob.bytes.len() / 2).unwrap_or_default();
    registry.storage().put_blob("truncated", &layer.blob.digest, half)?;

    let image = of(&LayerBuilder::new().file("y", 0o644, b"other").finish(Compression::Gzip)?);
    bad.push(("a layer with another digest", registry.push(&image, "digest", "1")?));
    let layer = image.layers.last().context("a layer")?;
    let mut swapped = layer.blob.bytes.to_vec();
    if let Some(last) = swapped.last_mut() {
        *last ^= 1;
    }
    registry.storage().put_blob("digest", &layer.blob.digest, &swapped)?;

    let lying = Layer { diff_id: format!("sha256:{}", "0".repeat(64)), ..good.clone() };
    bad.push(("a wrong diff id", registry.push(&of(&lying), "diff", "1")?));
    let noise = Layer::from_stream(&vec![0xa5; 70_000], Compression::Gzip)?;
    bad.push(("a layer that is no tar stream", registry.push(&of(&noise), "noise", "1")?));
    let dots = LayerBuilder::new().file("../../../../tmp/podwright-escaped", 0o644, b"x").finish(Compression::Gzip)?;
    bad.push(("a path that leads out", registry.push(&of(&dots), "dots", "1")?));
    let hard = LayerBuilder::new().hard_link("stolen", "../../../../etc/shadow").finish(Compression::Gzip)?;
    bad.push(("a hard link that leads out", registry.push(&of(&hard), "hard", "1")?));

    for (what, manifest) in [
        ("a manifest that is no JSON", "nonsense"),
        (
            "a manifest without layers",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
        ),
        (
            "an index without this platform",
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
        ),
    ] {
        let blob = Blob::new(manifest.as_bytes().to_vec());
        registry.storage().put_manifest("manifest", Some("bad"), &blob)?;
        let digest = format!("{}/manifest@{}", registry.address(), blob.digest);
        bad.push((what, digest));
    }
    bad.push(("an absent tag", registry.reference("busybox", "absent")));
    bad.push(("an absent repository", registry.reference("absent", "1")));
    bad.push(("a registry that is not there", "127.0.0.1:1/x:1".into()));
    Ok(bad)
}

#[test]
fn root_registries_that_misbehave_do_not_wedge_a_pull() {
    with_world(async |world| {
        world.count().await?;
        type Script = fn(&str) -> RawReply;
        let scripts: [(&str, Script); 6] = [
            ("401", |_| RawReply::new("401 Unauthorized", &[], b"")),
            ("404", |_| RawReply::new("404 Not Found", &[], b"")),
            ("429", |_| RawReply::new("429 Too Many Requests", &[("Retry-After", "1")], b"")),
            ("503", |_| RawReply::new("503 Service Unavailable", &[], b"")),
            ("closed", |_| RawReply::Bytes(Vec::new())),
            ("a lie about the length", |_| {
                RawReply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n{}".to_vec())
            }),
        ];
        for (what, script) in scripts {
            let listener = world.daemon.host().listen("127.0.0.1:0")?;
            let server = RawServer::start(listener, script)?;
            let error = world.pull(&format!("{}/x:1", server.address())).await.err();
            let error = format!("{:#}", error.with_context(|| format!("{what}: pulled"))?);
            ensure!(error.contains(server.address()), "{what}: the error names the registry: {error}");
            world.nothing_left().await.with_context(|| what.to_owned())?;
        }
        // A registry that says nothing holds up its own pull only.
        let listener = world.daemon.host().listen("127.0.0.1:0")?;
        let server = RawServer::start(listener, |_| RawReply::Hang(b"HTTP/1.1 200 OK\r\n".to_vec()))?;
        let reference = format!("{}/x:1", server.address());
        let mut images = world.images.clone();
        let stuck = tokio::spawn(async move {
            let image = Some(ImageSpec { image: reference, ..Default::default() });
            let request = podwright_cri_api::v1::PullImageRequest { image, ..Default::default() };
            images.pull_image(request).await.map(|_| ())
        });
        let pod = world.run_pod_named("meanwhile").await?;
        world.remove_pod(&pod.id).await?;
        stuck.abort();
        Ok(())
    });
}

#[test]
fn root_plugins_that_hang_or_print_rubbish_are_given_up_on() {
    let builder = Daemon::builder().bridge_chain("1.0.0").config("[network.cni]\ntimeout_seconds = 2\n");
    with_world_of(WorldBuilder::daemon(builder), async |world| {
        let conflist = world.daemon.path("net.d/10-testnet.conflist");
        let good = fs::read_to_string(&conflist)?;
        for (what, script) in [
            ("hangs", "#!/bin/sh\nsleep 1000\n"),
            ("prints rubbish", "#!/bin/sh\necho '{not json'\n"),
            ("fails without a word", "#!/bin/sh\nexit 3\n"),
            ("floods", "#!/bin/sh\nexec cat /dev/zero\n"),
        ] {
            let plugin = world.daemon.path("plugins/bad-plugin");
            write_program(&plugin, script)?;
            let bad = r#"{"cniVersion":"1.0.0","name":"bad","plugins":[{"type":"bad-plugin"}]}"#;
            fs::write(&conflist, bad)?;
            let error =
                world.run_pod_named("unlucky").await.err().with_context(|| format!("{what}: the pod started"))?;
            ensure!(format!("{error:#}").contains("bad-plugin"), "{what}: {error:#}");
            fs::remove_file(&plugin)?;
            // DEL is repeated until it succeeds; a plugin that works again lets it.
            write_program(&plugin, "#!/bin/sh\nexit 0\n")?;
            world.nothing_left().await.with_context(|| format!("a plugin that {what}"))?;
        }
        fs::write(&conflist, good)?;
        Ok(())
    });
}
