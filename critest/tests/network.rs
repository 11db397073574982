//! Pods on their networks: addresses, ports of the host, the world outside.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::Protocol;
use podwright_critest::{Pod, World, WorldBuilder, host_port, shell, with_world, with_world_of};
use podwright_testutil::{Daemon, Outside, TestHost, in_network_of};

/// In the background httpd goes only after it listens.
const SERVE: &str = "mkdir -p /www; echo served > /www/index.html; httpd -p 80 -h /www && echo up; exec sleep 1000";
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn root_embedded_pods_are_reachable() {
    with_world(async |world| reachable(world).await);
}

#[test]
fn root_bridged_pods_are_reachable() {
    with_world_of(WorldBuilder::daemon(Daemon::builder().bridge_chain("1.0.0")), async |world| reachable(world).await);
}

/// From the host, from another pod, through a port of the host from outside, and to the outside.
async fn reachable(world: &mut World) -> Result<()> {
    let outside = Outside::of(world.daemon.host())?;
    let mut config = world.pod("server");
    config.port_mappings.push(host_port(8088, 80));
    let server = world.run_pod(config).await?;
    let image = world.image.clone();
    world.run(&server, &shell("main", &image, SERVE)).await?;
    world.wait_for_log(&server, "main", "up").await?;
    let address = world.pod_ip(&server.id).await?;
    ensure!(get_from_host(world.daemon.host(), &address, 80)?.contains("served"), "host to pod");

    let other = world.run_pod_named("client").await?;
    let client = world.run(&other, &shell("main", &image, "sleep 1000")).await?;
    let ask = format!("timeout 60 wget -q -O - http://{address}:80/");
    ensure!(world.sh(&client, &ask).await? == "served", "pod to pod");
    ensure!(outside.in_network(|| get(Outside::HOST, 8088))?.contains("served"), "outside to the host's port");
    ensure!(get_from_host(world.daemon.host(), "127.0.0.1", 8088)?.contains("served"), "localhost to the host's port");
    let hairpin = format!("timeout 60 wget -q -O - http://{}:8088/", Outside::HOST);
    ensure!(world.sh(&client, &hairpin).await? == "served", "pod to the host's port");

    let listener = outside.in_network(|| Ok(TcpListener::bind((Outside::ADDRESS, 9099))?))?;
    world.sh(&client, &format!("(echo hi | timeout 60 nc {} 9099) >/dev/null 2>&1 &", Outside::ADDRESS)).await?;
    let peer = accept(&listener)?.ip().to_string();
    ensure!(peer == Outside::HOST, "pods go out under the host's address, not {peer}");

    world.remove_pod(&server.id).await?;
    ensure!(outside.in_network(|| get(Outside::HOST, 8088)).is_err(), "the port is closed with its pod");
    drop(outside);
    world.daemon.host().run(&["ip", "link", "delete", "up0"]).ok();
    world.nothing_left().await
}

#[test]
fn root_udp_ports_and_taken_ports() {
    with_world(async |world| {
        let mut config = world.pod("udp");
        let mut port = host_port(5353, 53);
        port.set_protocol(Protocol::Udp);
        config.port_mappings.push(port);
        let pod = world.run_pod(config).await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        // busybox has no server for UDP: this process is one, in the pod's network.
        let server = in_network_of(world.pid(&id).await?, || Ok(UdpSocket::bind("0.0.0.0:53")?))?;
        server.set_read_timeout(Some(LIMIT))?;
        let client = world.daemon.host().in_network(|| Ok(UdpSocket::bind("127.0.0.1:0")?))?;
        client.set_read_timeout(Some(LIMIT))?;
        client.send_to(b"ping", "127.0.0.1:5353")?;
        let mut question = [0; 16];
        let (length, from) = server.recv_from(&mut question).context("no datagram came through the port")?;
        server.send_to(question.get(..length).unwrap_or_default(), from)?;
        let mut reply = [0; 16];
        let (length, sender) = client.recv_from(&mut reply).context("no answer came back")?;
        let echoed = reply.get(..length);
        ensure!(sender.port() == 5353, "the answer comes from the port that was asked");
        ensure!(echoed == Some(b"ping".as_slice()), "{echoed:?}");

        let mut config = world.pod("second");
        let mut port = host_port(5353, 53);
        port.set_protocol(Protocol::Udp);
        config.port_mappings.push(port);
        let error = world.run_pod(config).await.err().context("a taken port was given twice")?;
        ensure!(format!("{error:#}").contains("5353"), "{error:#}");
        Ok(())
    });
}

