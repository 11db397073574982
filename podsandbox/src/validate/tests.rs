use super::*;
use crate::model::{Capabilities, NamespaceModes, UserNamespace};

fn pod() -> SandboxConfig {
    SandboxConfig { name: "p".into(), namespace: "n".into(), uid: "u".into(), ..SandboxConfig::default() }
}

fn ctr() -> ContainerConfig {
    ContainerConfig { name: "c".into(), image: "busybox".into(), ..ContainerConfig::default() }
}

fn refused(outcome: Outcome) {
    assert!(matches!(outcome, Err(EngineError::Invalid(_))), "{outcome:?}");
}

#[test]
fn plain_ones_pass() {
    sandbox(&pod()).unwrap();
    container(&ctr(), &pod()).unwrap();
}

#[test]
fn names_are_names() {
    for bad in ["", "..", "a/b", "a\0b", "a\nb", &"x".repeat(10 << 20)] {
        refused(sandbox(&SandboxConfig { name: bad.into(), ..pod() }));
        refused(container(&ContainerConfig { name: bad.into(), ..ctr() }, &pod()));
    }
}

#[test]
fn errors_do_not_repeat_ten_megabytes() {
    let error = sandbox(&SandboxConfig { cgroup_parent: "x".repeat(1 << 20), ..pod() }).unwrap_err();
    assert!(error.to_string().len() < 1000);
}

#[test]
fn a_line_can_not_be_added_to_a_file() {
    refused(sandbox(&SandboxConfig { hostname: "a\n127.0.0.1 b".into(), ..pod() }));
    for dns in [
        DnsConfig { servers: vec!["1.1.1.1\nnameserver 6.6.6.6".into()], ..DnsConfig::default() },
        DnsConfig { searches: vec!["a b".into()], ..DnsConfig::default() },
        DnsConfig { options: vec!["x\0".into()], ..DnsConfig::default() },
    ] {
        refused(sandbox(&SandboxConfig { dns: Some(dns), ..pod() }));
    }
}

#[test]
fn only_sysctls_of_the_pod_pass() {
    let with = |name: &str, value: &str, modes: NamespaceModes| {
        let sysctls = [(name.to_owned(), value.to_owned())].into();
        sandbox(&SandboxConfig { sysctls, namespaces: modes, ..pod() })
    };
    with("net.ipv4.ip_forward", "1", NamespaceModes::default()).unwrap();
    with("net.ipv4.ip_local_port_range", "1024\t65535", NamespaceModes::default()).unwrap();
    with("net.ipv4.conf.eth0/1.forwarding", "1", NamespaceModes::default()).unwrap();
    with("kernel.shm_rmid_forced", "1", NamespaceModes::default()).unwrap();
    with("fs.mqueue.msg_max", "1", NamespaceModes::default()).unwrap();
    for name in [
        "kernel.panic",
        "vm.swappiness",
        "net/ipv4",
        "net.ipv4.../../kernel",
        "net./.kernel",
        "net.//.kernel",
        "net.ipv4./x",
        "net..x",
        "net.x\n",
        "kernel.shm_rmid_forced+x",
        "",
    ] {
        refused(with(name, "1", NamespaceModes::default()));
    }
    refused(with("net.ipv4.ip_forward", "1\nkernel.x=2", NamespaceModes::default()));
    let host = NamespaceModes { network: NamespaceMode::Node, ipc: NamespaceMode::Node, ..NamespaceModes::default() };
    refused(with("net.ipv4.ip_forward", "1", host.clone()));
    refused(with("kernel.sem", "1", host));
}

#[test]
fn paths_do_not_climb() {
    let pod = SandboxConfig { log_directory: "/var/log/x".into(), ..pod() };
    for bad in ["../x", "/etc/passwd", "a/../../b", "a\nb"] {
        refused(container(&ContainerConfig { log_path: bad.into(), ..ctr() }, &pod));
    }
    refused(sandbox(&SandboxConfig { log_directory: "relative".into(), ..pod.clone() }));
    refused(sandbox(&SandboxConfig { cgroup_parent: "/a/../../b".into(), ..pod.clone() }));
    for (destination, source) in [("relative", "/x"), ("/a/../b", "/x"), ("/a", "x"), ("/", "/x"), ("/a", "/x/../y")] {
        let mount = Mount {
            destination: destination.into(),
            source: MountSource::Host(source.into()),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
            selinux_relabel: false,
            uid_mappings: vec![],
            gid_mappings: vec![],
        };
        refused(container(&ContainerConfig { mounts: vec![mount], ..ctr() }, &pod));
    }
}

