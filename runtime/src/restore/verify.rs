//! Whether restored processes are what was asked for, as the kernel has them, before any of them goes on. Nothing that an image says
//! counts.
//!
//! Left to the images, because the kernel does not tell or CRIU can not be told: memory and registers, which calls a system call filter
//! lets through (that there is one is looked at), limits of resources, and what open sockets are connected to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci_spec::runtime::Process;
use podwright_criu::Mount;
use rustix::process::Pid;

use super::{TOP, WHOLE, mounts_of};
use crate::error::Failure;
use crate::filters;
use crate::message::User;
use crate::privileges;

/// More threads than any container has.
const MAX_THREADS: usize = 1 << 16;
/// Options of a mount that confine whoever uses it.
const CONFINING: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];
/// Namespaces that CRIU, and with it the processes, were given.
const SHARED: [&str; 5] = ["net", "ipc", "uts", "user", "cgroup"];

/// What is expected of all processes of a container.
pub(super) struct Expected {
    user: User,
    /// Bits of the bounding set.
    capabilities: u64,
    no_new_privileges: bool,
    has_filter: bool,
    oom_score: Option<i32>,
    label: Option<String>,
    profile: Option<String>,
    /// Namespaces, as links of /proc show them.
    namespaces: Vec<(&'static str, String)>,
    /// Mounts as they were made for the request, by their places in the container.
    mounts: Vec<Mount>,
}

impl Expected {
    /// What was asked for, and what was made for it. To be called when all is mounted, in the container's namespaces.
    pub(super) fn new(process: &Process, user: User, has_filter: bool) -> Result<Self, Failure> {
        let failed = |text: String| Failure::because("look at", "the mounts of the container", text);
        let mut mounts = Vec::new();
        for mut mount in mounts_of("self").map_err(failed)? {
            if let Some(below) = mount.at.strip_prefix(WHOLE).filter(|at| at.is_empty() || at.starts_with('/')) {
                mount.at = if below.is_empty() { "/".to_owned() } else { below.to_owned() };
                // Of several at one place the last one is seen.
                mounts.retain(|known: &Mount| known.at != mount.at);
                mounts.push(mount);
            }
        }
        let apparmor = process.apparmor_profile().clone().filter(|name| !matches!(name.as_str(), "" | "unconfined"));
        let selinux = process.selinux_label().clone().filter(|label| !label.is_empty());
        Ok(Self {
            user,
            capabilities: privileges::mask_of(&filters::bounding(process))?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            has_filter,
            oom_score: process.oom_score_adj(),
            profile: (apparmor.as_ref().map(|name| format!("apparmor:{name}")))
                .or(selinux.as_ref().map(|label| format!("selinux:{label}"))),
            label: apparmor.or(selinux),
            namespaces: SHARED
                .iter()
                .map(|kind| Ok((*kind, namespace("self", kind)?)))
                .collect::<Result<_, _>>()
                .map_err(failed)?,
            mounts,
        })
    }

    /// For CRIU.
    pub(super) fn profile(&self) -> Option<String> {
        self.profile.clone()
    }

    /// Where the mounts of the container come from: all but its root and what shows its processes.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, String)> {
        let outside = self.mounts.iter().filter(|mount| mount.at != "/" && !self.is_of_procfs(mount));
        outside.map(|mount| (mount.at.as_str(), format!("{WHOLE}{}", mount.at)))
    }

    fn is_of_procfs(&self, mount: &Mount) -> bool {
        self.mounts.iter().any(|proc| proc.at == "/proc" && proc.kind == "proc" && proc.device == mount.device)
    }

    /// An error for the first thing that is not as it should be.
    pub(super) fn hold(&self, init: Pid) -> Result<(), String> {
        let init = init.as_raw_nonzero().get().to_string();
        self.mounts_hold(&mounts_of(&init)?)?;
        let ids: BTreeSet<String> = mounts_of(&init)?.into_iter().map(|mount| mount.id).collect();
        let (own_pids, own_mounts) = (namespace("self", "pid")?, namespace("self", "mnt")?);
        let (pids, mounts) = (namespace(&init, "pid")?, namespace(&init, "mnt")?);
        if pids == own_pids || mounts == own_mounts {
            return Err("its first process has no namespace of its own for process ids or mounts".to_owned());
        }
        let mut seen = 0;
        for process in processes()? {
            // One that ended meanwhile is none of the container's: those are stopped.
            if namespace(&process, "pid").ok().as_deref() != Some(pids.as_str()) {
                continue;
            }
            seen += 1;
            if namespace(&process, "mnt")? != mounts {
                return Err(format!("process {process} has other mounts than the first one"));
            }
            self.process_holds(&process, &ids)?;
        }
        if seen == 0 { Err("its processes are not to be seen".to_owned()) } else { Ok(()) }
    }