#[test]
fn root_pods_have_both_families() {
    with_world(async |world| {
        let pod = world.run_pod_named("dual").await?;
        let status = world.pod_status(&pod.id).await?.network.context("no network")?;
        let others: Vec<String> = status.additional_ips.into_iter().map(|ip| ip.ip).collect();
        ensure!(others.iter().any(|ip| ip.contains(':')), "an IPv6 address beside {}: {others:?}", status.ip);
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let seen = world.sh(&id, "ip address show eth0").await?;
        for ip in others.iter().chain([&status.ip]) {
            ensure!(seen.contains(ip.as_str()), "{ip} is not on eth0: {seen}");
        }
        ensure!(world.sh(&id, "ip link show lo").await?.contains("LOOPBACK,UP"), "lo is up");
        world.sh(&id, "ping -c 1 -W 2 127.0.0.1").await?;
        Ok(())
    });
}

#[test]
fn root_a_daemon_without_conflist_is_not_ready_until_one_appears() {
    let daemon = Daemon::builder().cni();
    // The first pod of a world needs a network, so this one starts with the chain and loses it.
    let builder = WorldBuilder::daemon(daemon.bridge_chain("1.0.0"));
    with_world_of(builder, async |world| {
        let conflist = world.daemon.path("net.d/10-testnet.conflist");
        let kept = std::fs::read(&conflist)?;
        ensure!(network_ready(world).await?, "ready with a conflist");
        let pod = world.run_pod_named("early").await?;
        std::fs::remove_file(&conflist)?;
        ensure!(!network_ready(world).await?, "not ready without");
        let refused = world.run_pod_named("late").await;
        ensure!(refused.is_err(), "a pod without a network");
        // The pod that has one keeps it, and gives it back by what was recorded.
        world.remove_pod(&pod.id).await?;
        std::fs::write(&conflist, kept)?;
        ensure!(network_ready(world).await?, "ready again");
        Ok(())
    });
}

#[test]
fn root_failing_plugins_leave_nothing() {
    let builder = WorldBuilder::daemon(Daemon::builder().bridge_chain("1.0.0"));
    with_world_of(builder, async |world| {
        let conflist = world.daemon.path("net.d/10-testnet.conflist");
        let good = std::fs::read_to_string(&conflist)?;
        for (kind, text) in [
            ("a plugin that does not exist", good.replace("\"type\":\"tuning\"", "\"type\":\"no-such-plugin\"")),
            ("a plugin that fails", good.replace("arp_filter", "no_such_sysctl")),
        ] {
            ensure!(text != good, "{kind}: the conflist is not changed");
            std::fs::write(&conflist, text)?;
            let error =
                world.run_pod_named("unlucky").await.err().with_context(|| format!("{kind}: the pod started"))?;
            ensure!(!format!("{error:#}").is_empty(), "{kind}");
            world.nothing_left().await.context(kind)?;
        }
        std::fs::write(&conflist, good)?;
        let pod: Pod = world.run_pod_named("unlucky").await?;
        world.remove_pod(&pod.id).await
    });
}

/// Who connects; [`TcpListener::accept`] has no limit.
fn accept(listener: &TcpListener) -> Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + LIMIT;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => sleep(LOOK_AGAIN),
            accepted => return Ok(accepted.context("nobody connects")?.1),
        }
    }
}

async fn network_ready(world: &mut World) -> Result<bool> {
    let request = podwright_cri_api::v1::StatusRequest { verbose: false };
    let status = world.runtime.status(request).await?.into_inner().status.context("no status")?;
    Ok(status.conditions.iter().any(|condition| condition.r#type == "NetworkReady" && condition.status))
}

fn get_from_host(host: &TestHost, address: &str, port: u16) -> Result<String> {
    host.in_network(|| get(address, port))
}

fn get(address: &str, port: u16) -> Result<String> {
    let target = format!("{address}:{port}").parse().with_context(|| format!("{address}:{port}"))?;
    let mut stream = TcpStream::connect_timeout(&target, LIMIT).with_context(|| format!("connecting to {target}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).with_context(|| format!("reading from {target}"))?;
    Ok(reply)
}
