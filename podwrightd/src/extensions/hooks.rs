//! Directories of hooks. They are read when a container is made; a file that changed is read again. A broken file is told in the log and
//! takes no other along.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::Spec;
use podwright_podsandbox::model::{ContainerConfig, MountSource};
use podwright_sys::{FileStamp, read_small_file};

use super::hook_file::{HookFile, Subject, merged};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most files of one directory that are read.
const MAX_FILES: usize = 1024;

type Parsed = Option<Arc<HookFile>>;

/// Directories, a later one of which goes before an earlier one where both have a file of the same name.
pub(super) struct HookDirectories {
    directories: Vec<PathBuf>,
    known: Mutex<BTreeMap<PathBuf, (FileStamp, Parsed)>>,
}

impl HookDirectories {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// Whether there is any file to read.
    pub(super) fn any(&self) -> bool {
        self.directories.iter().any(|directory| !list(directory).is_empty())
    }

    /// Adds the hooks that are for this container, in the order of the names of their files.
    pub(super) fn add(&self, pod: &BTreeMap<String, String>, config: &ContainerConfig, spec: &mut Spec) {
        let files = self.look();
        if files.is_empty() {
            return;
        }
        let mut annotations = pod.clone();
        annotations.extend(config.annotations.clone());
        let process = spec.process().clone();
        let command = process.as_ref().and_then(|process| process.args().as_ref()?.first().map(String::as_str));
        let has_bind_mounts = config.mounts.iter().any(|mount| matches!(mount.source, MountSource::Host(_)));
        let subject = Subject { annotations: &annotations, command, has_bind_mounts };
        let mut hooks = spec.hooks().clone().unwrap_or_default();
        let mut told = BTreeMap::new();
        let mut any = false;
        for file in files.iter().filter(|file| file.is_for(&subject)) {
            any = true;
            file.add_to(&mut hooks);
            told.extend(file.fitting(&subject).map(|(key, value)| (key.clone(), value.clone())));
        }
        if any {
            let annotations = merged(spec.annotations(), told);
            spec.set_hooks(Some(hooks)).set_annotations(Some(annotations));
        }
    }

    /// All good files, by name.
    fn look(&self) -> Vec<Arc<HookFile>> {
        let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
        for directory in &self.directories {
            by_name.extend(list(directory));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = BTreeMap::new();
        for path in by_name.into_values() {
            let Some(stamp) = FileStamp::of(&path) else { continue };
            let before = known.get(&path).filter(|(at, _)| *at == stamp);
            let parsed = before.map_or_else(|| read(&path), |(_, parsed)| parsed.clone());
            seen.insert(path, (stamp, parsed));
        }
        // By name, not by path.
        let mut good: Vec<(Option<std::ffi::OsString>, Arc<HookFile>)> = seen
            .iter()
            .filter_map(|(path, (_, parsed))| Some((path.file_name().map(ToOwned::to_owned), parsed.clone()?)))
            .collect();
        good.sort_by(|(one, _), (other, _)| one.cmp(other));
        *known = seen;
        good.into_iter().map(|(_, file)| file).collect()
    }
}

fn list(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "hooks can not be listed");
            return Vec::new();
        }
    };
    let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.path()));
    entries.flatten().filter_map(named).filter(|(name, _)| name.ends_with(".json")).take(MAX_FILES).collect()
}

fn read(path: &Path) -> Parsed {
    match read_small_file(path, MAX_FILE_BYTES).and_then(|bytes| HookFile::parse(&bytes)) {
        Ok(file) => Some(Arc::new(file)),
        Err(reason) => {
            tracing::warn!(file = %path.display(), reason, "a hook's file is broken; the hook is not run");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, hook: &str, when: &str) {
        let text =
            format!(r#"{{"version": "1.0.0", "hook": {{"path": "{hook}"}}, "when": {when}, "stages": ["poststop"]}}"#);
        fs::write(path, text).unwrap();
    }

    fn added(directories: &HookDirectories, annotations: &[(&str, &str)]) -> (Vec<String>, Spec) {
        let mut spec = Spec::default();
        spec.set_annotations(Some([("io.own".to_owned(), "ours".to_owned())].into()));
        let config = ContainerConfig {
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ContainerConfig::default()
        };
        directories.add(&BTreeMap::new(), &config, &mut spec);
        let hooks = spec.hooks().clone().unwrap_or_default().poststop().clone().unwrap_or_default();
        (hooks.iter().map(|hook| hook.path().display().to_string()).collect(), spec)
    }

    #[test]
    fn later_directories_replace_and_names_order() {
        let top = tempfile::tempdir().unwrap();
        let dirs = ["a", "b"].map(|name| top.path().join(name));
        let hooks = HookDirectories::new(dirs.to_vec());
        assert!(added(&hooks, &[]).0.is_empty(), "neither exists");
        assert!(!hooks.any());
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let always = r#"{"always": true}"#;
        write(&dirs[0].join("2.json"), "/two", always);
        write(&dirs[0].join("3.json"), "/three", always);
        write(&dirs[1].join("1.json"), "/one", always);
        write(&dirs[1].join("3.json"), "/other-three", always);
        fs::write(dirs[1].join("broken.json"), "{").unwrap();
        fs::write(dirs[1].join("README"), "{").unwrap();
        assert!(hooks.any());
        assert_eq!(added(&hooks, &[]).0, ["/one", "/two", "/other-three"]);
        write(&dirs[1].join("1.json"), "/changed", always);
        fs::remove_file(dirs[1].join("3.json")).unwrap();
        assert_eq!(added(&hooks, &[]).0, ["/changed", "/two", "/three"]);
    }

    #[test]
    fn only_annotations_that_a_hook_asked_for_are_passed_on() {
        let top = tempfile::tempdir().unwrap();
        let hooks = HookDirectories::new(vec![top.path().to_owned()]);
        write(&top.path().join("1.json"), "/one", r#"{"annotations": {"^io\\.(trace|own)$": ".*"}}"#);
        let (found, spec) = added(&hooks, &[("io.trace", "on"), ("io.own", "theirs"), ("run.oci.handler", "evil")]);
        assert_eq!(found, ["/one"]);
        let annotations = spec.annotations().clone().unwrap();
        assert_eq!(annotations.get("io.trace").map(String::as_str), Some("on"));
        assert_eq!(annotations.get("io.own").map(String::as_str), Some("ours"));
        assert_eq!(annotations.get("run.oci.handler"), None);
        assert!(added(&hooks, &[("other", "x")]).0.is_empty());
    }
}