#[test]
fn nul_bytes_are_found_everywhere() {
    let nul = || "a\0b".to_owned();
    for config in [
        ContainerConfig { command: vec![nul()], ..ctr() },
        ContainerConfig { args: vec![nul()], ..ctr() },
        ContainerConfig { working_directory: nul(), ..ctr() },
        ContainerConfig { image: nul(), ..ctr() },
        ContainerConfig { environment: vec![(nul(), vec![])], ..ctr() },
        ContainerConfig { environment: vec![("A".into(), nul().into_bytes())], ..ctr() },
    ] {
        refused(container(&config, &pod()));
    }
    refused(argv(&[nul()]));
    refused(argv(&[]));
}

#[test]
fn ten_megabytes_are_too_much() {
    let big = "x".repeat(10 << 20);
    refused(sandbox(&SandboxConfig { annotations: [("a".into(), big.clone())].into(), ..pod() }));
    refused(container(&ContainerConfig { labels: [("a".into(), big.clone())].into(), ..ctr() }, &pod()));
    refused(argv(&[big]));
}

#[test]
fn users_and_namespaces_are_checked() {
    let user = |name: &str| SecurityConfig {
        user: UserSpec::Name { name: name.into(), gid: None },
        ..SecurityConfig::default()
    };
    refused(container(&ContainerConfig { security: user("a:b"), ..ctr() }, &pod()));
    refused(container(&ContainerConfig { security: user("a\nb"), ..ctr() }, &pod()));
    let modes = NamespaceModes { network: NamespaceMode::Container, ..NamespaceModes::default() };
    refused(sandbox(&SandboxConfig { namespaces: modes, ..pod() }));
    let fine = SecurityConfig { capabilities: Capabilities::default(), ..SecurityConfig::default() };
    container(&ContainerConfig { security: fine, ..ctr() }, &pod()).unwrap();
}

#[test]
fn user_namespaces_are_checked() {
    let range = |container_id| IdMapping { host_id: 100_000, container_id, length: 65_536 };
    let with = |uids: Vec<IdMapping>, more: NamespaceModes| {
        let user = Some(UserNamespace { uids, gids: vec![range(0)] });
        SandboxConfig { namespaces: NamespaceModes { user, ..more }, ..pod() }
    };
    let fine = with(vec![range(0)], NamespaceModes::default());
    sandbox(&fine).unwrap();
    sandbox(&with(vec![range(0)], NamespaceModes { network: NamespaceMode::Node, ..NamespaceModes::default() }))
        .unwrap();
    refused(sandbox(&with(vec![], NamespaceModes::default())));
    refused(sandbox(&with(vec![range(1)], NamespaceModes::default())));
    refused(sandbox(&with(vec![range(0), range(0)], NamespaceModes::default())));
    refused(sandbox(&with(vec![range(0)], NamespaceModes { pid: NamespaceMode::Node, ..NamespaceModes::default() })));
    refused(sandbox(&with(vec![range(0)], NamespaceModes { ipc: NamespaceMode::Node, ..NamespaceModes::default() })));

    container(&ctr(), &fine).unwrap();
    refused(container(&ContainerConfig { pid_mode: NamespaceMode::Node, ..ctr() }, &fine));
    let outward = Mount { propagation: Propagation::Bidirectional, ..volume() };
    container(&ContainerConfig { mounts: vec![volume()], ..ctr() }, &fine).unwrap();
    refused(container(&ContainerConfig { mounts: vec![outward], ..ctr() }, &fine));
}

fn volume() -> Mount {
    Mount {
        destination: "/data".into(),
        source: MountSource::Host("/tmp".into()),
        readonly: false,
        recursive_readonly: false,
        propagation: Propagation::Private,
        selinux_relabel: false,
        uid_mappings: vec![],
        gid_mappings: vec![],
    }
}
