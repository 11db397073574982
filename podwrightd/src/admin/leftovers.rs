//! What is on the host and belongs to no record: a look at the places where pods leave something. Changes nothing; `repair` removes.
//!
//! Things are listed first, then the ids that are known are read, then it is seen whether what nobody knows is still there. So neither
//! a pod that is just being made nor one that is just being removed is taken for a leftover.

mod neighbours;
pub(crate) mod network;
mod repair;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use podwright_admin_api::v1::{CheckResponse, Leftover};
use podwright_cgroups::Hierarchy;
use podwright_podsandbox::Engine;

use crate::config::Config;
use crate::ports::mark;
use neighbours::{Beneath, Neighbours, Whose, is_of};

/// Leftovers that are told; who has more has seen enough.
const MOST_LEFTOVERS: usize = 1000;
/// Length of the ids that the engine gives out.
const ID_BYTES: usize = 64;
/// What names made from ids have around them.
const PREFIXES: [&str; 3] = ["podwright-shim-", "podwright-pause-", "podwright-"];
const SUFFIXES: [&str; 4] = [".sock", ".log", ".slice", ".scope"];
/// The cgroup of pods that bring none.
const CGROUP: &str = "/podwright";
/// Most of a command line that is read; a shim's is short. By prctl(2) any process can show all of its memory there.
const MAX_COMMAND_LINE_BYTES: u64 = 64 << 10;
/// Names of our programs, as `/proc` has them.
const SHIM: &str = "podwright-shim";
const DAEMON: &str = "podwrightd";

/// Where to look.
pub(super) struct Places {
    root: PathBuf,
    state: PathBuf,
    netns: PathBuf,
    /// What tells this daemon's from others' in places that daemons share.
    mark: String,
}

/// A thing with an id in its name.
struct Found {
    kind: &'static str,
    name: String,
    id: String,
    /// What is gone when it is gone.
    path: PathBuf,
    advice: &'static str,
    /// Beyond doubt this daemon's, whoever else runs.
    is_ours: bool,
}

#[derive(Default)]
struct Look {
    found: Vec<Found>,
    /// What may be another daemon's, and why.
    unsure: Vec<(Found, String)>,
    not_checked: Vec<String>,
}

impl Places {
    pub(super) fn new(config: &Config, mark: String) -> Self {
        Self { root: config.root.clone(), state: config.state.clone(), netns: config.pods.netns_dir.clone(), mark }
    }

    /// Looks, and removes what it finds if that is asked for.
    pub(super) fn look(&self, engine: &Engine, repair: bool) -> CheckResponse {
        let mut look = Look::default();
        self.directories(&mut look);
        look.mounts(&[&self.root, &self.state]);
        look.shims(&self.state);
        let neighbours = Neighbours::look(&self.state);
        look.pins(&self.netns, &self.mark, neighbours.in_our_namespace.as_deref());
        look.cgroups(&self.mark, neighbours.anywhere.as_deref());
        let ids = known(engine);
        let found = look.unknown(&ids);
        look.tell_unsure(&ids);
        let mut leftovers: Vec<Leftover> = match repair {
            true => repair::all(found, &self.state, &known(engine)),
            false => found.into_iter().map(Found::told).collect(),
        };
        leftovers.extend(self.quarantine());
        look.not_checked.extend(cut(&mut leftovers, MOST_LEFTOVERS));
        CheckResponse { leftovers, not_checked: look.not_checked }
    }

    fn directories(&self, look: &mut Look) {
        let by_itself = "restart podwrightd, which puts in order what it finds here";
        look.directory("directory", &self.root.join("sandboxes"), by_itself);
        look.directory("directory", &self.root.join("containers"), by_itself);
        look.directory("socket", &self.state.join("shims"), "delete it, if no podwright-shim has this id");
        look.directory(
            "directory",
            &self.state.join("handlers"),
            "delete it, if no container of a runtime keeps its state there",
        );
        look.directory("directory", &self.state.join("shm"), "umount what is mounted there and delete it");
    }

