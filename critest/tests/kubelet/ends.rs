//! How containers end, how kubelet tells it and what it does then; and the limits that they run under.

use anyhow::{Context, ensure};
use serde_json::json;

use crate::node::with_node;
use crate::status::PodStatus;

#[test]
fn root_each_end_has_its_reason_and_message() {
    with_node(json!({}), async |node| {
        let mut oom = node.shell("oom", "tail /dev/zero");
        oom["resources"] = json!({"limits": {"memory": "20Mi"}});
        let bye = node.shell("bye", "echo for the operator >/dev/termination-log; exit 3");
        let mut lines = node.shell("lines", "echo the last line; exit 4");
        lines["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
        let fine = node.shell("fine", "exit 0");
        node.add("ends", &json!({"restartPolicy": "Never", "containers": [oom, bye, lines, fine]}))?;
        let pod = node.until("ends", "ended", |pod| pod.phase() == "Failed").await?;
        let cases = [
            ("oom", "OOMKilled", 137, ""),
            ("bye", "Error", 3, "for the operator"),
            ("lines", "Error", 4, "the last line"),
            ("fine", "Completed", 0, ""),
        ];
        for (name, reason, code, message) in cases {
            let end = pod.container(name).ended().with_context(|| format!("{name} has not ended"))?;
            ensure!(end["reason"] == json!(reason) && end["exitCode"] == json!(code), "{name}: {end}");
            ensure!(end["message"].as_str().unwrap_or_default().trim() == message, "{name}: {end}");
        }
        node.add("done", &json!({"restartPolicy": "OnFailure", "containers": [node.shell("main", "true")]}))?;
        node.until("done", "succeeded", |pod| pod.phase() == "Succeeded").await?;
        Ok(())
    });
}

#[test]
fn root_what_crashes_is_started_again_after_a_pause_and_one_dead_one_is_kept() {
    with_node(json!({}), async |node| {
        node.add("crash", &json!({"containers": [node.shell("main", "echo again; exit 1")]}))?;
        let waits = |pod: &PodStatus| pod.container("main").waits() == "CrashLoopBackOff";
        node.until("crash", "in CrashLoopBackOff", waits).await?;
        node.until("crash", "restarted", |pod| pod.container("main").restarts() >= 4).await?;
        let count = || {
            let all = node.world.daemon.crictl(&["ps", "-aq", "--name", "main"])?;
            Ok(Some(all.lines().count()).filter(|count| *count <= 2))
        };
        let count = node.settled("dead containers are collected", count).await?;
        ensure!(count >= 1, "the last one is kept for its log");
        Ok(())
    });
}

#[test]
fn root_what_does_not_end_when_asked_is_killed_after_its_time() {
    with_node(json!({}), async |node| {
        let deaf = node.shell("main", "trap '' TERM; while :; do sleep 0.2; done");
        node.add("deaf", &json!({"terminationGracePeriodSeconds": 2, "containers": [deaf]}))?;
        let pod = node.ready("deaf").await?;
        let pid = node.world.pid(&pod.container("main").id().context("no id")?).await?;
        node.take("deaf")?;
        let gone = || Ok(Some(()).filter(|()| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
        node.settled("the process is gone", gone).await?;
        let empty = || Ok(node.pod("deaf")?.is_none().then_some(()));
        node.settled("the pod is gone", empty).await
    });
}

#[test]
fn root_limits_reach_the_cgroups_of_pods_and_containers() {
    with_node(json!({}), async |node| {
        let mut main = node.shell("main", "sleep 1000");
        main["resources"] =
            json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}});
        node.add("limits", &json!({"terminationGracePeriodSeconds": 1, "containers": [main]}))?;
        let pod = node.ready("limits").await?;
        let pid = node.world.pid(&pod.container("main").id().context("no id")?).await?;
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let group = |controller: &str| {
            let line = cgroups.lines().find(|line| {
                line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller))
            });
            let path = line.and_then(|line| line.splitn(3, ':').nth(2)).context("no such hierarchy")?;
            ensure!(path.contains("/kubepods/burstable/pod"), "{path}");
            anyhow::Ok(path.trim_start_matches('/').to_owned())
        };
        let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let cases = if v2 {
            [("", "", "memory.max", "67108864"), ("", "", "cpu.max", "50000 100000"), ("", "", "cpu.weight", "")]
        } else {
            [
                ("memory", "memory", "memory.limit_in_bytes", "67108864"),
                ("cpu", "cpu", "cpu.cfs_quota_us", "50000"),
                ("cpu", "cpu", "cpu.shares", "102"),
            ]
        };
        for (hierarchy, controller, file, expected) in cases {
            let own = std::path::Path::new("/sys/fs/cgroup").join(hierarchy).join(group(controller)?);
            for dir in [own.as_path(), own.parent().context("no parent")?] {
                let said =
                    std::fs::read_to_string(dir.join(file)).with_context(|| format!("{file} of {}", dir.display()))?;
                ensure!(expected.is_empty() || said.trim() == expected, "{} {file}: {said}", dir.display());
            }
        }
        let status = pod.container("main");
        ensure!(status.0["resources"]["limits"]["memory"] == json!("64Mi"), "what kubelet tells: {}", status.0);
        Ok(())
    });
}