    /// The same mounts, at the same places, confined at least as they should be.
    fn mounts_hold(&self, found: &[Mount]) -> Result<(), String> {
        let top = mounts_of("self")?.into_iter().find(|mount| mount.at == TOP).ok_or("the root is not mounted")?;
        let mut places = BTreeSet::new();
        for mount in found {
            let at = &mount.at;
            if !places.insert(at.as_str()) {
                return Err(format!("there are two mounts at {at:?}"));
            }
            let expected = if at == "/" { Some(&top) } else { self.mounts.iter().find(|known| known.at == *at) };
            let expected = expected.ok_or_else(|| format!("there is a mount at {at:?}, which was not asked for"))?;
            // Processes are shown by a procfs of their own, which is not the one that was made here.
            let is_same = match self.is_of_procfs(expected) {
                true => mount.kind == "proc" && mount.device != expected.device,
                false => mount.device == expected.device,
            };
            if !is_same || mount.root != expected.root {
                return Err(format!("at {at:?} something else is mounted than was asked for"));
            }
            let has = |options: &[String], option: &str| options.iter().any(|known| known == option);
            let lost = CONFINING.iter().find(|o| has(&expected.options, o) && !has(&mount.options, o));
            if let Some(lost) = lost {
                return Err(format!("the mount at {at:?} is not {lost}"));
            }
        }
        match self.mounts.iter().find(|mount| !places.contains(mount.at.as_str())) {
            Some(missing) => Err(format!("nothing is mounted at {:?}", missing.at)),
            None => Ok(()),
        }
    }

    fn process_holds(&self, process: &str, mounts: &BTreeSet<String>) -> Result<(), String> {
        for (kind, expected) in &self.namespaces {
            if namespace(process, kind)? != *expected {
                return Err(format!("process {process} is not in the {kind} namespace of its pod"));
            }
        }
        let cgroups = |process: &str| read(&format!("/proc/{process}/cgroup"));
        if cgroups(process)? != cgroups("self")? {
            return Err(format!("process {process} is not in the container's cgroup"));
        }
        if let Some(label) = &self.label {
            let now = read(&format!("/proc/{process}/attr/current"))?;
            let now = now.trim_end_matches(['\0', '\n']);
            if now != label && now.strip_prefix(label.as_str()) != Some(" (enforce)") {
                return Err(format!("process {process} is labelled {now:?} and not {label:?}"));
            }
        }
        if let Some(least) = self.oom_score {
            let path = format!("/proc/{process}/oom_score_adj");
            // What cannot be set is told by a warning at the start; here it counts only what the process has beyond this one.
            let own = number(&read("/proc/self/oom_score_adj")?).unwrap_or(least);
            if number(&read(&path)?).is_none_or(|now| now < least.min(own)) {
                return Err(format!("process {process} is spared by the killer of processes"));
            }
        }
        let tasks = entries(&format!("/proc/{process}/task"))?;
        if tasks.len() > MAX_THREADS {
            return Err(format!("process {process} has more than {MAX_THREADS} threads"));
        }
        for task in tasks {
            self.status_holds(process, &read(&format!("/proc/{process}/task/{task}/status"))?)?;
        }
        files_hold(process, mounts)
    }

    fn status_holds(&self, process: &str, status: &str) -> Result<(), String> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).ok_or_else(|| format!("the status of process {process} has no {name}"))
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let has = u64::from_str_radix(field(set)?, 16).map_err(|_| format!("{set} is no number"))?;
            if has & !self.capabilities != 0 {
                let more = has & !self.capabilities;
                return Err(format!("process {process} has capabilities that were not granted ({set} {more:#x})"));
            }
        }
        if self.no_new_privileges && field("NoNewPrivs")? != "1" {
            return Err(format!("process {process} may gain privileges"));
        }
        if self.has_filter && field("Seccomp")? != "2" {
            return Err(format!("process {process} has no system call filter"));
        }
        self.ids_hold(process, field("Uid")?, field("Gid")?, field("Groups")?)
    }

    /// Whoever was not to run as root does not, and is in no other group.
    fn ids_hold(&self, process: &str, uids: &str, gids: &str, groups: &str) -> Result<(), String> {
        if self.user.uid == 0 {
            return Ok(());
        }
        let mut uids = uids.split_whitespace();
        let mut gids = gids.split_whitespace().chain(groups.split_whitespace());
        let is_user = |uid: &str| uid.parse() == Ok(self.user.uid);
        let is_group = |gid: &str| gid.parse().is_ok_and(|gid| gid == self.user.gid || self.user.groups.contains(&gid));
        match uids.all(is_user) && gids.all(is_group) {
            true => Ok(()),
            false => Err(format!("process {process} runs as somebody else than user {}", self.user.uid)),
        }
    }
}

