//! What a test host holds: everything that a removed pod could leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::TestHost;

/// A count of everything, to be compared with another one. Lines start with the kind of thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    lines: BTreeMap<String, usize>,
}

impl Census {
    /// Counts mounts, processes, pinned network namespaces, links, addresses, routes, nft rules and cgroups of the host, and the files
    /// under `dirs`.
    ///
    /// # Errors
    /// Something can not be read.
    pub fn take(host: &TestHost, dirs: &[&Path]) -> Result<Self> {
        let mut census = Self { lines: BTreeMap::new() };
        census.mounts(host)?;
        census.processes(host)?;
        census.pins(host)?;
        census.leases(host)?;
        census.printed("link", host, &["ip", "-o", "link"], Some(1))?;
        census.printed("address", host, &["ip", "-o", "address"], Some(3))?;
        census.printed("route", host, &["ip", "-4", "route"], None)?;
        census.printed("route", host, &["ip", "-6", "route"], None)?;
        census.printed("rule", host, &["ip", "rule"], None)?;
        census.printed("nft", host, &["nft", "--stateless", "list", "ruleset"], None)?;
        for group in cgroups(host)? {
            census.add("cgroup", &group);
        }
        for dir in dirs {
            census.files(dir)?;
        }
        Ok(census)
    }

    /// What `later` has more (`+`) and less (`-`).
    #[must_use]
    pub fn diff(&self, later: &Self) -> Vec<String> {
        let mut names: Vec<&String> = self.lines.keys().chain(later.lines.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let count = |census: &Self, name: &str| census.lines.get(name).copied().unwrap_or_default();
        names
            .into_iter()
            .filter_map(|name| match (count(self, name), count(later, name)) {
                (before, after) if before < after => Some(format!("+{} {name}", after - before)),
                (before, after) if before > after => Some(format!("-{} {name}", before - after)),
                _ => None,
            })
            .collect()
    }

    /// A mount that went away is no difference: other programs of this machine unmount what the host's copy of the mount table held.
    ///
    /// # Errors
    /// The two differ; the text lists how.
    pub fn same_as(&self, later: &Self) -> Result<()> {
        let diff = self.changes(later);
        if !diff.is_empty() {
            bail!("the host is not as it was before:\n{}", diff.join("\n"));
        }
        Ok(())
    }

    /// What counts of [`Self::diff`].
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let mut diff = self.diff(later);
        diff.retain(|line| !(line.starts_with('-') && line.contains(" mount ")));
        diff
    }

    fn add(&mut self, kind: &str, what: &str) {
        *self.lines.entry(format!("{kind} {what}")).or_default() += 1;
    }

    fn mounts(&mut self, host: &TestHost) -> Result<()> {
        for line in read(&format!("/proc/{}/mountinfo", host.pid()))?.lines() {
            let point = line.split(' ').nth(4).unwrap_or(line);
            let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
            self.add("mount", &format!("{kind} {point}"));
        }
        Ok(())
    }

    /// Counts by name: a daemon that was restarted has another pid.
    fn processes(&mut self, host: &TestHost) -> Result<()> {
        let namespace =
            fs::read_link(format!("/proc/{}/ns/mnt", host.pid())).context("reading the host's namespace")?;
        for pid in pids()? {
            if pid != host.pid() && belongs(pid, host, &namespace) {
                self.add("process", &name_of(pid));
            }
        }
        Ok(())
    }

    fn pins(&mut self, host: &TestHost) -> Result<()> {
        let dir = PathBuf::from(format!("/proc/{}/root/run/netns", host.pid()));
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            self.add("netns", &entry?.file_name().to_string_lossy());
        }
        Ok(())
    }

    /// Addresses that the host-local plugin has given to pods.
    fn leases(&mut self, host: &TestHost) -> Result<()> {
        let dir = PathBuf::from(format!("/proc/{}/root/var/lib/cni/networks", host.pid()));
        for path in walk(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.parse::<std::net::IpAddr>().is_ok() {
                self.add("lease", &name);
            }
        }
        Ok(())
    }

    /// One entry per printed line, or per word of it.
    fn printed(&mut self, kind: &str, host: &TestHost, command: &[&str], word: Option<usize>) -> Result<()> {
        for line in host.run(command)?.lines() {
            let part = word.and_then(|word| line.split_whitespace().nth(word));
            // A bridge without ports is down, which is no difference that a pod left.
            self.add(kind, &part.unwrap_or(line.trim()).replace(" linkdown", ""));
        }
        Ok(())
    }

    fn files(&mut self, dir: &Path) -> Result<()> {
        for path in walk(dir)? {
            self.add("file", &path.display().to_string());
        }
        Ok(())
    }
}

/// Processes in the host's mount namespace or cgroup, or with a mount of the host's directory in a namespace of their own.
fn belongs(pid: u32, host: &TestHost, namespace: &Path) -> bool {
    if fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|own| own == namespace) {
        return !is_child_of(pid, host.pid());
    }
    let name = host.cgroup_name();
    let dir = host.dir().display().to_string();
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(&name))
        || fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|text| text.contains(&dir))
}

/// The janitor's own `cat`.
fn is_child_of(pid: u32, parent: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    fields.split(' ').nth(1) == Some(parent.to_string().as_str())
}

fn pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("listing /proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Directories of the host's cgroup, in each hierarchy.
fn cgroups(host: &TestHost) -> Result<Vec<String>> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = match top.join("cgroup.controllers").exists() {
        true => vec![top.to_owned()],
        false => fs::read_dir(top)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?,
    };
    let mut found = Vec::new();
    for hierarchy in hierarchies {
        let dir = hierarchy.join(host.cgroup_name());
        if dir.is_dir() {
            let inside = walk(&dir)?.into_iter().filter(|path| path.is_dir());
            found.extend(inside.map(|path| path.display().to_string()));
        }
    }
    Ok(found)
}

/// All paths below a directory, links not followed. What vanishes meanwhile is left out.
fn walk(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Busybox executes its programs as `/proc/self/exe` and names the process a moment later.
fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() != "exe" {
        return name.trim().to_owned();
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    program.rsplit('/').next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}