    /// Records that were unreadable. The daemon never looks at them again.
    fn quarantine(&self) -> Vec<Leftover> {
        let entries = fs::read_dir(self.root.join("quarantine")).into_iter().flatten().flatten();
        let advice = "an unreadable record that was put aside; report it, then delete it";
        let told = |path: PathBuf| Leftover {
            kind: "quarantine".into(),
            name: path.display().to_string(),
            advice: advice.into(),
            removed: false,
            failure: String::new(),
        };
        entries.map(|entry| told(entry.path())).collect()
    }
}

impl Look {
    fn skip(&mut self, what: &str, why: &str) {
        self.not_checked.push(format!("{what}: {why}"));
    }

    fn directory(&mut self, kind: &'static str, path: &Path, advice: &'static str) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.skip(&path.display().to_string(), &error.to_string()),
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(id_in);
            if let Some(id) = id {
                self.found.push(Found { kind, name: path.display().to_string(), id, path, advice, is_ours: true });
            }
        }
    }

    /// Mounts below our directories, by any id in their path.
    fn mounts(&mut self, below: &[&Path]) {
        let table = match fs::read_to_string("/proc/self/mountinfo") {
            Ok(table) => table,
            Err(error) => return self.skip("mounts", &error.to_string()),
        };
        for point in table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
            let ours = below.iter().any(|dir| point.starts_with(dir));
            let id = point.iter().filter_map(|part| part.to_str()).find_map(id_in);
            if let (true, Some(id)) = (ours, id) {
                let (name, path) = (point.display().to_string(), point.to_owned());
                self.found.push(Found { kind: "mount", name, id, path, advice: "umount it", is_ours: true });
            }
        }
    }

    fn shims(&mut self, state: &Path) {
        for process in processes(SHIM).unwrap_or_default() {
            let line = command_line(&process).unwrap_or_default();
            let id = line.split(|byte| *byte == 0).find_map(|word| id_in(std::str::from_utf8(word).ok()?));
            if let (Some(id), true) = (id, is_of(&process, state)) {
                let name = format!("{} {SHIM}", process.file_name().unwrap_or_default().to_string_lossy());
                let advice = "`podwright check --repair` kills its containers and then it; they outlive it otherwise";
                self.found.push(Found { kind: "process", name, id, path: process, advice, is_ours: true });
            }
        }
    }

    fn pins(&mut self, directory: &Path, own: &str, neighbour: Option<&str>) {
        let beneath = Beneath::open(directory);
        let advice = "umount it and delete the file, if no other runtime uses it";
        let whose = |name: &Path| Whose::of(beneath.mark(name).as_deref(), own);
        self.shared("netns", directory, advice, neighbour, whose);
    }

    /// Only those of pods that bring no cgroup: the others are kubelet's to remove.
    fn cgroups(&mut self, own: &str, neighbour: Option<&str>) {
        let directories: Vec<PathBuf> = match Hierarchy::detect() {
            Ok(Hierarchy::V1(mounts)) => mounts.iter().map(|mount| mount.mount_point.clone()).collect(),
            Ok(Hierarchy::V2(root)) => vec![root.to_path_buf()],
            Err(error) => return self.skip("cgroups", &error.to_string()),
        };
        let directories: Vec<PathBuf> =
            directories.iter().map(|directory| directory.join(CGROUP.trim_start_matches('/'))).collect();
        let whose = |name: &Path| Whose::of(mark::read(&directories, name).as_deref(), own);
        for directory in &directories {
            self.shared("cgroup", directory, "kill what is in its cgroup.procs, then rmdir it", neighbour, whose);
        }
    }

    /// A directory that daemons share: what is ours, and, without neighbours, what nobody marked.
    fn shared(
        &mut self,
        kind: &'static str,
        directory: &Path,
        advice: &'static str,
        neighbour: Option<&str>,
        whose: impl Fn(&Path) -> Whose,
    ) {
        let before = self.found.len();
        self.directory(kind, directory, advice);
        let listed = self.found.split_off(before);
        for found in listed {
            let whose = found.path.file_name().map_or(Whose::Unmarked, |name| whose(Path::new(name)));
            match (whose, neighbour) {
                (Whose::Ours, _) => self.found.push(found),
                (Whose::Unmarked, None) => self.found.push(Found { is_ours: false, ..found }),
                (Whose::Unmarked, Some(why)) => self.unsure.push((found, why.to_owned())),
                (Whose::Others, _) => {}
            }
        }
    }

    /// One line for all of a kind: another daemon may have hundreds.
    fn tell_unsure(&mut self, known: &HashSet<String>) {
        let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (found, why) in std::mem::take(&mut self.unsure) {
            if !known.contains(&found.id) {
                *counts.entry((found.kind, why)).or_default() += 1;
            }
        }
        for ((kind, why), count) in counts {
            self.skip(&format!("{kind}, {count} of an id that is not known here"), &why);
        }
    }

    fn unknown(&mut self, known: &HashSet<String>) -> Vec<Found> {
        let unknown = std::mem::take(&mut self.found).into_iter().filter(|found| !known.contains(&found.id));
        unknown.filter(|found| found.path.symlink_metadata().is_ok()).collect()
    }
}

