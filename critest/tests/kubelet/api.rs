//! The kubelet's own servers: logs, exec, attach, port-forward, statistics.

use anyhow::{Context, Result, ensure};
use podwright_critest::streaming::Raw;
use serde_json::{Value, json};

use crate::node::{NAME, Node, READ_ONLY, with_node};
use crate::status::PodStatus;
use crate::talk::{self, Socket};

/// Tells what it is told, and serves a page.
const TALK: &str = "mkdir /www; echo page >/www/index.html; httpd -p 8080 -h /www; echo started; while read line; do echo heard $line; done; sleep 1000";

/// A pod `talk` with a container that listens, and the plain address of the kubelet.
async fn talking(node: &Node) -> Result<(PodStatus, String)> {
    let mut main = node.shell("main", TALK);
    main["stdin"] = json!(true);
    main["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    node.add("talk", &json!({"terminationGracePeriodSeconds": 1, "containers": [main]}))?;
    Ok((node.ready("talk").await?, talk::without_tls(node.world.daemon.host())?))
}

fn logs(node: &Node, address: &str, query: &str) -> Result<String> {
    talk::get(node.world.daemon.host(), address, &format!("/containerLogs/default/talk-{NAME}/main{query}"))
}

#[test]
fn root_logs_exec_attach_and_port_forward_go_through_the_kubelet() {
    with_node(json!({}), async |node| {
        let (_, address) = talking(node).await?;
        let host = node.world.daemon.host();
        ensure!(logs(node, &address, "")? == "started\n", "the log");
        let url = |what: &str| format!("http://{address}/{what}/default/talk-{NAME}");

        let exec = format!("{}/main?command=cat&input=1&output=1&error=1", url("exec"));
        let mut spdy = Raw::spdy(host, &exec, "v4.channel.k8s.io")?;
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
            spdy.open(stream, &[("streamtype", kind)])?;
        }
        spdy.data(3, true, b"by spdy")?;
        ensure!(spdy.read_stream(5)? == b"by spdy", "exec by SPDY");

        let exec = format!("{}/main?command=sh&command=-c&command=cat%3Bexit+7&input=1&output=1&error=1", url("exec"));
        let mut socket = Socket::open(host, &exec)?;
        socket.send(0, b"by websocket")?;
        socket.end(0)?;
        let (said, status) = socket.read(1)?;
        ensure!(said == "by websocket", "exec by WebSocket: {said}");
        ensure!(status.contains("\"7\""), "its exit code: {status}");

        let mut socket = Socket::open(host, &format!("{}/main?input=1&output=1", url("attach")))?;
        socket.send(0, b"you\n")?;
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("heard you") {
            let (channel, bytes) = socket.next()?.context("attach ended")?;
            said.extend(bytes.into_iter().filter(|_| channel == 1));
        }
        let heard =
            || Ok(Some(()).filter(|()| logs(node, &address, "?tailLines=1").is_ok_and(|text| text == "heard you\n")));
        node.settled("the last line of the log", heard).await?;

        let mut spdy = Raw::spdy(host, &url("portForward"), "portforward.k8s.io")?;
        for (stream, kind) in [(1, "error"), (3, "data")] {
            spdy.open(stream, &[("streamtype", kind), ("port", "8080"), ("requestid", "0")])?;
        }
        spdy.data(1, true, b"")?;
        spdy.data(3, false, b"GET / HTTP/1.0\r\n\r\n")?;
        let page = String::from_utf8(spdy.read_stream(3)?)?;
        ensure!(page.ends_with("page\n"), "port-forward: {page}");
        Ok(())
    });
}

#[test]
fn root_statistics_of_pods_containers_and_images_are_told() {
    with_node(json!({"featureGates": {"PodAndContainerStatsFromCRI": true}}), async |node| {
        let (pod, address) = talking(node).await?;
        let summary = || {
            let summary: Value = serde_json::from_str(&node.get(READ_ONLY, "/stats/summary")?)?;
            let pods = summary["pods"].as_array().cloned().unwrap_or_default();
            let found = pods.into_iter().find(|one| one["podRef"]["uid"] == json!(pod.uid()));
            Ok(found.filter(|pod| pod["cpu"]["usageNanoCores"].is_number()).map(|pod| (pod, summary)))
        };
        let (stats, summary) = node.settled("statistics of the pod", summary).await?;
        for path in
            ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes", "/network/rxBytes", "/process_stats/process_count"]
        {
            ensure!(stats.pointer(path).and_then(Value::as_u64).is_some_and(|value| value > 0), "{path}: {stats}");
        }
        let main = stats["containers"][0].clone();
        for path in ["/cpu/usageCoreNanoSeconds", "/memory/workingSetBytes", "/rootfs/usedBytes", "/logs/usedBytes"] {
            ensure!(main.pointer(path).and_then(Value::as_u64).is_some_and(|value| value > 0), "{path}: {main}");
        }
        let image = &summary["node"]["runtime"]["imageFs"];
        ensure!(image["usedBytes"].as_u64().is_some_and(|value| value > 0), "images: {image}");
        let metrics = talk::get(node.world.daemon.host(), &address, "/metrics/cadvisor")?;
        let line =
            |name: &str| metrics.lines().find(|line| line.starts_with(name) && line.contains("pod=\"talk-node1\""));
        for name in ["container_cpu_usage_seconds_total{", "container_memory_working_set_bytes{"] {
            ensure!(line(name).is_some(), "{name} is not in /metrics/cadvisor:\n{metrics}");
        }
        Ok(())
    });
}
