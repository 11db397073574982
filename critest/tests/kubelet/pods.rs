//! Pods as kubelet runs them: order of their containers, probes, hooks, ports, users.

use anyhow::{Context, ensure};
use serde_json::json;

use crate::node::with_node;

/// Runs until it is asked to end.
const SERVE_UNTIL_ASKED: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

#[test]
fn root_init_containers_sidecars_and_hooks_run_in_their_order() {
    with_node(json!({}), async |node| {
        let dir = node.world.daemon.path("seen");
        let note = |text: &str| format!("echo {text} >>/seen/order");
        let mut spec = json!({
            "terminationGracePeriodSeconds": 20,
            "initContainers": [
                node.shell("first", &note("first")),
                node.shell("side", &format!("{}; {SERVE_UNTIL_ASKED}", note("side"))),
                node.shell("second", &note("second")),
            ],
            "containers": [node.shell("main", &format!("{}; {SERVE_UNTIL_ASKED}", note("main")))],
            "volumes": [{"name": "seen", "hostPath": {"path": dir, "type": "DirectoryOrCreate"}}],
        });
        let mounts = json!([{"name": "seen", "mountPath": "/seen"}]);
        for index in 0..3 {
            spec["initContainers"][index]["volumeMounts"] = mounts.clone();
        }
        spec["initContainers"][1]["restartPolicy"] = json!("Always");
        spec["initContainers"][1]["startupProbe"] =
            json!({"exec": {"command": ["grep", "side", "/seen/order"]}, "periodSeconds": 1});
        spec["initContainers"][1]["lifecycle"] =
            json!({"preStop": {"exec": {"command": ["sh", "-c", note("side-stops")]}}});
        spec["containers"][0]["volumeMounts"] = mounts;
        let hook = |text: &str| json!({"exec": {"command": ["sh", "-c", note(text)]}});
        spec["containers"][0]["lifecycle"] = json!({"postStart": hook("post"), "preStop": hook("pre")});
        node.add("order", &spec)?;
        let pod = node.ready("order").await?;
        ensure!(pod.lives().iter().all(|(_, restarts)| *restarts == 0), "restarted: {:?}", pod.0);
        ensure!(
            pod.container("first").ended().is_some_and(|end| end["reason"] == json!("Completed")),
            "the init container"
        );
        ensure!(pod.container("side").is_running(), "the sidecar");
        node.take("order")?;
        let order = || std::fs::read_to_string(dir.join("order")).context("the order");
        let all =
            node.settled("the hooks before the end", || Ok(Some(order()?).filter(|text| text.contains("side-stops"))));
        let all = all.await?;
        let words: Vec<&str> = all.split_whitespace().collect();
        ensure!(words.starts_with(&["first", "side", "second"]), "{words:?}");
        // The hook after the start and the container itself run side by side.
        let place = |word: &str| words.iter().position(|one| *one == word);
        ensure!(place("main") > place("second") && place("post") > place("second"), "{words:?}");
        ensure!(words.ends_with(&["pre", "side-stops"]), "the sidecar ends last: {words:?}");
        Ok(())
    });
}

#[test]
fn root_probes_of_each_kind_make_ready_and_restart() {
    with_node(json!({}), async |node| {
        let serve = "mkdir /www; echo up >/www/index.html; touch /tmp/fine; exec httpd -f -p 8080 -h /www";
        let often = |mut probe: serde_json::Value| {
            probe["periodSeconds"] = json!(1);
            probe["failureThreshold"] = json!(2);
            probe
        };
        let kinds = [
            ("exec", json!({"exec": {"command": ["test", "-e", "/tmp/fine"]}}), "rm /tmp/fine"),
            ("http", json!({"httpGet": {"path": "/index.html", "port": 8080}}), "rm /www/index.html"),
            ("tcp", json!({"tcpSocket": {"port": 8080}}), "kill -STOP 1; kill $(pidof httpd)"),
        ];
        for (kind, probe, _) in &kinds {
            // The server is no process 1 here, so that it can be ended.
            let script = if *kind == "tcp" { format!("({serve}) & sleep 1000") } else { serve.to_owned() };
            let mut main = node.shell("main", &script);
            main["startupProbe"] =
                often(json!({"exec": {"command": ["test", "-e", "/tmp/fine"]}, "timeoutSeconds": 5}));
            main["startupProbe"]["failureThreshold"] = json!(60);
            main["readinessProbe"] = often(probe.clone());
            main["livenessProbe"] = often(probe.clone());
            main["livenessProbe"]["failureThreshold"] = json!(5);
            node.add(kind, &json!({"terminationGracePeriodSeconds": 1, "containers": [main]}))?;
        }
        for (kind, _, harm) in &kinds {
            let pod = node.ready(kind).await?;
            ensure!(pod.container("main").restarts() == 0, "{kind}: restarted before any harm");
            node.sh(&pod, "main", harm).await?;
            node.until(kind, "not ready", |pod| !pod.is_ready()).await?;
            node.until(kind, "restarted and ready", |pod| pod.container("main").restarts() == 1 && pod.is_ready())
                .await?;
        }
        Ok(())
    });
}

#[test]
fn root_a_host_port_leads_to_the_pod_and_its_name_is_known() {
    with_node(json!({}), async |node| {
        let serve = "mkdir /www; hostname >/www/index.html; exec httpd -f -p 8080 -h /www";
        let mut web = node.shell("web", serve);
        web["ports"] = json!([{"containerPort": 8080, "hostPort": 18080}]);
        web["readinessProbe"] = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
        let spec = json!({
            "hostname": "shown", "terminationGracePeriodSeconds": 1, "containers": [web],
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["known.example"]}],
            "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["cluster.local"]},
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]},
        });
        node.add("web", &spec)?;
        let pod = node.ready("web").await?;
        for address in ["10.9.0.1:18080".to_owned(), format!("{}:8080", pod.ip())] {
            ensure!(node.get(&address, "/")?.trim() == "shown", "what {address} answers");
        }
        ensure!(node.sh(&pod, "web", "cat /etc/hosts").await?.contains("known.example"), "aliases");
        let resolv = node.sh(&pod, "web", "cat /etc/resolv.conf").await?;
        ensure!(resolv.contains("192.0.2.53") && resolv.contains("cluster.local"), "{resolv}");
        let port = node.sh(&pod, "web", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await?;
        ensure!(port == "80", "sysctl: {port}");
        Ok(())
    });
}

#[test]
fn root_a_pod_has_users_and_processes_of_its_own() {
    with_node(json!({}), async |node| {
        let mut main = node.shell("main", "sleep 1000");
        main["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
        let spec = json!({
            "hostUsers": false, "shareProcessNamespace": true, "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "containers": [main, node.shell("other", "sleep 1001")],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        });
        node.add("users", &spec)?;
        let pod = node.ready("users").await?;
        let map = node.sh(&pod, "main", "cat /proc/self/uid_map").await?;
        let words: Vec<&str> = map.split_whitespace().collect();
        ensure!(words.first() == Some(&"0") && words.get(1).is_some_and(|start| *start != "0"), "uid_map: {map}");
        ensure!(node.sh(&pod, "main", "id -u; id -G").await?.contains("2000"), "the group of its volumes");
        ensure!(
            node.sh(&pod, "main", "touch /scratch/x; stat -c '%u %g' /scratch/x").await? == "1000 2000",
            "who owns a file"
        );
        let id = pod.container("main").id().unwrap_or_default();
        node.world.sh_until(&id, "ps | grep -q '[s]leep 1001'").await
    });
}