impl Found {
    /// In the API's words; nothing was done about it.
    fn told(self) -> Leftover {
        let (kind, advice) = (self.kind.into(), self.advice.into());
        Leftover { kind, name: self.name, advice, removed: false, failure: String::new() }
    }
}

/// Leaves so many, first of all those that are still there, and says what became of the others.
fn cut(leftovers: &mut Vec<Leftover>, most: usize) -> Option<String> {
    if leftovers.len() <= most {
        return None;
    }
    leftovers.sort_by_key(|left| left.removed);
    let beyond = leftovers.split_off(most);
    let removed = beyond.iter().filter(|left| left.removed).count();
    let left = beyond.len() - removed;
    Some(format!("more than {most} leftovers: {removed} more were removed, {left} more are there"))
}

fn known(engine: &Engine) -> HashSet<String> {
    let sandboxes = engine.sandbox_ids().into_iter().map(|id| id.to_string());
    sandboxes.chain(engine.container_ids().into_iter().map(|id| id.to_string())).collect()
}

/// The id in a name that we make; `None` for names of others.
fn id_in(name: &str) -> Option<String> {
    let name = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let name = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    let is_id = name.len() == ID_BYTES && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then(|| name.to_owned())
}

/// The words of a process in /proc, each with a NUL byte behind it.
fn command_line(process: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    File::open(process.join("cmdline"))?.take(MAX_COMMAND_LINE_BYTES).read_to_end(&mut line)?;
    Ok(line)
}

/// Directories in /proc of the processes of this name.
fn processes(name: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten().map(|entry| entry.path()) {
        // Not `self`, which would be another podwrightd.
        let is_number =
            process.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok());
        if is_number && fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            found.push(process);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_the_names_that_we_make() {
        let id = "0af1".repeat(16);
        for name in [id.clone(), format!("{id}.sock"), format!("podwright-{id}"), format!("podwright-shim-{id}.scope")]
        {
            assert_eq!(id_in(&name), Some(id.clone()), "{name}");
        }
        for other in ["cni-1234", "lost+found", &id[1..], &format!("x-{id}"), &id.to_uppercase()] {
            assert_eq!(id_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let left = |removed| Leftover { removed, ..Leftover::default() };
        let mut some = vec![left(true), left(false)];
        assert_eq!(cut(&mut some, 2), None);
        some.extend([left(true), left(false), left(true)]);
        let text = cut(&mut some, 2).unwrap();
        assert!(text.contains("3 more were removed, 0 more are there"), "{text}");
        assert!(some.len() == 2 && some.iter().all(|left| !left.removed));
    }

    #[test]
    fn a_command_line_without_end_is_read_in_part() {
        let process = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", process.path().join("cmdline")).unwrap();
        assert_eq!(command_line(process.path()).unwrap().len() as u64, MAX_COMMAND_LINE_BYTES);
    }

    #[test]
    fn what_is_known_or_gone_is_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let (known, unknown, gone) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
        for id in [&known, &unknown, &gone] {
            fs::create_dir(dir.path().join(id)).unwrap();
        }
        let mut look = Look::default();
        look.directory("directory", dir.path(), "x");
        look.directory("directory", &dir.path().join("absent"), "x");
        fs::remove_dir(dir.path().join(&gone)).unwrap();
        let left = look.unknown(&HashSet::from([known]));
        let names: Vec<&str> = left.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, [dir.path().join(&unknown).to_str().unwrap()]);
        assert!(look.not_checked.is_empty());
    }
}
