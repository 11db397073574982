//! Parts of the operator's own: devices by name, hooks by directory.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use podwright_cri_api::v1::CdiDevice;
use podwright_critest::{World, WorldBuilder, must, shell, with_world_of};
use podwright_testutil::Daemon;
use serde_json::{Value, json};

/// A daemon that reads devices and hooks below `top`.
fn builder(top: &Path) -> WorldBuilder {
    must(["cdi", "cdi-run", "hooks"].iter().try_for_each(|name| fs::create_dir(top.join(name))).map_err(Into::into));
    let dirs = |names: &[&str]| names.iter().map(|name| format!("{:?}", top.join(name))).collect::<Vec<_>>().join(", ");
    WorldBuilder::daemon(Daemon::builder().config(&format!(
        "[cdi]\nspec_dirs = [{}]\n[hooks]\ndirs = [{}]\n",
        dirs(&["cdi", "cdi-run"]),
        dirs(&["hooks"])
    )))
}

/// A hook that is a script of the host's shell.
fn host_shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn named(name: &str) -> CdiDevice {
    CdiDevice { name: name.into() }
}

async fn refused(
    world: &mut World,
    config: &podwright_cri_api::v1::ContainerConfig,
    pod: &podwright_critest::Pod,
) -> String {
    match world.create(pod, config).await {
        Ok(id) => format!("container {id} was made"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn root_devices_are_given_by_name() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let (dir, told) = (top.path().to_owned(), top.path().join("told"));
    fs::write(top.path().join("library"), "of the vendor").expect("a file for the test");
    with_world_of(builder(top.path()), async move |world| {
        let spec = json!({
            "cdiVersion": "0.7.0", "kind": "vendor.com/gadget",
            "containerEdits": {
                "env": ["GADGETS=some"],
                "mounts": [{"hostPath": dir.join("library"), "containerPath": "/opt/library", "options": ["ro", "bind"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/sh",
                    "args": ["sh", "-c", format!("cd \"$(sed 's/.*\"bundle\":\"\\([^\"]*\\).*/\\1/')\" && cat rootfs/opt/library > {}", told.display())],
                    "env": ["PATH=/usr/bin:/bin"]}],
            },
            "devices": [
                {"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/gadget", "hostPath": "/dev/fuse", "permissions": "r"}], "env": ["A=1"]}},
                {"name": "b", "containerEdits": {"env": ["B=1"], "additionalGids": [4711]}},
            ],
        });
        let pod = world.run_pod_named("gadgets").await?;
        let mut config = shell("main", &world.image, "sleep 1000");
        config.cdi_devices = vec![named("vendor.com/gadget=a")];
        config.annotations.insert("cdi.k8s.io/more".into(), "vendor.com/gadget=b".into());
        // Nobody describes it yet; then somebody does, and the daemon is not asked to look.
        let error = refused(world, &config, &pod).await;
        ensure!(error.contains("vendor.com/gadget=a") && error.contains("cdi-run"), "{error}");
        ensure!(error.contains("invalid argument"), "{error}");
        fs::write(dir.join("cdi/broken.yaml"), "kind: [")?;
        fs::write(dir.join("cdi-run/gadget.json"), spec.to_string())?;
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "echo $GADGETS $A $B").await? == "some 1 1", "environment");
        ensure!(world.sh(&id, "cat /opt/library").await? == "of the vendor", "mount");
        world
            .sh(&id, "(exec 3< /dev/gadget) && ! (exec 3> /dev/gadget)")
            .await
            .context("a device that can only be read")?;
        ensure!(world.sh(&id, "id -G").await?.split(' ').any(|group| group == "4711"), "group");
        ensure!(fs::read_to_string(&told)? == "of the vendor", "the hook sees the root file system with its mounts");
        // Two files of one directory that describe the same device.
        fs::write(dir.join("cdi-run/other.json"), spec.to_string())?;
        config.metadata.get_or_insert_default().name = "second".into();
        let error = refused(world, &config, &pod).await;
        ensure!(error.contains("gadget.json") && error.contains("other.json"), "{error}");
        fs::remove_file(dir.join("cdi-run/other.json"))?;
        // What is no device any more.
        config.cdi_devices = vec![named("gadget")];
        let error = refused(world, &config, &pod).await;
        ensure!(error.contains("vendor.com/class=name"), "{error}");
        world.remove_pod(&pod.id).await?;
        world.nothing_left().await
    });
}

#[test]
fn root_hooks_of_a_directory_run_around_a_container() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let dir = top.path().to_owned();
    with_world_of(builder(top.path()), async move |world| {
        let log = dir.join("log");
        let file = |name: &str, hook: Value, when: Value, stages: Value| {
            let document = json!({"version": "1.0.0", "hook": hook, "when": when, "stages": stages});
            fs::write(dir.join("hooks").join(name), document.to_string())
        };
        let say = |word: &str| host_shell(&format!("echo {word} >> {}; cat >> {0}.state", log.display()));
        let traced = json!({"annotations": {"^test\\.hooks$": "^on$"}});
        file("1.json", say("made"), traced.clone(), json!(["createRuntime"]))?;
        file("2.json", say("started"), traced.clone(), json!(["poststart"]))?;
        file("3.json", say("gone"), traced, json!(["poststop"]))?;
        file("4.json", host_shell("exit 1"), json!({"commands": ["^/no/such/command$"]}), json!(["createRuntime"]))?;
        fs::write(dir.join("hooks/broken.json"), "{")?;
        let pod = world.run_pod_named("hooked").await?;
        let image = world.image.clone();
        let mut config = shell("main", &world.image, "sleep 1000");
        config.annotations.insert("test.hooks".into(), "on".into());
        config.annotations.insert("test.other".into(), "secret".into());
        let id = world.run(&pod, &config).await?;
        ensure!(fs::read_to_string(&log)? == "made\nstarted\n", "{}", fs::read_to_string(&log)?);
        world.remove(&id).await?;
        ensure!(
            fs::read_to_string(&log)? == "made\nstarted\ngone\n",
            "poststop hooks ran before the removal was answered"
        );
        let states = fs::read_to_string(dir.join("log.state"))?;
        ensure!(states.contains("\"test.hooks\":\"on\"") && !states.contains("secret"), "{states}");
        // One that fails refuses the start, and says why.
        file("5.json", host_shell("echo no gadget >&2; exit 3"), json!({"always": true}), json!(["createContainer"]))?;
        let error = match world.run(&pod, &shell("second", &image, "sleep 1000")).await {
            Ok(id) => format!("container {id} runs"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains("it ended with code 3; it said: no gadget"), "{error}");
        // One that hangs is killed at its time.
        let mut hangs = host_shell("sleep 1000");
        hangs["timeout"] = json!(1);
        file("5.json", hangs, json!({"always": true}), json!(["prestart"]))?;
        let error = match world.run(&pod, &shell("third", &image, "sleep 1000")).await {
            Ok(id) => format!("container {id} runs"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains("did not end within 1 s"), "{error}");
        world.remove_pod(&pod.id).await?;
        world.nothing_left().await
    });
}
