//! Pods on a host of their own: who reaches whom, by which address, and that nothing is left.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use std::time::Duration;

use tokio::time::Instant;

use super::reaper::{LINGER, LOOK};
use super::*;
use crate::config::NetworkMode;
use crate::networks::Networks;
use crate::request::{NetworkKind, Protocol};
use crate::testhost::{host_port, in_own_host, inside, netns, request, sh};

const WAIT: Duration = Duration::from_secs(60);

fn config(dir: &std::path::Path) -> NetworksConfig {
    NetworksConfig { mode: NetworkMode::Embedded, ..NetworksConfig::new(dir.to_owned()) }
}

/// The outside: 192.0.2.2 and 2001:db8::2 beyond the host's 192.0.2.1.
fn outside() -> Arc<OwnedFd> {
    let outside = netns("outside");
    sh(
        "ip link add uplink mtu 1400 type veth peer name uplink netns outside && ip link set uplink up && ip -n outside link set uplink mtu 1400 up \
        && ip addr add 192.0.2.1/24 dev uplink && ip addr add 2001:db8::1/64 dev uplink nodad && ip route add default via 192.0.2.2 \
        && ip -n outside addr add 192.0.2.2/24 dev uplink && ip -n outside addr add 2001:db8::2/64 dev uplink nodad && ip -n outside link set lo up \
        && ip -6 route add default via 2001:db8::2",
    );
    outside
}

fn listen(netns: &Arc<OwnedFd>, address: &str) -> TcpListener {
    let address = address.to_owned();
    inside(netns, move || TcpListener::bind(address).unwrap())
}

/// Connects from `netns` (or the host) to `target`, served by `listener`; returns whom the server saw.
fn talk(netns: Option<&Arc<OwnedFd>>, target: &str, listener: &TcpListener) -> Result<IpAddr, String> {
    let address: SocketAddr = target.parse().unwrap();
    let dial = move || TcpStream::connect_timeout(&address, WAIT);
    let mut client =
        netns.map_or_else(dial, |netns| inside(netns, dial)).map_err(|error| format!("{target}: {error}"))?;
    let (mut server, peer) = listener.accept().unwrap();
    server.set_read_timeout(Some(WAIT)).unwrap();
    client.write_all(b"hello").unwrap();
    let mut text = [0; 5];
    server.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    Ok(peer.ip())
}

