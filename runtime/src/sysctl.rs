//! Sysctls of a container's or pod's own namespaces. Those that belong to the host as a whole are refused.

use std::path::PathBuf;

use crate::error::{Failure, Step};

/// Which namespaces are not the host's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    pub(crate) uts: bool,
}

/// Writes sysctls, in the host's mount namespace: the kernel decides by the writer's namespaces whose they are.
pub(crate) fn write_all<'a>(
    sysctls: impl IntoIterator<Item = (&'a String, &'a String)>,
    own: Own,
) -> Result<(), Failure> {
    for (name, value) in sysctls {
        let path = path_of(name, own).map_err(|reason| Failure::because("set the sysctl", name, reason))?;
        if value.chars().any(char::is_control) {
            return Err(Failure::because("set the sysctl", name, "its value holds a control character"));
        }
        std::fs::write(&path, value).step("set the sysctl", || name)?;
    }
    Ok(())
}

fn path_of(name: &str, own: Own) -> Result<PathBuf, &'static str> {
    let path = slashed(name);
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || *part == "." || *part == ".." || part.chars().any(char::is_control)) {
        return Err("it is not the name of a sysctl");
    }
    let belongs = match parts.as_slice() {
        ["net", ..] => own.network,
        ["fs", "mqueue", ..] => own.ipc,
        ["kernel", name] => match *name {
            "hostname" | "domainname" => own.uts,
            "sem" | "shmall" | "shmmax" | "shmmni" | "shm_rmid_forced" | "shm_next_id" | "sem_next_id"
            | "msg_next_id" | "msgmax" | "msgmnb" | "msgmni" => own.ipc,
            _ => return Err("it belongs to the host as a whole; set it there"),
        },
        _ => return Err("it belongs to the host as a whole; set it there"),
    };
    if !belongs {
        return Err("the pod uses the host's namespace for it");
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

/// `a.b/c` is `a/b.c`, as sysctl(8) reads names: whichever separator comes first separates.
fn slashed(name: &str) -> String {
    if name.find(['.', '/']).and_then(|at| name.get(at..=at)) == Some("/") {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Own = Own { network: true, ipc: true, uts: true };

    #[test]
    fn names() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced"),
        ] {
            assert_eq!(path_of(name, ALL).unwrap(), PathBuf::from(path));
        }
    }

    #[test]
    fn the_hosts_are_refused() {
        for bad in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net/../kernel/core_pattern",
            "",
            "net..x",
            "kernel.shmmax.x",
            "fs.file-max",
        ] {
            assert!(path_of(bad, ALL).is_err(), "{bad:?} was taken");
        }
        assert!(path_of("net.core.somaxconn", Own { network: false, ..ALL }).is_err());
        assert!(path_of("kernel.msgmax", Own { ipc: false, ..ALL }).is_err());
    }
}
