//! Tests only: a network namespace that stands for the host, others that stand for pods and the outside.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;

use podwright_types::SandboxId;

use crate::request::{NetworkKind, PodRequest, PortMapping, Protocol};

/// Runs the calling test again in network and mount namespaces of its own. In there it returns true.
pub(crate) fn in_own_host(test: &str) -> bool {
    if std::env::var_os("PODWRIGHT_CNI_TEST_HOST").is_some() {
        return true;
    }
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env("PODWRIGHT_CNI_TEST_HOST", "1")
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed") || !output.status.success(), "no such test: {test}");
    assert!(output.status.success(), "{text}");
    println!("{text}");
    false
}

/// Runs a command, which must succeed; returns its output.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a named network namespace.
pub(crate) fn netns(name: &str) -> Arc<OwnedFd> {
    sh(&format!("ip netns add {name}"));
    Arc::new(File::open(format!("/run/netns/{name}")).unwrap().into())
}

/// Runs `action` on a thread in a network namespace; its sockets stay there.
pub(crate) fn inside<T: Send + 'static>(netns: &Arc<OwnedFd>, action: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = Arc::clone(netns);
    std::thread::spawn(move || {
        podwright_sys::join_namespace(&netns).unwrap();
        action()
    })
    .join()
    .unwrap()
}

/// A pod's request.
pub(crate) fn request(byte: u8, kind: NetworkKind, netns: Option<Arc<OwnedFd>>) -> PodRequest {
    PodRequest {
        sandbox: SandboxId::from_random([byte; 32]),
        name: format!("pod-{byte}"),
        namespace: "default".to_owned(),
        uid: format!("uid-{byte}"),
        kind,
        netns,
        netns_path: None,
        port_mappings: Vec::new(),
        dns: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

/// A host port on all addresses, or one.
pub(crate) fn host_port(protocol: Protocol, host_port: u16, container_port: u16, host_ip: Option<&str>) -> PortMapping {
    PortMapping { protocol, container_port, host_port, host_ip: host_ip.map(|ip| ip.parse().unwrap()) }
}