/// What a host has that pods could leave there.
fn census(dir: &std::path::Path) -> String {
    let files: Vec<_> =
        std::fs::read_dir(dir.join("embedded")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    format!(
        "{}{}{}{}{files:?}",
        sh("ip -o link"),
        sh("ip -o addr | sed 's/valid_lft.*//; s/ tentative//'"),
        sh("ip route; ip -6 route; ip neigh show nud permanent"),
        sh("nft list ruleset")
    )
}

async fn gone(networks: &Networks) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !networks.holders().is_empty() {
        assert!(Instant::now() < deadline, "still held: {:?}", networks.holders());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The host's part goes right after the last lease.
    while sh("nft list ruleset; ip -o addr show dev lo").contains("podwright") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn drop_netns(name: &str, fd: Arc<OwnedFd>) {
    drop(fd);
    sh(&format!("ip netns del {name}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_pods_reach_each_other_and_the_world() {
    if !in_own_host("embedded::tests::root_pods_reach_each_other_and_the_world") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let world = outside();
    let before = census(dir.path());
    let (one, two) = (netns("one"), netns("two"));
    let first = request(1, NetworkKind::Embedded, Some(Arc::clone(&one)));
    let second = request(2, NetworkKind::Embedded, Some(Arc::clone(&two)));
    let a = networks.setup(&first).await.unwrap().addresses;
    let b = networks.setup(&second).await.unwrap().addresses;
    assert_eq!((a.len(), b.len()), (2, 2), "{a:?} {b:?}");
    assert_eq!(networks.setup(&first).await.unwrap().addresses, a);
    networks.check(&first).await.unwrap();
    assert!(sh("ip -n one link show dev eth0").contains("mtu 1400"));

    // Pod to pod, with its own address, in both families.
    let listener = listen(&two, "[::]:8080");
    assert_eq!(talk(Some(&one), &format!("{}:8080", b[0]), &listener).unwrap().to_canonical(), a[0]);
    assert_eq!(talk(Some(&one), &format!("[{}]:8080", b[1]), &listener).unwrap(), a[1]);
    // Host to pod and back.
    let pool: Vec<Prefix> = networks.info().pools;
    assert_eq!(talk(None, &format!("{}:8080", b[0]), &listener).unwrap().to_canonical(), pool[0].at(1).unwrap());
    assert_eq!(talk(None, &format!("[{}]:8080", b[1]), &listener).unwrap(), pool[1].at(1).unwrap());
    let host = TcpListener::bind("[::]:8081").unwrap();
    assert_eq!(talk(Some(&one), "192.0.2.1:8081", &host).unwrap().to_canonical(), a[0]);
    // Outwards pods appear as the host.
    let far = listen(&world, "[::]:8082");
    assert_eq!(
        talk(Some(&one), "192.0.2.2:8082", &far).unwrap().to_canonical(),
        "192.0.2.1".parse::<IpAddr>().unwrap()
    );
    assert_eq!(talk(Some(&one), "[2001:db8::2]:8082", &far).unwrap(), "2001:db8::1".parse::<IpAddr>().unwrap());
    // A pod can not take another's address.
    sh(&format!("ip -n one addr add {}/32 dev lo", b[0]));
    let stolen = inside(&one, {
        let b = b[0];
        move || UdpSocket::bind((b, 0)).unwrap()
    });
    let ear = inside(&world, || UdpSocket::bind("192.0.2.2:9000").unwrap());
    ear.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stolen.send_to(b"x", "192.0.2.2:9000").unwrap();
    assert!(ear.recv_from(&mut [0; 8]).is_err());

    drop((listener, stolen));
    networks.teardown(&first).await.unwrap();
    networks.teardown(&first).await.unwrap();
    networks.teardown(&PodRequest { netns: None, ..second.clone() }).await.unwrap();
    drop((first, second));
    drop_netns("one", one);
    drop_netns("two", two);
    gone(&networks).await;
    assert_eq!(census(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_host_ports_lead_in_from_everywhere() {
    if !in_own_host("embedded::tests::root_host_ports_lead_in_from_everywhere") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let world = outside();
    let before = census(dir.path());
    let (one, two) = (netns("one"), netns("two"));
    let mut first = request(1, NetworkKind::Embedded, Some(Arc::clone(&one)));
    first.port_mappings = vec![
        host_port(Protocol::Tcp, 18080, 80, None),
        host_port(Protocol::Udp, 18053, 53, None),
        host_port(Protocol::Tcp, 18081, 80, Some("127.0.0.1")),
        host_port(Protocol::Sctp, 18080, 80, None),
    ];
    let second = request(2, NetworkKind::Embedded, Some(Arc::clone(&two)));
    let a = networks.setup(&first).await.unwrap().addresses;
    let b = networks.setup(&second).await.unwrap().addresses;
    let gateway = networks.info().pools[0].at(1).unwrap();
    let listener = listen(&one, "[::]:80");

    let seen = |from: Option<&Arc<OwnedFd>>, target: &str| talk(from, target, &listener).unwrap().to_canonical();
    assert_eq!(seen(Some(&world), "192.0.2.1:18080"), "192.0.2.2".parse::<IpAddr>().unwrap());
    assert_eq!(seen(Some(&world), "[2001:db8::1]:18080"), "2001:db8::2".parse::<IpAddr>().unwrap());
    assert_eq!(seen(None, "127.0.0.1:18080"), gateway);
    assert_eq!(seen(None, "127.0.0.1:18081"), gateway);
    seen(None, "192.0.2.1:18080");
    seen(None, "[2001:db8::1]:18080");
    assert_eq!(seen(Some(&two), "192.0.2.1:18080"), b[0]);
    assert_eq!(seen(Some(&one), "192.0.2.1:18080"), gateway, "hairpin");
    seen(Some(&one), "[2001:db8::1]:18080");
    // A port of 127.0.0.1 is for the host alone, and pods do not reach the host's localhost.
    assert!(inside(&world, || TcpStream::connect_timeout(&"192.0.2.1:18081".parse().unwrap(), WAIT)).is_err());
    let local = UdpSocket::bind("127.0.0.1:9001").unwrap();
    local.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    sh(
        "ip -n one addr del 127.0.0.1/8 dev lo && ip -n one route add 127.0.0.1 via 169.254.1.1 dev eth0 onlink && ip netns exec one sysctl -qw net.ipv4.conf.all.route_localnet=1",
    );
    inside(&one, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "127.0.0.1:9001")).unwrap();
    assert!(local.recv_from(&mut [0; 8]).is_err(), "a pod reached the host's localhost");

    // UDP.
    let server = inside(&one, || UdpSocket::bind("[::]:53").unwrap());
    server.set_read_timeout(Some(WAIT)).unwrap();
    let client = inside(&world, || UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(WAIT)).unwrap();
    client.send_to(b"ask", "192.0.2.1:18053").unwrap();
    let mut buffer = [0; 8];
    let (_, peer) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"answer", peer).unwrap();
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (6, "192.0.2.1:18053".parse().unwrap()));
    drop(server);

    // The port is taken, and free again after the pod.
    let three = netns("three");
    let mut third = request(3, NetworkKind::Embedded, Some(Arc::clone(&three)));
    third.port_mappings = vec![host_port(Protocol::Tcp, 18080, 80, None), host_port(Protocol::Udp, 18053, 53, None)];
    let taken = networks.setup(&third).await.unwrap_err().to_string();
    assert!(taken.contains("18080/tcp") && taken.contains(first.sandbox.as_str()), "{taken}");
    networks.teardown(&first).await.unwrap();
    assert!(TcpStream::connect_timeout(&"192.0.2.1:18080".parse().unwrap(), WAIT).is_err());
    let c = networks.setup(&third).await.unwrap().addresses;
    assert_ne!(c[0], a[0]);
    let listener = listen(&three, "[::]:80");
    talk(Some(&world), "192.0.2.1:18080", &listener).unwrap();
    // The client that spoke to the first pod reaches the new one, from the same port.
    let server = inside(&three, || UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(WAIT)).unwrap();
    client.send_to(b"again", "192.0.2.1:18053").unwrap();
    assert_eq!(server.recv_from(&mut buffer).unwrap().0, 5);

    for request in [&second, &third] {
        networks.teardown(request).await.unwrap();
    }
    drop((first, second, third, listener, server));
    for (name, fd) in [("one", one), ("two", two), ("three", three)] {
        drop_netns(name, fd);
    }
    gone(&networks).await;
    assert_eq!(census(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_restart_keeps_pods_and_frees_strangers() {
    if !in_own_host("embedded::tests::root_a_restart_keeps_pods_and_frees_strangers") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let other_dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let before = census(dir.path());
    let other = Networks::new(NetworksConfig { instance: "other".to_owned(), ..config(other_dir.path()) }).unwrap();
    let (one, two, three) = (netns("one"), netns("two"), netns("three"));
    let mut first = request(1, NetworkKind::Embedded, Some(Arc::clone(&one)));
    first.port_mappings = vec![host_port(Protocol::Tcp, 18080, 80, None)];
    let second = request(2, NetworkKind::Embedded, Some(Arc::clone(&two)));
    let third = request(3, NetworkKind::Embedded, Some(Arc::clone(&three)));
    let a = networks.setup(&first).await.unwrap();
    networks.setup(&second).await.unwrap();
    other.setup(&third).await.unwrap();
    assert!(!networks.info().pools[0].overlaps(&other.info().pools[0]));
    drop(networks);

    // The table was lost too, and the second pod is not known any more.
    sh("nft delete table inet podwright-default");
    let networks = Networks::new(config(dir.path())).unwrap();
    networks.recover(&HashSet::from([first.sandbox.clone()])).await.unwrap();
    assert_eq!(networks.holders(), BTreeSet::from([first.sandbox.clone()]));
    let listener = listen(&one, "[::]:80");
    talk(None, "127.0.0.1:18080", &listener).unwrap();
    assert_eq!(networks.setup(&first).await.unwrap(), a);
    talk(None, "127.0.0.1:18080", &listener).unwrap();
    // The second's namespace lives, its link does not; it can be connected anew.
    assert!(!sh("ip -n two -o link").contains("eth0"));
    networks.setup(&second).await.unwrap();

    // A link that outstays its pod is removed.
    networks.teardown(&second).await.unwrap();
    assert!(sh("ip -n two -o link").contains("eth0"));
    let deadline = Instant::now() + LINGER * 2;
    while networks.holders().len() > 1 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!sh("ip -n two -o link").contains("eth0"));

    other.teardown(&third).await.unwrap();
    networks.teardown(&first).await.unwrap();
    drop((first, second, third, listener));
    for (name, fd) in [("one", one), ("two", two), ("three", three)] {
        drop_netns(name, fd);
    }
    gone(&networks).await;
    gone(&other).await;
    assert_eq!(census(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_table_that_others_flush_comes_back() {
    if !in_own_host("embedded::tests::root_a_table_that_others_flush_comes_back") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let before = census(dir.path());
    let one = netns("one");
    let mut first = request(1, NetworkKind::Embedded, Some(Arc::clone(&one)));
    first.port_mappings = vec![host_port(Protocol::Tcp, 18080, 80, None)];
    networks.setup(&first).await.unwrap();
    let listener = listen(&one, "[::]:80");
    talk(None, "127.0.0.1:18080", &listener).unwrap();
    let table = || sh("nft -s list ruleset");
    let whole = table();
    for flush in ["nft flush ruleset", "nft flush chain inet podwright-default guard"] {
        sh(flush);
        let deadline = Instant::now() + LOOK * 3;
        while table() != whole {
            assert!(Instant::now() < deadline, "{flush}: {}", table());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        talk(None, "127.0.0.1:18080", &listener).unwrap();
    }
    networks.teardown(&first).await.unwrap();
    drop((first, listener));
    drop_netns("one", one);
    gone(&networks).await;
    assert_eq!(census(dir.path()), before);
}

#[test]
fn names_of_links_fit_and_are_of_the_instance() {
    assert_eq!("pw".len() + INSTANCE_LETTERS + SANDBOX_LETTERS, 15);
    let name = letters("default", 51);
    assert_eq!(name.len(), 51);
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{name}");
    assert_ne!(letters("a", 8), letters("b", 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_failures_leave_nothing() {
    if !in_own_host("embedded::tests::root_failures_leave_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let one = netns("one");
    let before = census(dir.path());
    // Not a network namespace.
    let wrong: OwnedFd = std::fs::File::open("/proc/self/ns/uts").unwrap().into();
    let failed = networks.setup(&request(1, NetworkKind::Embedded, Some(Arc::new(wrong)))).await.unwrap_err();
    assert!(failed.to_string().contains("network namespace"), "{failed}");
    assert_eq!(census(dir.path()), before);
    // The pod has an eth0 already, which is no veth of ours.
    sh("ip -n one link add eth0 type dummy 2>/dev/null || ip -n one link add eth0 type veth peer name eth1");
    let taken = networks.setup(&request(1, NetworkKind::Embedded, Some(Arc::clone(&one)))).await;
    assert!(taken.unwrap_err().to_string().contains("eth0 already"));
    gone(&networks).await;
    assert_eq!(census(dir.path()), before);
    assert!(networks.setup(&request(1, NetworkKind::Embedded, None)).await.is_err());
    // IPv6 switched off: IPv4 alone.
    sh("ip -n one link del eth0; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let four = networks.setup(&request(1, NetworkKind::Embedded, Some(Arc::clone(&one)))).await.unwrap();
    assert_eq!(four.addresses.len(), 1, "{four:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_pools_avoid_the_hosts_routes() {
    if !in_own_host("embedded::tests::root_pools_avoid_the_hosts_routes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let (one, two) = (netns("one"), netns("two"));
    let setup = async |byte, fd: &Arc<OwnedFd>| {
        networks.setup(&request(byte, NetworkKind::Embedded, Some(Arc::clone(fd)))).await.unwrap().addresses
    };
    let a = setup(1, &one).await;
    let chosen = networks.info().pools[0];
    assert!(chosen.contains(a[0]));
    networks.teardown(&request(1, NetworkKind::Embedded, None)).await.unwrap();
    drop_netns("one", one);
    gone(&networks).await;
    sh(&format!("ip route add blackhole {chosen}"));
    let b = setup(2, &two).await;
    assert!(!chosen.contains(b[0]), "{chosen} {b:?}");
    // From now on of the cluster's range.
    networks.set_pod_cidrs(&["10.244.3.0/24".to_owned()]).await.unwrap();
    let one = netns("one");
    assert!("10.244.3.0/24".parse::<Prefix>().unwrap().contains(setup(3, &one).await[0]));
    let listener = listen(&one, "0.0.0.0:80");
    let target = networks.setup(&request(3, NetworkKind::Embedded, None)).await.unwrap().addresses[0];
    assert_eq!(talk(Some(&two), &format!("{target}:80"), &listener).unwrap(), b[0]);
    assert!(networks.set_pod_cidrs(&["rubbish".to_owned()]).await.is_err());
}

/// How many descriptors of this process are open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_pods_in_bursts_leave_nothing() {
    if !in_own_host("embedded::tests::root_pods_in_bursts_leave_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let before = (census(dir.path()), descriptors());
    for wave in 0..2u16 {
        let pods = (0..50u16).map(|index| {
            let networks = networks.clone();
            tokio::spawn(async move {
                let (number, name) = (wave * 50 + index, format!("burst-{index}"));
                let space = netns(&name);
                let mut pod = request(0, NetworkKind::Embedded, Some(Arc::clone(&space)));
                pod.sandbox = format!("pod-{number}").parse().unwrap();
                let port = |protocol| host_port(protocol, 20000 + number, 80, None);
                pod.port_mappings = vec![port(Protocol::Tcp), port(Protocol::Udp)];
                networks.setup(&pod).await.unwrap();
                networks.check(&pod).await.unwrap();
                if index % 5 == 0 {
                    // The namespace goes first.
                    pod.netns = None;
                    drop_netns(&name, space);
                    networks.teardown(&pod).await.unwrap();
                } else {
                    networks.teardown(&pod).await.unwrap();
                    drop(pod);
                    drop_netns(&name, space);
                }
            })
        });
        for pod in pods.collect::<Vec<_>>() {
            pod.await.unwrap();
        }
    }
    gone(&networks).await;
    assert_eq!((census(dir.path()), descriptors()), before);
}

/// Prints the times of 200 pods; run by hand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn root_two_hundred_pods() {
    if !in_own_host("embedded::tests::root_two_hundred_pods") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let networks = Networks::new(config(dir.path())).unwrap();
    let before = census(dir.path());
    let spaces: Vec<_> = (0..200u8).map(|byte| (byte, netns(&format!("p{byte}")))).collect();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (byte, fd) in &spaces {
        let mut request = request(*byte, NetworkKind::Embedded, Some(Arc::clone(fd)));
        request.port_mappings = vec![host_port(Protocol::Tcp, 20000 + u16::from(*byte), 80, None)];
        let start = Instant::now();
        networks.setup(&request).await.unwrap();
        up.push(start.elapsed());
    }
    for (byte, fd) in spaces {
        let start = Instant::now();
        networks.teardown(&request(byte, NetworkKind::Embedded, None)).await.unwrap();
        down.push(start.elapsed());
        drop_netns(&format!("p{byte}"), fd);
    }
    gone(&networks).await;
    assert_eq!(census(dir.path()), before);
    for (name, times) in [("setup", &mut up), ("teardown", &mut down)] {
        times.sort();
        println!("{name}: p50 {:?}, p95 {:?}", times[100], times[190]);
    }
}
