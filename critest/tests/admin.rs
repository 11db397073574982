//! What operators ask: `podwright why` and `podwright check` against a running daemon.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use podwright_critest::{Cri, container, must, with_world};
use podwright_testutil::Daemon;
use serde_json::Value;

/// What it printed, if it said that all is well.
fn said(output: &Output) -> Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "podwright ended with {}: {out}{err}", output.status);
    Ok(out.into_owned())
}

/// The pods of `podwright why --output json`.
fn why(daemon: &Daemon, pod: &str) -> Result<Vec<Value>> {
    let text = said(&daemon.podwright(&["why", pod, "--output", "json"])?)?;
    serde_json::from_str(&text).with_context(|| format!("reading {text}"))
}

fn steps<'a>(pod: &'a Value, container: &str) -> Vec<&'a str> {
    let all = pod["taken"].as_array().into_iter().flatten();
    all.filter(|step| step["container"] == container).filter_map(|step| step["step"].as_str()).collect()
}

#[test]
fn root_why_tells_the_steps_of_a_pod_and_its_containers() {
    with_world(async |world| {
        let pod = world.run_pod_named("asked").await?;
        let absent = container("absent", &world.image, &["/no/such/program"]);
        let id = world.create(&pod, &absent).await?;
        world.start(&id).await.err().context("the start succeeded")?;
        let whole = why(&world.daemon, &pod.id)?;
        ensure!(whole.len() == 1 && whole[0]["state"] == "ready", "{whole:?}");
        ensure!(steps(&whole[0], "").contains(&"network"), "{whole:?}");
        let failed = whole[0]["taken"].as_array().into_iter().flatten().find(|step| step["error"] != "");
        let failed = failed.context("no step failed")?;
        ensure!(failed["container"] == "absent", "{failed}");
        ensure!(failed["error"].as_str().is_some_and(|error| error.contains("/no/such/program")), "{failed}");

        ensure!(why(&world.daemon, &pod.id[..12])? == whole, "the start of its id names it too");
        let name = format!(
            "{}/{}",
            whole[0]["namespace"].as_str().unwrap_or_default(),
            whole[0]["name"].as_str().unwrap_or_default()
        );
        ensure!(why(&world.daemon, &name)? == whole, "its name does too");
        let text = said(&world.daemon.podwright(&["why", &name])?)?;
        ensure!(text.contains("FAILED") && text.contains("container absent"), "{text}");

        let unknown = world.daemon.podwright(&["why", "no/such"])?;
        let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
        ensure!(!unknown.status.success() && error.contains("no pod is known"), "{error}");
        Ok(())
    });
}

#[test]
fn root_why_remembers_a_pod_that_could_not_be_made() {
    let test = async {
        // There is no conflist: no pod gets a network.
        let daemon = Daemon::builder().cni().start()?;
        let mut cri = Cri::connect(&daemon).await?;
        cri.run_pod_named("hopeless").await.err().context("the pod was made")?;
        let pods = why(&daemon, &format!("{}/hopeless", cri.pod("hopeless").metadata.unwrap_or_default().namespace))?;
        ensure!(pods.len() == 1 && pods[0]["state"] == "could not be made", "{pods:?}");
        ensure!(pods[0]["message"].as_str().is_some_and(|text| !text.is_empty()), "{pods:?}");
        ensure!(steps(&pods[0], "").iter().any(|step| step.starts_with("undo ")), "{pods:?}");
        Ok(())
    };
    let runtime = must(tokio::runtime::Runtime::new().context("making a runtime"));
    must(runtime.block_on(test));
}

