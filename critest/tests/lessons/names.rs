//! Strings that others choose: of images, annotations, variables, log paths. None of them steers anything.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{
    ContainerStatusRequest, CreateContainerRequest, KeyValue, PodSandboxStatusRequest, RestorePodRequest,
};
use podwright_critest::{World, container, linux, shell, with_world};
use podwright_testutil::image::LayerBuilder;
use serde_json::{Value, json};
use tonic::Code;

use crate::{SLEEP, pull_with, tree};

/// Keys that steer some runtime.
const CONTROL_KEYS: [&str; 8] = [
    "org.systemd.property.ExecStartPre",
    "org.systemd.property.TimeoutStopUSec",
    "io.kubernetes.cri-o.Devices",
    "io.kubernetes.cri-o.UnifiedCgroup.main",
    "io.kubernetes.cri.container-type",
    "io.containerd.image-volumes",
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "run.oci.hooks.stderr",
];

/// The specification of a container, as it is on disk.
fn spec_of(world: &World, id: &str) -> Result<Value> {
    let path = world.daemon.path("root/containers").join(id).join("config.json");
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// containerd's CVE-2026-53488 (a label of an image became a control label) and CVE-2022-23648 (a volume of an image named files of the
/// node), CRI-O's CVE-2024-3154 (an annotation became a property of systemd).
#[test]
fn root_strings_of_images_and_annotations_steer_nothing() {
    with_world(async |world| {
        let secret = world.daemon.path("secret");
        fs::create_dir_all(&secret)?;
        fs::write(secret.join("file"), "of the node")?;
        let before = tree(&secret)?;
        let labels: Value = CONTROL_KEYS.iter().map(|key| ((*key).to_owned(), json!("evil"))).collect();
        let volumes =
            json!({format!("/../../../../..{}", secret.display()): {}, "/../../etc": {}, "/data/../../x": {}});
        let layer = LayerBuilder::new().file("here", 0o644, b"x");
        let image =
            pull_with(world, "labels", layer, |image| image.set("Labels", labels).set("Volumes", volumes)).await?;

        let annotated = CONTROL_KEYS.iter().map(|key| ((*key).to_owned(), "evil".to_owned()));
        let mut config = world.pod("annotated");
        config.annotations = annotated.clone().collect();
        let pod = world.run_pod(config).await?;
        let plain = world.run_shell(&pod, "plain", SLEEP).await?;
        let mut config = shell("annotated", &image, SLEEP);
        config.annotations = annotated.collect();
        let id = world.run(&pod, &config).await?;

        let status = world.status(&id).await?;
        ensure!(
            status.annotations == config.annotations && status.labels.is_empty(),
            "told as they were given: {status:?}"
        );
        let (mut spec, mut model) = (spec_of(world, &id)?, spec_of(world, &plain)?);
        let text = spec.to_string();
        ensure!(!text.contains("evil"), "{text}");
        for part in ["hooks", "vm"] {
            ensure!(spec.get(part).is_none_or(Value::is_null), "{part}: {text}");
        }
        // Nothing differs from a container without all that but its own names.
        for spec in [&mut spec, &mut model] {
            spec["annotations"] =
                json!(spec["annotations"].as_object().map(|keys| keys.keys().cloned().collect::<Vec<_>>()));
            spec["linux"]["cgroupsPath"] = Value::Null;
        }
        for part in ["annotations", "mounts", "linux", "root"] {
            ensure!(spec[part] == model[part], "{part}: {} is not {}", spec[part], model[part]);
        }
        ensure!(world.exec(&id, &["test", "-e", &secret.join("file").display().to_string()]).await?.exit_code != 0);
        ensure!(world.sh(&id, "ls /data /x 2>/dev/null; true").await?.is_empty(), "a volume of the image was made");
        ensure!(tree(&secret)? == before, "files of the node were touched");
        Ok(())
    });
}

/// containerd's CVE-2026-53492, -50195 and -53489, CRI-O's CVE-2024-8676: what a checkpoint's archive says about devices, mounts, logs and
/// tags was believed. Here an image that looks like one is an image, and unless the operator says so no archive is restored.
#[test]
fn root_checkpoint_archives_are_only_files() {
    with_world(async |world| {
        let decoy = world.daemon.path("decoy");
        fs::create_dir_all(&decoy)?;
        let before = tree(&decoy)?;
        let spec = json!({"ociVersion": "1.0.0", "process": {"args": ["/bin/false"], "user": {"uid": 7, "gid": 7}},
            "mounts": [{"destination": "/stolen", "type": "bind", "source": "/", "options": ["rbind"]}],
            "linux": {"devices": [{"path": "/dev/stolen", "type": "b", "major": 8, "minor": 0}]}});
        let config = json!({"rootfsImageName": "docker.io/evil/evil:latest", "ociRuntimeName": "/bin/sh"});
        let layer = LayerBuilder::new()
            .file("spec.dump", 0o644, spec.to_string().as_bytes())
            .file("config.dump", 0o644, config.to_string().as_bytes())
            .file("status.dump", 0o644, format!(r#"{{"logPath":"{}/log"}}"#, decoy.display()).as_bytes())
            .symlink("rootfs-diff.tar", &decoy.display().to_string())
            .dir("checkpoint", 0o755);
        let key = "io.kubernetes.cri-o.annotations.checkpoint.name";
        let image = pull_with(world, "checkpoint", layer, |image| image.set("Labels", json!({key: "web"}))).await?;
        let pod = world.run_pod_named("restored").await?;
        let id = world.run(&pod, &shell("main", &image, SLEEP)).await?;
        let seen =
            world.sh(&id, "id -u; ls -d /stolen /dev/stolen 2>/dev/null; cat /config.dump | wc -l; true").await?;
        ensure!(seen == "0\n0", "{seen}");
        ensure!(world.status(&id).await?.image.is_some_and(|spec| spec.image == image), "the image that was asked for");
        // An archive on disk in the place of an image's name, as `kubelet checkpoint` writes them.
        let archive = world.daemon.path("checkpoint.tar");
        fs::write(&archive, LayerBuilder::new().file("spec.dump", 0o644, spec.to_string().as_bytes()).stream()?)?;
        let mut named = container("archive", &archive.display().to_string(), &["true"]);
        named.image.get_or_insert_default().image = archive.display().to_string();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(named),
            sandbox_config: Some(pod.config.clone()),
        };
        ensure!(world.runtime.create_container(request).await.is_err(), "an archive was taken for an image");
        let request = RestorePodRequest { checkpoint_path: archive.display().to_string(), ..Default::default() };
        let outcome = world.runtime.restore_pod(request).await.err().context("RestorePod")?;
        ensure!(outcome.code() == Code::Unimplemented, "{outcome}");
        ensure!(tree(&decoy)? == before, "files of the node were touched");
        Ok(())
    });
}

/// CRI-O's CVE-2026-15809: a line feed in HOME added lines to the container's passwd.
#[test]
fn root_variables_add_no_line_to_any_file() {
    with_world(async |world| {
        let pod = world.run_pod_named("lines").await?;
        let files = "cat /etc/passwd /etc/group /etc/hosts /etc/resolv.conf | grep -v '^[0-9a-f.:]*\t'";
        let plain = world.run_shell(&pod, "plain", SLEEP).await?;
        let model = world.sh(&plain, files).await?;
        ensure!(model.contains("root"), "{model}");
        let evil = "/root\nevil::0:0::/:/bin/sh";
        for user in [None, Some("root")] {
            let mut config = shell(&format!("home-{}", user.unwrap_or("none")), &world.image, SLEEP);
            config.envs = ["HOME", "HOSTNAME", "USER", "container"]
                .map(|key| KeyValue { key: key.into(), value: evil.as_bytes().to_vec() })
                .to_vec();
            linux(&mut config).1.run_as_username = user.unwrap_or_default().into();
            // Refused, or a variable and nothing else.
            if let Ok(id) = world.run(&pod, &config).await {
                ensure!(world.sh(&id, files).await? == model, "a file has other lines");
            }
        }
        for name in ["a\nevil::0:0::/:/bin/sh", "root:0\n", "\u{0}", "a b"] {
            let mut config = shell("name", &world.image, SLEEP);
            linux(&mut config).1.run_as_username = name.into();
            ensure!(world.run(&pod, &config).await.is_err(), "{name:?} is a user");
        }
        for host in ["a\nevil", "a\u{7f}", "a b", "a\t127.0.0.1 b"] {
            let mut config = world.pod("bad");
            config.hostname = host.into();
            ensure!(world.run_pod(config).await.is_err(), "{host:?} is a host name");
        }
        Ok(())
    });
}

/// CRI-O's CVE-2025-0750: paths of logs led out of their directory, and what was mounted where they led was unmounted.
#[test]
fn root_log_paths_stay_in_their_directory() {
    with_world(async |world| {
        let (decoy, mounted) = (world.daemon.path("decoy"), world.daemon.path("logs/mounted"));
        for dir in [&decoy, &mounted] {
            fs::create_dir_all(dir)?;
        }
        fs::write(decoy.join("file"), "kept")?;
        let point = mounted.display().to_string();
        world.daemon.host().run(&["mount", "-t", "tmpfs", "mine", &point])?;
        world.count().await?;
        let before = tree(&decoy)?;
        let pod = world.run_pod_named("logs").await?;
        fs::create_dir_all(&pod.config.log_directory)?;
        symlink(decoy.join("file"), world.log_path(&pod, "link"))?;
        let to_decoy = format!("../../decoy/{}", "x.log");
        let absolute = decoy.join("abs.log").display().to_string();
        for path in
            [&to_decoy, "a/../../../decoy/x", &absolute, "..", "../mounted", "link.log", "a\nb", "./../mounted/x"]
        {
            let mut config = shell("main", &world.image, "echo written; sleep 1000");
            config.log_path = path.to_owned();
            if let Ok(id) = world.create(&pod, &config).await {
                let _ = world.start(&id).await;
                world.remove(&id).await?;
            }
            ensure!(tree(&decoy)? == before, "{path:?} led to {:?}", tree(&decoy)?);
        }
        let bad = ["../../decoy", "relative", "/tmp/../etc", "/a\0b"];
        for directory in bad {
            let mut config = world.pod("bad");
            config.log_directory = directory.into();
            ensure!(world.run_pod(config).await.is_err(), "{directory:?} is a directory for logs");
        }
        let mut config = world.pod("over-a-mount");
        config.log_directory.clone_from(&point);
        let over = world.run_pod(config).await?;
        world.run_shell(&over, "main", "echo written").await?;
        for pod in [&over, &pod] {
            world.remove_pod(&pod.id).await?;
            let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
            ensure!(world.runtime.pod_sandbox_status(request).await.is_err());
        }
        let table = world.daemon.host().run(&["cat", "/proc/self/mountinfo"])?;
        ensure!(table.contains(&point), "what somebody else mounted was unmounted");
        let request = ContainerStatusRequest { container_id: "../../decoy".into(), verbose: true };
        ensure!(world.runtime.container_status(request).await.is_err());
        ensure!(tree(&decoy)? == before);
        Ok(())
    });
}
