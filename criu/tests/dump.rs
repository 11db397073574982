//! Dumps with a real CRIU: `PODWRIGHT_CRIU`, or the one that is installed. Where none works the tests say so and end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use podwright_criu::{Dump, dump, external_mount, external_network, parse_mounts};
use podwright_testutil::criu;

/// What CRIU needs for so little, on a busy machine.
const ENOUGH: Duration = Duration::from_secs(120);

/// A process with namespaces of its own, which ends with the test.
struct Isolated {
    outer: Child,
    pid: i32,
}

impl Isolated {
    fn new(top: &Path) -> Self {
        let told = top.join("told");
        // What the test itself was given stays outside.
        let close = "for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ $fd -lt 3 ] || eval \"exec $fd>&-\"; done";
        let tell = format!("ip link set lo up; echo up > {0}.new; mv {0}.new {0}", told.display());
        let script = format!("{close}; {tell}; exec sleep 1000 </dev/null >/dev/null 2>&1");
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--net",
            "--ipc",
            "--uts",
            "--mount",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "setsid",
            "bash",
            "-c",
        ]);
        command.arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let outer = command.spawn().unwrap();
        while !told.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        while !fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().starts_with("sleep") {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { outer, pid }
    }

    fn external(&self) -> Vec<String> {
        use std::os::linux::fs::MetadataExt as _;
        let mounts = parse_mounts(&fs::read(format!("/proc/{}/mountinfo", self.pid)).unwrap()).unwrap();
        let proc = mounts.iter().rev().find(|mount| mount.at == "/proc").unwrap().id.clone();
        let outside = mounts.iter().filter(|mount| mount.at != "/" && mount.id != proc);
        let network = fs::metadata(format!("/proc/{}/ns/net", self.pid)).unwrap().st_ino();
        outside.map(|mount| external_mount(&mount.at, &mount.at)).chain([external_network(network)]).collect()
    }

    /// Whether its network carries packets.
    fn carries(&self) -> bool {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        let inside = std::thread::spawn(move || {
            podwright_sys::join_namespace(&namespace).unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let sent = socket.send_to(b"packet", socket.local_addr().unwrap());
            sent.is_ok() && socket.recv(&mut [0; 16]).is_ok()
        });
        inside.join().unwrap()
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

#[test]
fn root_a_dump_that_fails_at_its_end_gives_the_network_back() {
    let Some(program) = criu() else { return };
    let top = tempfile::tempdir().unwrap();
    let isolated = Isolated::new(top.path());
    assert!(isolated.carries());
    let images = top.path().join("images");
    fs::create_dir(&images).unwrap();
    let external = isolated.external();
    let request = Dump { program: &program, pid: isolated.pid, images: &images, external, within: ENOUGH };
    let mut carried = None;
    let outcome = dump(&request, &mut || {
        carried = Some(isolated.carries());
        Err("the disk is full".to_owned())
    });
    assert_eq!(outcome.unwrap_err().to_string(), "the disk is full");
    assert_eq!(carried, Some(false), "this CRIU keeps no packets away");
    assert!(isolated.carries(), "the packets are kept away");
}

#[test]
fn root_rules_of_a_criu_that_dies_are_removed() {
    let Some(program) = criu() else { return };
    let top = tempfile::tempdir().unwrap();
    let isolated = Isolated::new(top.path());
    let images = top.path().join("images");
    fs::create_dir(&images).unwrap();
    let external = isolated.external();
    let request = Dump { program: &program, pid: isolated.pid, images: &images, external, within: ENOUGH };
    let outcome = dump(&request, &mut || {
        assert!(!isolated.carries(), "this CRIU keeps no packets away");
        // Children of this thread are the process that is dumped, and CRIU.
        let children = fs::read_to_string("/proc/thread-self/children").unwrap();
        let pids = children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
        for pid in pids.filter(|pid| *pid != isolated.outer.id()) {
            assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        }
        Ok(())
    });
    let error = outcome.unwrap_err().to_string();
    assert!(!error.contains("could not be removed"), "{error}");
    assert!(isolated.carries(), "the packets are kept away: {error}");
}