/// Steps, times, errors of a container that could not be made, and of a pod when it is gone.
#[test]
fn root_why_remembers_what_failed_and_what_was_removed() {
    with_world(async |world| {
        let pod = world.run_pod_named("gone").await?;
        let id = world.run_shell(&pod, "good", "sleep 1000").await?;
        let absent = container("unmade", "localhost/no/such:image", &["true"]);
        world.create(&pod, &absent).await.err().context("a container of no image was made")?;
        let now = why(&world.daemon, &pod.id)?;
        let of_unmade = |pod: &Value| -> Vec<Value> {
            let all = pod["taken"].as_array().cloned().unwrap_or_default();
            all.into_iter().filter(|step| step["container"] == "unmade").collect()
        };
        let failed = of_unmade(&now[0]).into_iter().find(|step| step["error"] != "").context("no step failed")?;
        ensure!(failed["error"].as_str().is_some_and(|error| error.contains("no/such:image")), "{failed}");

        world.remove(&id).await?;
        world.remove_pod(&pod.id).await?;
        let past = why(&world.daemon, "default/gone")?;
        ensure!(past.len() == 1 && past[0]["state"] == "removed" && past[0]["id"] == pod.id.as_str(), "{past:?}");
        ensure!(steps(&past[0], "").contains(&"undo shim") && steps(&past[0], "good").contains(&"process"), "{past:?}");
        ensure!(!of_unmade(&past[0]).is_empty(), "{past:?}");
        for step in past[0]["taken"].as_array().into_iter().flatten() {
            ensure!(step["startedAtNanos"].as_i64().is_some_and(|at| at > 0) && step["tookMicros"].is_u64(), "{step}");
        }
        let text = said(&world.daemon.podwright(&["why", "default/gone"])?)?;
        ensure!(text.contains("removed") && text.contains("FAILED") && text.contains("undo shim"), "{text}");
        Ok(())
    });
}

#[test]
fn root_check_names_what_belongs_to_no_pod() {
    with_world(async |world| {
        let pod = world.run_pod_named("known").await?;
        let clean = said(&world.daemon.podwright(&["check"])?)?;
        // What the host must have, as far as this one has it wherever tests run.
        for subject in [
            "kernel",
            "cgroups",
            "overlayfs",
            "nf_tables",
            "user namespaces",
            "seccomp",
            "mapped ids",
            "CNI",
            "open files",
            "space for images and pods",
        ] {
            ensure!(clean.contains(&format!(" {subject}: ")), "{subject}: {clean}");
        }
        ensure!(clean.contains("OK    daemon:") && clean.contains("nothing that belongs to no record"), "{clean}");
        ensure!(!clean.contains(&pod.id), "{clean}");

        let nobody = "0f".repeat(32);
        let left =
            [format!("root/containers/{nobody}"), format!("state/shm/{nobody}")].map(|name| world.daemon.path(&name));
        left.iter().try_for_each(fs::create_dir_all)?;
        let found = said(&world.daemon.podwright(&["check"])?)?;
        for path in &left {
            ensure!(found.contains(&path.display().to_string()), "{found}");
            fs::remove_dir(path)?;
        }
        ensure!(!found.contains(&pod.id), "{found}");
        Ok(())
    });
}

#[test]
fn root_check_and_version_answer_without_a_daemon() {
    let test = || -> Result<()> {
        let mut daemon = Daemon::start()?;
        let socket = daemon.path("state/admin.sock");
        let meta = fs::metadata(&socket)?;
        ensure!(meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o660, "{meta:?}");
        let version = said(&daemon.podwright(&["version"])?)?;
        ensure!(version.contains("podwrightd") && !version.contains("not reached"), "{version}");
        daemon.stop()?;
        ensure!(!socket.exists(), "the socket is left");
        let check = said(&daemon.podwright(&["check"])?)?;
        ensure!(check.contains("OK    kernel:") && check.contains("WARN  daemon: no podwrightd answers"), "{check}");
        ensure!(said(&daemon.podwright(&["version"])?)?.contains("not reached"));
        let why = daemon.podwright(&["why", "x"])?;
        ensure!(String::from_utf8_lossy(&why.stderr).contains("start it"), "{why:?}");
        Ok(())
    };
    must(test());
}

