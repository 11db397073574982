//! Real plugins on a host of their own, and scripts that behave badly.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::NetworkMode;
use crate::networks::Networks;
use crate::request::{NetworkKind, Protocol};
use crate::testhost::{host_port, in_own_host, inside, netns, request, sh};

/// A configuration and plugin directory of the test's own.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["conf", "bin", "state"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plugin that is a shell script; `$0.log` gets a line for each call.
    fn script(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        let text = format!(
            "#!/bin/sh\ninput=$(cat)\necho \"$CNI_COMMAND netns=$CNI_NETNS args=$CNI_ARGS home=$HOME $input\" >> {}.log\n{body}\n",
            path.display()
        );
        // Written by another process: a descriptor of ours, inherited by a child of another test, would make it busy.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(path.metadata().unwrap().permissions().mode() & 0o111 != 0);
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("bin").join(format!("{name}.log"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn commands(&self, name: &str) -> Vec<String> {
        self.log(name).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn conflist(&self, value: &Value) {
        std::fs::write(self.path("conf/10-test.conflist"), value.to_string()).unwrap();
    }

    fn config(&self) -> NetworksConfig {
        NetworksConfig {
            mode: NetworkMode::Cni,
            conf_dirs: vec![self.path("conf")],
            bin_dirs: vec![self.path("bin"), PathBuf::from("/usr/lib/cni")],
            ..NetworksConfig::new(self.path("state"))
        }
    }

    fn networks(&self) -> Networks {
        Networks::new(self.config()).unwrap()
    }

    fn records(&self) -> usize {
        std::fs::read_dir(self.path("state/cni")).unwrap().count()
    }
}

const GOOD: &str = r#"case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}';; VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}';; esac"#;

fn pod(byte: u8, name: &str, fd: &Arc<std::os::fd::OwnedFd>) -> PodRequest {
    PodRequest {
        netns_path: Some(PathBuf::from(format!("/run/netns/{name}"))),
        ..request(byte, NetworkKind::Cni, Some(Arc::clone(fd)))
    }
}

fn talk(netns: Option<&Arc<std::os::fd::OwnedFd>>, target: &str, listener: &TcpListener) -> IpAddr {
    let address: SocketAddr = target.parse().unwrap();
    let dial = move || TcpStream::connect_timeout(&address, Duration::from_secs(60));
    let mut client = netns.map_or_else(dial, |netns| inside(netns, dial)).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    peer.ip().to_canonical()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_bridge_chain_works() {
    if !in_own_host("plugins::tests::root_the_bridge_chain_works") {
        return;
    }
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let site = Site::new();
        site.conflist(&json!({"cniVersion": version, "name": "testnet", "disableCheck": true, "plugins": [
            {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {"type": "host-local",
             "dataDir": site.path("ipam"), "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            {"type": if version == "0.3.1" { "tuning" } else { "firewall" }},
            {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}]}));
        let networks = site.networks();
        networks.ready().unwrap();
        let (one, two) = (netns("one"), netns("two"));
        let mut first = pod(1, "one", &one);
        first.port_mappings = vec![host_port(Protocol::Tcp, 18080, 80, None)];
        first.annotations = [("kubernetes.io/ingress-bandwidth".to_owned(), "10M".to_owned())].into();
        let mut second = pod(2, "two", &two);
        let a = networks.setup(&first).await.unwrap().addresses;
        let b = networks.setup(&second).await.unwrap().addresses;
        assert_eq!((a.len(), b.len()), (2, 2));
        assert_eq!(networks.setup(&first).await.unwrap().addresses, a);
        // Bandwidth, portmap and tuning 1.1.1 have each a CHECK that fails on good pods, so the list says no CHECK.
        networks.check(&second).await.unwrap();
        assert!(sh("ip -n one link show lo").contains("UP"));
        assert!(sh("tc qdisc show").contains("tbf"), "no bandwidth limit");
        let listener = inside(&one, || TcpListener::bind("0.0.0.0:80").unwrap());
        assert_eq!(talk(Some(&two), &format!("{}:80", a[0]), &listener), b[0]);
        talk(None, "127.0.0.1:18080", &listener);

        // The configuration goes, and one pod's namespace; DEL works all the same.
        std::fs::remove_file(site.path("conf/10-test.conflist")).unwrap();
        assert!(networks.ready().unwrap_err().contains("no network configuration"));
        drop(listener);
        networks.teardown(&first).await.unwrap();
        networks.teardown(&first).await.unwrap();
        second.netns = None;
        drop(two);
        sh("ip netns del two");
        networks.teardown(&second).await.unwrap();
        assert_eq!(site.records(), 0);
        let leases = std::fs::read_dir(site.path("ipam/testnet"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(leases.filter(|name| name.starts_with("10.") || name.starts_with("fd00")).count(), 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        while sh("ip -o link").contains("veth") {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!sh("nft list ruleset 2>/dev/null").contains("18080"));
        drop((first, one));
        sh("ip netns del one; ip link del br0");
    }
}

/// The plugins that `cargo xtask build` puts into the target directory; Debian's know no 1.1.
fn built_plugins() -> Option<PathBuf> {
    let target = std::env::current_exe().unwrap().ancestors().nth(3)?.to_owned();
    Some(target.join("podwright/cni")).filter(|dir| dir.join("bridge").exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_bridge_chain_of_1_1_answers_status_check_and_gc() {
    let Some(plugins) = built_plugins() else {
        println!("left out: run `cargo xtask build` first");
        return;
    };
    if !in_own_host("plugins::tests::root_the_bridge_chain_of_1_1_answers_status_check_and_gc") {
        return;
    }
    let site = Site::new();
    site.conflist(&json!({"cniVersion": "1.1.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "testnet", "plugins": [
        {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", "hairpinMode": true,
         "ipam": {"type": "host-local", "dataDir": site.path("ipam"), "ranges": [[{"subnet": "10.22.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}, "snat": true},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}}]}));
    let config = NetworksConfig { bin_dirs: vec![plugins], ..site.config() };
    let networks = Networks::new(config.clone()).unwrap();
    networks.recover(&HashSet::new()).await.unwrap();
    networks.ready().unwrap();
    assert_eq!(networks.info().network.unwrap().cni_version, "1.1.0");
    let before = sh("ip -o link | wc -l");
    let (one, lost) = (netns("one"), netns("lost"));
    let mut first = pod(1, "one", &one);
    first.port_mappings = vec![host_port(Protocol::Tcp, 18080, 80, None)];
    first.annotations = [("kubernetes.io/ingress-bandwidth".to_owned(), "10M".to_owned())].into();
    let second = pod(2, "lost", &lost);
    let a = networks.setup(&first).await.unwrap().addresses[0];
    let b = networks.setup(&second).await.unwrap().addresses[0];
    networks.check(&first).await.unwrap();
    let listener = inside(&one, || TcpListener::bind("0.0.0.0:80").unwrap());
    assert_eq!(talk(Some(&lost), &format!("{a}:80"), &listener), b);
    talk(None, "127.0.0.1:18080", &listener);
    // The second is gone without a word. (These plugins take GC and have nothing to do for it.)
    drop((second.netns, lost));
    sh("ip netns del lost");
    networks.recover(&HashSet::from([first.sandbox.clone()])).await.unwrap();
    let lease = |address: IpAddr| site.path("ipam/testnet").join(address.to_string()).exists();
    let deadline = Instant::now() + Duration::from_secs(60);
    while lease(b) {
        assert!(Instant::now() < deadline, "{b} is taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(lease(a));
    let plugins = Plugins::open(&config, Host::start().unwrap(), Vec::new()).unwrap().inner;
    let valid = [first.sandbox.to_string()];
    queries::collect(&plugins.dirs.current().unwrap(), "1.1.0", &valid, &plugins.runner).await.unwrap();
    talk(None, "127.0.0.1:18080", &listener);
    networks.teardown(&first).await.unwrap();
    assert!(!lease(a) && site.records() == 0);
    drop((first, one, listener));
    sh("ip netns del one; ip link del br0");
    let deadline = Instant::now() + Duration::from_secs(60);
    while sh("ip -o link | wc -l") != before {
        assert!(Instant::now() < deadline, "{}", sh("ip -o link"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!sh("nft list ruleset").contains("18080"), "{}", sh("nft list ruleset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_plugins_are_told_everything() {
    if !in_own_host("plugins::tests::root_plugins_are_told_everything") {
        return;
    }
    let site = Site::new();
    site.script("first", GOOD);
    site.script("second", &GOOD.replace("10.9.0.2", "10.9.0.3"));
    let capabilities = json!({"portMappings": true, "dns": true, "ipRanges": true, "bandwidth": false});
    site.conflist(&json!({"cniVersion": "0.4.0", "cniVersions": ["1.1.0", "1.0.0"], "name": "n", "plugins": [{"type": "first", "capabilities": capabilities}, {"type": "second", "x": 1}]}));
    let networks = site.networks();
    networks.set_pod_cidrs(&["10.244.0.0/24".to_owned()]).await.unwrap();
    let one = netns("one");
    let mut request = pod(1, "one", &one);
    request.port_mappings = vec![host_port(Protocol::Udp, 53, 5353, Some("192.0.2.1"))];
    request.dns = Some(crate::request::DnsSettings { servers: vec!["192.0.2.53".to_owned()], ..Default::default() });
    assert_eq!(networks.setup(&request).await.unwrap().addresses, ["10.9.0.3".parse::<IpAddr>().unwrap()]);
    networks.check(&request).await.unwrap();
    networks.teardown(&request).await.unwrap();
    assert_eq!(site.commands("first"), ["VERSION", "ADD", "CHECK", "DEL"]);
    let line = site.log("first").remove(1);
    let input = |line: &str| serde_json::from_str::<Value>(&line[line.find('{').unwrap()..]).unwrap();
    let config = input(&line);
    assert!(line.contains("netns=/run/netns/one args=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-1;K8S_POD_INFRA_CONTAINER_ID=0101"), "{line}");
    assert!(line.contains("K8S_POD_UID=uid-1 home= {"), "{line}");
    assert_eq!((&config["name"], &config["cniVersion"]), (&json!("n"), &json!("1.1.0")));
    assert_eq!(
        config["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1"}],
            "dns": {"servers": ["192.0.2.53"], "searches": [], "options": []}, "ipRanges": [[{"subnet": "10.244.0.0/24"}]]})
    );
    assert!(config.get("prevResult").is_none());
    let second: Vec<Value> = site.log("second").iter().skip(1).map(|line| input(line)).collect();
    assert_eq!(second[0]["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
    assert_eq!(second[2]["prevResult"]["ips"][0]["address"], "10.9.0.3/24", "DEL gets the final result");
    assert!(second[0].get("runtimeConfig").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_bad_plugins_hurt_only_their_pod() {
    if !in_own_host("plugins::tests::root_bad_plugins_hurt_only_their_pod") {
        return;
    }
    const HANGS: &str = "[ $CNI_COMMAND = DEL ] || { sleep 300 & sleep 300; }";
    let one = netns("one");
    for (bad, expected) in [
        (
            r#"[ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"try again","details":"later"}'; exit 1; }"#,
            "try again (code 11): later",
        ),
        ("[ $CNI_COMMAND = DEL ] || { echo broken pipe dream >&2; exit 3; }", "exit status: 3: broken pipe dream"),
        ("[ $CNI_COMMAND = DEL ] || echo rubbish", "printed no JSON"),
        ("[ $CNI_COMMAND = DEL ] || echo '{}'", "no address"),
        ("[ $CNI_COMMAND = DEL ] || yes", "more than 1048576 bytes"),
        (HANGS, "no answer within 2s"),
    ] {
        let site = Site::new();
        site.script("good", GOOD);
        site.script("bad", bad);
        site.conflist(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "good"}, {"type": "bad"}]}));
        let mut config = site.config();
        // Only who waits for the limit has a short one: it is a limit of the good plugin, too.
        config.timeouts.operation = Duration::from_secs(if bad == HANGS { 2 } else { 60 });
        let networks = Networks::new(config).unwrap();
        let error = networks.setup(&pod(1, "one", &one)).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("plugin bad of network n"), "{error}");
        assert_eq!(site.commands("good"), ["ADD", "DEL"], "{expected}");
        assert_eq!(site.commands("bad"), ["ADD", "DEL"], "{expected}");
        assert_eq!(site.records(), 0, "{expected}");
    }
    // Killed with the whole group.
    assert_eq!(sh("pgrep -r R,S,D -x 'sleep|yes' || true"), "");
    let site = Site::new();
    site.conflist(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "absent"}]}));
    let networks = site.networks();
    assert!(networks.ready().unwrap_err().contains("plugin absent"));
    assert!(networks.setup(&pod(1, "one", &one)).await.unwrap_err().to_string().contains("no such plugin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_del_that_hangs_leaves_time_to_the_others() {
    if !in_own_host("plugins::tests::root_a_del_that_hangs_leaves_time_to_the_others") {
        return;
    }
    let site = Site::new();
    let done = site.path("done");
    site.script("slow", &format!("{GOOD}\n[ $CNI_COMMAND != DEL ] || {{ sleep 0.3; : > {}; }}", done.display()));
    site.script("hung", &format!("{GOOD}\n[ $CNI_COMMAND != DEL ] || sleep 300"));
    site.conflist(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "slow"}, {"type": "hung"}]}));
    let mut config = site.config();
    (config.timeouts.operation, config.timeouts.query) = (Duration::from_secs(1), Duration::from_secs(1));
    let networks = Networks::new(config).unwrap();
    let request = pod(1, "one", &netns("one"));
    networks.setup(&request).await.unwrap();
    let error = networks.teardown(&request).await.unwrap_err().to_string();
    assert!(error.contains("plugin hung of network n") && done.exists(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_add_that_a_daemon_died_in_is_taken_back_with_its_result() {
    if !in_own_host("plugins::tests::root_an_add_that_a_daemon_died_in_is_taken_back_with_its_result") {
        return;
    }
    let site = Site::new();
    let (gate, up) = (site.path("gate"), site.path("up"));
    for fifo in [&gate, &up] {
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    }
    site.script("first", GOOD);
    let hang = format!("[ $CNI_COMMAND != ADD ] || {{ echo up > {}; read x < {}; }}", up.display(), gate.display());
    site.script("second", &format!("{hang}\n{GOOD}"));
    site.conflist(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "first"}, {"type": "second"}]}));
    let request = pod(1, "one", &netns("one"));
    let earlier = site.networks();
    let asked = request.clone();
    let add = tokio::spawn(async move { earlier.setup(&asked).await });
    tokio::task::spawn_blocking(move || std::fs::read(up)).await.unwrap().unwrap();
    // As if the daemon had died: nothing is undone. What that leaves running is stood in for by a process that is told the same.
    add.abort();
    assert!(add.await.unwrap_err().is_cancelled());
    let mut orphan = std::process::Command::new("sleep")
        .arg("300")
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", request.sandbox.to_string())
        .spawn()
        .unwrap();
    // It may have been writing, too.
    std::fs::write(site.path("state/cni").join(format!("{}.tmp", request.sandbox)), "{").unwrap();
    std::fs::write(site.path("state/embedded-host.tmp"), "{").unwrap();
    site.networks().teardown(&request).await.unwrap();
    assert!(!site.path("state/embedded-host.tmp").exists());
    assert!(orphan.try_wait().unwrap().is_some(), "the plugin of the earlier daemon runs on beside DEL");
    for plugin in ["first", "second"] {
        let line = site.log(plugin).pop().unwrap();
        let input: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        assert_eq!(input["prevResult"]["ips"][0]["address"], "10.9.0.2/24", "{plugin}: {line}");
    }
    assert_eq!(site.records(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_repeated_del_finds_the_addresses_of_a_link_that_is_gone() {
    if !in_own_host("plugins::tests::root_a_repeated_del_finds_the_addresses_of_a_link_that_is_gone") {
        return;
    }
    let site = Site::new();
    let seen = site.path("seen");
    // As bridge does it: the link goes first. What comes then, the rules of its addresses, fails once.
    let add = "ip -n one link add eth0 type veth peer name other && ip -n one address add 10.9.0.2/24 dev eth0";
    let delete = format!(
        "ip -n one -o -4 address show dev eth0 >> {0}; ip -n one link del eth0; [ $(wc -l < {0}) -gt 1 ]",
        seen.display()
    );
    site.script(
        "a",
        &format!(
            "[ $CNI_COMMAND != ADD ] || {{ {add}; }}\n[ $CNI_COMMAND != DEL ] || {{ {delete}; }} || exit 7\n{GOOD}"
        ),
    );
    site.conflist(&json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "a"}]}));
    let request = pod(1, "one", &netns("one"));
    let networks = site.networks();
    networks.setup(&request).await.unwrap();
    networks.teardown(&request).await.unwrap_err();
    // An earlier daemon may have left a plugin in DEL: that one does what is wanted, and ends by itself.
    let mut orphan = std::process::Command::new("sh")
        .args(["-c", "sleep 0.3; exit 5"])
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", request.sandbox.to_string())
        .spawn()
        .unwrap();
    drop(networks);
    site.networks().teardown(&request).await.unwrap();
    assert_eq!(orphan.try_wait().unwrap().and_then(|status| status.code()), Some(5), "it was left running, or killed");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen.matches("10.9.0.2/").count(), 2, "{seen}");
    assert_eq!(sh("ip -n one -o link").lines().count(), 1, "only lo is there");
    assert_eq!(site.records(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_del_is_repeated_until_it_succeeds() {
    if !in_own_host("plugins::tests::root_del_is_repeated_until_it_succeeds") {
        return;
    }
    let site = Site::new();
    let gate = site.path("gate");
    std::fs::write(&gate, "").unwrap();
    site.script("a", &format!("{GOOD}\n[ $CNI_COMMAND != DEL ] || [ ! -e {} ] || exit 7", gate.display()));
    site.script("b", GOOD);
    site.conflist(&json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "a"}, {"type": "b"}]}));
    let networks = site.networks();
    let one = netns("one");
    let request = pod(1, "one", &one);
    networks.setup(&request).await.unwrap();
    assert!(networks.teardown(&request).await.is_err());
    assert!(networks.holders().contains(&request.sandbox));
    // Next daemon: nobody knows the pod any more. Another one is known and stays.
    let two = pod(2, "one", &one);
    networks.setup(&two).await.unwrap();
    drop(networks);
    sh("ip netns del one");
    std::fs::remove_file(&gate).unwrap();
    let networks = site.networks();
    networks.recover(&HashSet::from([two.sandbox.clone()])).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !site.commands("b").contains(&"GC".to_owned()) {
        assert!(Instant::now() < deadline, "{:?}", site.commands("b"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(networks.holders(), BTreeSet::from([two.sandbox.clone()]));
    let log = site.log("a");
    assert!(log.iter().any(|line| line.starts_with("DEL netns= ")), "{log:?}");
    let collected = log.iter().find(|line| line.starts_with("GC")).unwrap();
    assert!(collected.contains(two.sandbox.as_str()) && !collected.contains(request.sandbox.as_str()), "{collected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_pod_that_hangs_holds_up_neither_gc_nor_others() {
    if !in_own_host("plugins::tests::root_a_pod_that_hangs_holds_up_neither_gc_nor_others") {
        return;
    }
    let site = Site::new();
    let (hung, other) = (netns("hung"), netns("other"));
    let (first, second) = (pod(1, "hung", &hung), pod(2, "other", &other));
    site.script("a", &format!("[ \"$CNI_COMMAND $CNI_CONTAINERID\" != 'ADD {}' ] || sleep 300\n{GOOD}", first.sandbox));
    site.conflist(&json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "a"}]}));
    let networks = site.networks();
    let adding = tokio::spawn({
        let (networks, first) = (networks.clone(), first.clone());
        async move { networks.setup(&first).await }
    });
    let wait_for = async |command: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !site.commands("a").contains(&command.to_owned()) {
            assert!(Instant::now() < deadline, "{:?}", site.log("a"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    wait_for("ADD").await;
    networks.recover(&HashSet::from([first.sandbox.clone()])).await.unwrap();
    wait_for("GC").await;
    assert!(site.log("a").iter().any(|line| line.starts_with("GC") && line.contains(first.sandbox.as_str())));
    tokio::time::timeout(Duration::from_secs(60), networks.setup(&second)).await.unwrap().unwrap();
    adding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_ready_asks_plugins_of_1_1() {
    if !in_own_host("plugins::tests::root_ready_asks_plugins_of_1_1") {
        return;
    }
    let site = Site::new();
    site.script("good", GOOD);
    site.script(
        "sick",
        &format!("{GOOD}\n[ $CNI_COMMAND != STATUS ] || {{ echo '{{\"code\":50,\"msg\":\"no uplink\"}}'; exit 1; }}"),
    );
    let networks = site.networks();
    let settle = async || {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match networks.ready() {
                Err(reason) if reason.contains("not asked") => assert!(Instant::now() < deadline),
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    site.conflist(&json!({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "good"}]}));
    settle().await.unwrap();
    site.conflist(&json!({"cniVersion": "1.1.0", "name": "other", "plugins": [{"type": "sick"}]}));
    assert!(settle().await.unwrap_err().contains("no uplink"));
    site.conflist(&json!({"cniVersion": "1.0.0", "name": "older", "plugins": [{"type": "sick"}]}));
    settle().await.unwrap();
    assert_eq!(networks.info().network.unwrap().name, "older");
}

#[tokio::test]
async fn auto_mode_switches_when_a_cluster_speaks() {
    let site = Site::new();
    let config = NetworksConfig { mode: NetworkMode::Auto, ..site.config() };
    let networks = Networks::new(config.clone()).unwrap();
    assert_eq!(networks.kind_for_new_pods(), NetworkKind::Embedded);
    networks.ready().unwrap();
    networks.set_pod_cidrs(&[]).await.unwrap();
    assert_eq!(networks.kind_for_new_pods(), NetworkKind::Embedded, "no range, no news");
    networks.set_pod_cidrs(&["10.244.0.0/24".to_owned()]).await.unwrap();
    assert_eq!(networks.kind_for_new_pods(), NetworkKind::Cni);
    assert!(networks.ready().is_err());
    drop(networks);
    assert_eq!(Networks::new(config).unwrap().kind_for_new_pods(), NetworkKind::Cni, "kept over a restart");
    let bad = NetworksConfig { instance: "a b".to_owned(), ..site.config() };
    assert!(Networks::new(bad).unwrap_err().to_string().contains("instance"));
    let _: &Path = site.dir.path();
}
