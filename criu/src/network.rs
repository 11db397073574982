//! What CRIU leaves in a network namespace when it ends in the middle of a dump: rules that keep all packets away.
//!
//! CRIU removes them itself at the end of every dump, of a failed one too; this is for one that was killed or crashed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use podwright_sys::join_namespace;
use rustix::fs::{Mode, OFlags};

use crate::error::Error;

/// The chain that it makes with iptables.
const CHAIN: &str = "CRIU";
/// How the names of its tables for nftables begin.
const TABLES: &str = "CRIU-";
/// How long iptables waits for others that change rules, in seconds.
const LOCK_SECONDS: &str = "5";
/// Where CRIU finds its helpers, and where they are looked for here.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The network of a process that is being dumped.
pub(crate) struct Network {
    namespace: OwnedFd,
    is_own: bool,
}

impl Network {
    /// That of a process.
    pub(crate) fn of(pid: i32) -> Result<Self, Error> {
        let path = format!("/proc/{pid}/ns/net");
        let look = |cause: io::Error| Error::Talk { step: "open the network namespace", cause };
        let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| look(errno.into()))?;
        let inode = |path: &str| fs::metadata(path).map(|about| about.st_ino()).map_err(look);
        Ok(Self { namespace, is_own: inode(&path)? == inode("/proc/thread-self/ns/net")? })
    }

    /// Removes CRIU's rules from a pod's network. Gives words about what is left.
    pub(crate) fn release(&self) -> String {
        if self.is_own {
            // Others of the host may be dumped at this moment; whose rules are whose can not be told.
            let text = "; it had to end early on the host's network, where rules of it may be left that drop packets of \
                        the container's connections: look at iptables -S and nft list tables";
            return text.to_owned();
        }
        // Only the thread that joins is in there.
        let inside = || {
            join_namespace(&self.namespace)?;
            remove_chains();
            remove_tables();
            Ok::<_, rustix::io::Errno>(is_left())
        };
        let outcome = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("criu-network".to_owned()).spawn_scoped(scope, inside);
            thread.map(|thread| thread.join())
        });
        match outcome {
            Ok(Ok(Ok(false))) => String::new(),
            _ => "; it had to end early, and its rules that keep packets from the pod could not be removed: delete the pod"
                .to_owned(),
        }
    }
}

/// A program of the host, silent. One that is not installed was not used by CRIU either.
fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null());
    command
}

fn iptables(program: &str, words: &[&str]) -> bool {
    let mut command = command(program, &["-w", LOCK_SECONDS]);
    command.args(words).status().is_ok_and(|status| status.success())
}

/// What is not there fails, which is as good.
fn remove_chains() {
    for program in ["iptables", "ip6tables"] {
        for from in ["INPUT", "OUTPUT"] {
            iptables(program, &["-D", from, "-j", CHAIN]);
        }
        iptables(program, &["-F", CHAIN]);
        iptables(program, &["-X", CHAIN]);
    }
}

fn tables() -> Vec<String> {
    let output = command("nft", &["list", "tables", "inet"]).stdout(Stdio::piped()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.strip_prefix("table inet "));
    names.filter(|name| name.starts_with(TABLES)).map(str::to_owned).collect()
}

fn remove_tables() {
    for name in tables() {
        let _ = command("nft", &["delete", "table", "inet", &name]).status();
    }
}

fn is_left() -> bool {
    ["iptables", "ip6tables"].into_iter().any(|program| iptables(program, &["-S", CHAIN])) || !tables().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_sys::unshare;
    use rustix::thread::UnshareFlags;

    /// The rules of a dump, made as CRIU makes them.
    fn lock() {
        for words in [
            &["-N", CHAIN][..],
            &["-I", "INPUT", "-j", CHAIN],
            &["-I", "OUTPUT", "-j", CHAIN],
            &["-A", CHAIN, "-j", "DROP"],
        ] {
            assert!(iptables("iptables", words), "{words:?}");
        }
    }

    #[test]
    fn root_rules_of_a_killed_dump_are_removed() {
        let is_there = |program| command(program, &["--version"]).status().is_ok_and(|status| status.success());
        if !rustix::process::geteuid().is_root() || !is_there("iptables") {
            println!("skipped: it needs root and iptables");
            return;
        }
        let namespace = std::thread::spawn(move || {
            unshare(UnshareFlags::NEWNET).unwrap();
            lock();
            if is_there("nft") {
                assert!(command("nft", &["add", "table", "inet", "CRIU-1-a"]).status().unwrap().success());
            }
            assert!(is_left());
            rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
        });
        let network = Network { namespace: namespace.join().unwrap(), is_own: false };
        assert_eq!(network.release(), "");
        let inside = std::thread::spawn(move || {
            join_namespace(&network.namespace).unwrap();
            (is_left(), iptables("iptables", &["-C", "OUTPUT", "-j", CHAIN]))
        });
        assert_eq!(inside.join().unwrap(), (false, false));
    }

    #[test]
    fn rules_on_the_host_are_left_to_the_operator() {
        let network = Network::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(network.is_own);
        assert!(network.release().contains("nft list tables"));
    }
}