/// Each kind of leak is planted, seen, and removed; pods and what belongs to others stay.
#[test]
fn root_check_repairs_what_belongs_to_no_pod_and_nothing_else() {
    with_world(async |world| {
        let pod = world.run_pod_named("kept").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        world.sh_until(&id, "grep -qx sleep /proc/[0-9]*/comm").await?;
        let before = world.daemon.census()?;
        let (base, nobody) = (world.daemon.path(""), "0f".repeat(32));
        let own = |name: &str| base.join(format!("{name}{nobody}"));
        for dir in ["root/sandboxes/", "root/containers/", "state/shm/"] {
            fs::create_dir_all(own(dir).join("inner"))?;
        }
        fs::write(own("root/containers/").join("record.json"), "x")?;
        let log = base.join(format!("state/shims/{nobody}.log"));
        fs::write(&log, "x")?;
        let host = world.daemon.host();
        for point in [own("root/containers/").join("inner"), own("state/shm/")] {
            host.run(&["mount", "-t", "tmpfs", "leak", &point.display().to_string()])?;
        }
        host.run(&["ip", "netns", "add", &nobody])?;
        // Of others: names that we do not give, a mount elsewhere, a namespace that somebody pinned.
        let others = [base.join("root/containers/lost+found"), base.join("state/shm/other")];
        others.iter().try_for_each(fs::create_dir_all)?;
        let elsewhere = own("volumes/");
        fs::create_dir_all(&elsewhere)?;
        host.run(&["mount", "-t", "tmpfs", "mine", &elsewhere.display().to_string()])?;
        host.run(&["ip", "netns", "add", "cni-of-somebody"])?;

        let pin = std::path::PathBuf::from(format!("/run/netns/{nobody}"));
        let planted = [own("root/sandboxes/"), own("root/containers/"), own("state/shm/"), log, pin];
        let told = said(&world.daemon.podwright(&["check"])?)?;
        for path in &planted {
            ensure!(told.contains(&format!("{} belongs to no record", path.display())), "{}: {told}", path.display());
        }
        let repaired = said(&world.daemon.podwright(&["check", "--repair"])?)?;
        ensure!(!repaired.contains("can not be removed"), "{repaired}");
        for path in &planted {
            ensure!(
                repaired.contains(&format!("{} belonged to no record and was removed", path.display())),
                "{repaired}"
            );
        }
        let after = said(&world.daemon.podwright(&["check"])?)?;
        ensure!(after.contains("nothing that belongs to no record"), "{after}");
        ensure!(others.iter().all(|path| path.exists()), "what others made is gone");
        let host = world.daemon.host();
        let table = host.run(&["cat", "/proc/self/mountinfo"])?;
        ensure!(table.contains(&elsewhere.display().to_string()), "what others mounted is gone");
        ensure!(host.run(&["ip", "netns", "list"])?.contains("cni-of-somebody"), "a pin of others is gone");
        for path in &others {
            fs::remove_dir(path)?;
        }
        host.run(&["umount", &elsewhere.display().to_string()])?;
        fs::remove_dir(&elsewhere)?;
        host.run(&["ip", "netns", "del", "cni-of-somebody"])?;
        ensure!(world.sh(&id, "echo well").await? == "well", "the pod that is known");
        world.comes_back_to(&before).await
    });
}

#[test]
fn root_images_verify_finds_and_mends() {
    with_world(async |world| {
        let whole = said(&world.daemon.podwright(&["images", "verify"])?)?;
        ensure!(whole.contains("images 1,") && whole.contains("damaged 0"), "{whole}");
        let layers = fs::read_dir(world.daemon.path("root/layers"))?.flatten().next().context("no layer")?.path();
        let program = layers.join("fs/bin/busybox");
        let content = fs::read(&program)?;
        fs::write(&program, "damaged")?;
        let told = world.daemon.podwright(&["images", "verify", "--no-repair"])?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        ensure!(
            !told.status.success() && text.contains("FAIL  layer sha256:") && text.contains(&world.image),
            "{text}"
        );
        let mended = said(&world.daemon.podwright(&["images", "verify"])?)?;
        ensure!(mended.contains("unpacked again") && fs::read(&program)? == content, "{mended}");
        let pod = world.run_pod_named("mended").await?;
        world.run_shell(&pod, "main", "sleep 1000").await?;
        world.remove_pod(&pod.id).await?;
        world.count().await
    });
}
