//! What plugins change: every kind of adjustment, limits of others, one after the other, and who may not.

use std::fs;

use anyhow::ensure;
use podwright_critest::{WorldBuilder, with_world, with_world_of};
use podwright_testutil::Daemon;
use serde_json::json;

use crate::plugin::Plugin;
use crate::{MIB, memory, refusal, refused, run, told, update_memory};

#[test]
fn root_a_plugin_changes_all_of_a_container() {
    let top = tempfile::tempdir().expect("a directory for the test");
    let dir = top.path().to_owned();
    let daemon = Daemon::builder().config(&format!("[cdi]\nspec_dirs = [{dir:?}]\n"));
    with_world_of(WorldBuilder::daemon(daemon), async move |world| {
        fs::write(dir.join("data"), "of the host")?;
        let cdi = json!({"cdiVersion": "0.7.0", "kind": "vendor.com/gadget",
            "devices": [{"name": "a", "containerEdits": {"env": ["GADGET=a"]}}]});
        fs::write(dir.join("gadget.json"), cdi.to_string())?;
        let plugin = Plugin::dial(&world.daemon, "10", "changer").await?;
        let pod = world.run_pod_named("changed").await?;
        let state = dir.join("state");
        let adjust = json!({
            "annotations": {"nri.changed": "yes"},
            "env": [{"key": "COLOUR", "value": "blue"}, {"key": "-GONE"}],
            "mounts": [{"destination": "/data", "type": "bind", "source": dir.join("data"), "options": ["bind", "ro"]}],
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 77, "soft": 66}],
            "CDI_devices": [{"name": "vendor.com/gadget=a"}],
            "hooks": {"create_runtime": [{"path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", state.display())], "env": ["PATH=/usr/bin:/bin"]}]},
            "linux": {
                "devices": [{"path": "/dev/gadget", "type": "c", "major": 1, "minor": 3, "file_mode": {"value": 0o640}, "uid": {"value": 7}}],
                "resources": {"memory": {"limit": {"value": (48 * MIB).to_string()}}, "pids": {"limit": 99}},
                "oom_score_adj": {"value": 123},
                "sysctl": {"net.ipv4.ip_unprivileged_port_start": "33"},
                "namespaces": [{"type": "-ipc"}],
                "seccomp_policy": {"default_action": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errno_ret": {"value": 28}}]},
            },
        });
        let mut config = told(world, "main", &[("10.adjust", adjust)]);
        config.envs = vec![("GONE".to_owned(), "x".to_owned()), ("KEPT".to_owned(), "y".to_owned())]
            .into_iter()
            .map(|(key, value)| podwright_cri_api::v1::KeyValue { key, value: value.into_bytes() })
            .collect();
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "echo $COLOUR.$GONE.$KEPT.$GADGET").await? == "blue..y.a", "environment");
        ensure!(world.sh(&id, "cat /data; touch /data 2>/dev/null || echo .ro").await? == "of the host.ro", "mount");
        ensure!(world.sh(&id, "ulimit -n; ulimit -Hn").await? == "66\n77", "limits of processes");
        ensure!(memory(world, &id).await? == 48 * MIB, "memory");
        ensure!(world.sh(&id, "cat /proc/1/oom_score_adj").await? == "123", "OOM score");
        let device = world.sh(&id, "stat -c '%a %u %t:%T' /dev/gadget; cat /dev/gadget").await?;
        ensure!(device == "640 7 1:3", "{device}");
        let error = world.sh(&id, "mkdir /made 2>&1 || true").await?;
        ensure!(error.contains("No space left"), "the filter holds for what is executed later: {error}");
        ensure!(world.sh(&id, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await? == "33", "sysctl");
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/ipc"));
        ensure!(of(&world.pid(&id).await?.to_string())? == of("self")?, "the IPC namespace is the host's");
        let seen = fs::read_to_string(&state)?;
        ensure!(seen.contains("\"nri.changed\":\"yes\""), "the hook ran, and was told of the annotation: {seen}");
        let status = world.status(&id).await?;
        let limit = status.resources.and_then(|resources| resources.linux).map(|linux| linux.memory_limit_in_bytes);
        ensure!(limit == Some(48 * MIB), "the status tells the limit in force: {limit:?}");
        // What can not be had is an error that names it, and leaves nothing.
        let scheduler = json!({"linux": {"io_priority": {"class": 2, "priority": 1}}});
        let error = refused(world, &pod, "second", &[("10.adjust", scheduler)]).await;
        ensure!(error.contains("an I/O priority"), "{error}");
        let device = json!({"CDI_devices": [{"name": "vendor.com/gadget=none"}]});
        let error = refused(world, &pod, "second", &[("10.adjust", device)]).await;
        ensure!(error.contains("vendor.com/gadget=none"), "{error}");
        let joined = json!({"linux": {"namespaces": [{"type": "ipc", "path": "/proc/1/ns/ipc"}]}});
        let error = refused(world, &pod, "second", &[("10.adjust", joined)]).await;
        ensure!(error.contains("/proc/1/ns/ipc"), "{error}");
        drop(plugin);
        run(world, &pod, "second", &[]).await?;
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_plugins_come_one_after_the_other() {
    with_world(async |world| {
        // The later one joins first: indices decide.
        let _second = Plugin::dial(&world.daemon, "20", "second").await?;
        let first = Plugin::dial(&world.daemon, "10", "first").await?;
        let pod = world.run_pod_named("several").await?;
        let set = |key: &str, value: &str| json!({"env": [{"key": key, "value": value}]});
        let both = told(world, "both", &[("10.adjust", set("ONE", "1")), ("20.adjust", set("TWO", "2"))]);
        let id = world.run(&pod, &both).await?;
        ensure!(world.sh(&id, "echo $ONE$TWO").await? == "12", "both");
        let conflict = told(world, "conflict", &[("10.adjust", set("SAME", "1")), ("20.adjust", set("SAME", "2"))]);
        let error = refusal(world, &pod, &conflict).await;
        ensure!(error.contains("10-first") && error.contains("20-second") && error.contains("SAME"), "{error}");
        let taken = json!({"env": [{"key": "-SAME"}, {"key": "SAME", "value": "2"}]});
        let replaced = told(world, "replaced", &[("10.adjust", set("SAME", "1")), ("20.adjust", taken)]);
        let id = world.run(&pod, &replaced).await?;
        ensure!(world.sh(&id, "echo $SAME").await? == "2", "taken away first");
        let rejected =
            told(world, "rejected", &[("10.adjust", set("A", "1")), ("20.reject", json!("not on this node"))]);
        let error = refusal(world, &pod, &rejected).await;
        ensure!(error.contains("20-second") && error.contains("not on this node"), "{error}");
        // Those that were refused are told as gone, and are nobody's any more.
        let lines = first.book.lines();
        let refused = lines.iter().find(|line| line.name == "rejected").map(|line| line.container.clone());
        let refused = refused.unwrap_or_default();
        ensure!(first.book.of(&refused).last().is_some_and(|event| event == "RemoveContainer"), "{lines:#?}");
        ensure!(world.status(&refused).await.is_err(), "it is not there");
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_plugins_change_limits_of_others() {
    with_world(async |world| {
        let plugin = Plugin::dial(&world.daemon, "10", "limits").await?;
        let pod = world.run_pod_named("limits").await?;
        let other = run(world, &pod, "other", &[]).await?;
        let limit = |id: &str, bytes: i64| json!([{"container_id": id, "linux": {"resources": {"memory": {"limit": {"value": bytes.to_string()}}}}}]);
        // In the answer to a making.
        run(world, &pod, "one", &[("10.update", limit(&other, 41 * MIB))]).await?;
        ensure!(memory(world, &other).await? == 41 * MIB, "with the making of another");
        // By itself.
        let later = told(world, "two", &[("10.later", limit(&other, 42 * MIB))]);
        world.run(&pod, &later).await?;
        let done = plugin.book.wait(|line| line.event == "UpdateContainers").await?;
        ensure!(done.text == "failed 0, error <nil>", "{}", done.text);
        ensure!(memory(world, &other).await? == 42 * MIB, "by itself");
        // Of none that there is.
        let absent = "f".repeat(64);
        run(world, &pod, "three", &[("10.later", limit(&absent, 42 * MIB))]).await?;
        let done = plugin.book.wait(|line| line.event == "UpdateContainers" && line.name == "three").await?;
        ensure!(done.text == "failed 1, error <nil>", "{}", done.text);
        // Over what the caller asks for.
        let watched = told(world, "watched", &[("10.limit", json!([]))]);
        let watched = world.run(&pod, &watched).await?;
        update_memory(world, &watched, 60 * MIB).await?;
        ensure!(memory(world, &watched).await? == 60 * MIB, "as asked for");
        ensure!(
            plugin.book.of(&watched).ends_with(&["UpdateContainer".into(), "PostUpdateContainer".into()]),
            "events"
        );
        world.remove_pod(&pod.id).await
    });
}
