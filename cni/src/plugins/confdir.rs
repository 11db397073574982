//! The directories of conflists: the first valid file in order of names is the network. Changes are seen on use, by a look at names and times.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::conflist::Conflist;
use crate::files;

/// What tells one state of a directory from another.
type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

type Loaded = Result<Arc<Conflist>, String>;

/// The directories, and what was last read.
#[derive(Debug)]
pub(super) struct ConfDirs {
    dirs: Vec<PathBuf>,
    cached: Mutex<Option<(Fingerprint, Loaded)>>,
}

impl ConfDirs {
    /// Nothing is read yet.
    pub(super) fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs, cached: Mutex::new(None) }
    }

    /// The network of now, or why there is none.
    pub(super) fn current(&self) -> Loaded {
        let fingerprint = self.dirs.iter().flat_map(|dir| look(dir, true)).collect();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, loaded)) = cached.as_ref()
            && *seen == fingerprint
        {
            return loaded.clone();
        }
        let loaded = self.load();
        match &loaded {
            Ok(conflist) => {
                tracing::info!(network = %conflist.name, path = %conflist.path.display(), "loaded the CNI network")
            }
            Err(reason) => tracing::warn!(%reason, "no CNI network"),
        }
        *cached = Some((fingerprint, loaded.clone()));
        loaded
    }

    fn load(&self) -> Loaded {
        let mut problems = Vec::new();
        for path in self.dirs.iter().flat_map(|dir| configurations(dir)) {
            match load_file(&path) {
                Ok(conflist) => return Ok(Arc::new(conflist)),
                Err(problem) => problems.push(format!("{}: {problem}", path.display())),
            }
        }
        let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
        if problems.is_empty() {
            return Err(format!("no network configuration in {}; install a network add-on", dirs.join(", ")));
        }
        Err(problems.join("; "))
    }
}

fn load_file(path: &Path) -> Result<Conflist, String> {
    let read = |path: &Path| files::read_limited(path).map_err(|error| format!("reading {}: {error}", path.display()));
    let mut conflist = Conflist::parse(path.to_owned(), &read(path)?)?;
    if conflist.takes_more {
        let dir = path.with_file_name(&conflist.name);
        let more =
            sorted(&dir).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "conf"));
        for path in more {
            conflist.add_plugin(&read(&path)?).map_err(|problem| format!("{}: {problem}", path.display()))?;
        }
    }
    if conflist.plugins.is_empty() {
        return Err("it has no plugins".to_owned());
    }
    Ok(conflist)
}

fn configurations(dir: &Path) -> Vec<PathBuf> {
    let is_configuration = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["conflist", "conf", "json"].iter().any(|known| extension == *known))
    };
    sorted(dir).into_iter().filter(is_configuration).collect()
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Files of the directory and, one level down, of those in it.
fn look(dir: &Path, deeper: bool) -> Fingerprint {
    let mut seen = Vec::new();
    for path in sorted(dir) {
        let metadata: io::Result<fs::Metadata> = fs::metadata(&path);
        let is_dir = metadata.as_ref().is_ok_and(fs::Metadata::is_dir);
        let modified = metadata.as_ref().ok().and_then(|metadata| metadata.modified().ok());
        seen.push((path.clone(), modified, metadata.map_or(0, |metadata| metadata.len())));
        if is_dir && deeper {
            seen.extend(look(&path, false));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_valid_file_wins_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let dirs = ConfDirs::new(vec![dir.path().join("missing"), dir.path().to_owned()]);
        assert!(dirs.current().unwrap_err().contains("no network configuration"));
        write("10-broken.conflist", "{");
        assert!(dirs.current().unwrap_err().contains("10-broken.conflist"));
        write("20-two.conf", r#"{"cniVersion":"1.0.0","name":"two","type":"x"}"#);
        assert_eq!(dirs.current().unwrap().name, "two");
        write("15-one.conflist", r#"{"cniVersion":"1.0.0","name":"one","plugins":[{"type":"x"}]}"#);
        assert_eq!(dirs.current().unwrap().name, "one");
        fs::create_dir(dir.path().join("one")).unwrap();
        write("one/5.conf", r#"{"type":"more"}"#);
        assert_eq!(dirs.current().unwrap().loaded().plugins, ["x", "more"]);
        write(
            "15-one.conflist",
            r#"{"cniVersion":"1.0.0","name":"one","loadOnlyInlinedPlugins":true,"plugins":[{"type":"xyz"}]}"#,
        );
        assert_eq!(dirs.current().unwrap().loaded().plugins, ["xyz"]);
        fs::remove_file(dir.path().join("15-one.conflist")).unwrap();
        assert_eq!(dirs.current().unwrap().name, "two");
    }
}