/// Files that are open by a path are of the container's own mounts.
fn files_hold(process: &str, mounts: &BTreeSet<String>) -> Result<(), String> {
    for fd in entries(&format!("/proc/{process}/fd"))? {
        let Ok(target) = fs::read_link(format!("/proc/{process}/fd/{fd}")) else { continue };
        let unnamed = ["/memfd:", "/SYSV", "/dev/zero (deleted)"];
        if !target.is_absolute() || unnamed.iter().any(|name| target.to_string_lossy().starts_with(name)) {
            continue;
        }
        let info = read(&format!("/proc/{process}/fdinfo/{fd}"))?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
        if !mounts.contains(mount) {
            return Err(format!("process {process} has {} of another place open", target.display()));
        }
    }
    Ok(())
}

fn processes() -> Result<Vec<String>, String> {
    Ok(entries("/proc")?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
}

fn entries(path: &str) -> Result<Vec<String>, String> {
    let listed = fs::read_dir(path).map_err(|error| format!("list {path}: {error}"))?;
    Ok(listed.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned())).collect())
}

fn namespace(process: &str, kind: &str) -> Result<String, String> {
    let path = format!("/proc/{process}/ns/{kind}");
    let target = fs::read_link(Path::new(&path)).map_err(|error| format!("look at {path}: {error}"))?;
    Ok(target.to_string_lossy().into_owned())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))
}

fn number(text: &str) -> Option<i32> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(at: &str, device: &str, root: &str, options: &[&str], kind: &str) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { id: "1".into(), device: device.into(), root: root.into(), at: at.into(), options, kind: kind.into() }
    }

    fn expected(mounts: Vec<Mount>) -> Expected {
        Expected {
            user: User { uid: 1000, gid: 1000, groups: vec![1000, 7] },
            capabilities: 0x420,
            no_new_privileges: true,
            has_filter: true,
            oom_score: None,
            label: None,
            profile: None,
            namespaces: Vec::new(),
            mounts,
        }
    }

    fn status(change: (&str, &str)) -> String {
        let lines = [
            ("Uid", "1000\t1000\t1000\t1000"),
            ("Gid", "1000\t1000\t1000\t1000"),
            ("Groups", "7 1000 "),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000020"),
            ("CapEff", "0000000000000020"),
            ("CapBnd", "0000000000000420"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ];
        lines.map(|(name, value)| format!("{name}:\t{}\n", if name == change.0 { change.1 } else { value })).concat()
    }

    #[test]
    fn a_process_has_no_more_than_was_granted() {
        let expected = expected(Vec::new());
        expected.status_holds("1", &status(("", ""))).unwrap();
        let more = [
            ("Uid", "1000\t0\t1000\t1000"),
            ("Gid", "0\t0\t0\t0"),
            ("Groups", "0 1000"),
            ("CapInh", "0000000000200000"),
            ("CapBnd", "000001ffffffffff"),
            ("CapAmb", "0000000000000001"),
            ("NoNewPrivs", "0"),
            ("Seccomp", "0"),
        ];
        for change in more {
            assert!(expected.status_holds("1", &status(change)).is_err(), "{change:?}");
        }
    }

    #[test]
    fn mounts_are_those_that_were_made() {
        let own = mounts_of("self").unwrap();
        // Without a mount of its root nothing holds.
        assert!(expected(own.clone()).mounts_hold(&own).is_err());
        let whole = expected(vec![
            mount("/proc", "0:9", "/", &["rw"], "proc"),
            mount("/proc/sys", "0:9", "/sys", &["ro"], "proc"),
        ]);
        assert!(whole.sources().next().is_none(), "a procfs comes from the restore itself");
        let volume = expected(vec![mount("/data", "8:1", "/x", &["ro"], "ext4")]);
        assert_eq!(volume.sources().collect::<Vec<_>>(), [("/data", format!("{WHOLE}/data"))]);
    }
}
