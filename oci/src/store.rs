//! What is kept of containers between two calls: a directory below --root for each, made by `create` and removed by `delete`.
//!
//! ```text
//! <root>/<id>/record.json   see `Record`; without a pid while the container is being made
//!             config.json   the specification as it was at creation
//!             gate          socket at which the first process waits; gone when `start` came
//! ```

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime::Spec;
use podwright_runtime::MappedRoot;
use serde::{Deserialize, Serialize};

const RECORD: &str = "record.json";
const CONFIG: &str = "config.json";
/// Longest id.
const MAX_ID_BYTES: usize = 255;

/// All containers below a --root.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// The place of one container.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its id.
    pub(crate) id: String,
    directory: PathBuf,
}

/// What is known of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Version of the specification that its config.json names.
    pub(crate) oci_version: String,
    /// Absolute path.
    pub(crate) bundle: PathBuf,
    /// Absolute path.
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// As in config.json.
    #[serde(default)]
    pub(crate) annotations: HashMap<String, String>,
    /// As `/a/b`.
    pub(crate) cgroup: String,
    /// Whether the end of its first process is the end of all.
    pub(crate) own_processes: bool,
    /// Root of its user namespace.
    pub(crate) user: Option<Ids>,
    /// Its first process; none yet while it is being made.
    pub(crate) process: Option<Identity>,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl From<MappedRoot> for Ids {
    fn from(root: MappedRoot) -> Self {
        Self { uid: root.uid, gid: root.gid }
    }
}

impl From<Ids> for MappedRoot {
    fn from(ids: Ids) -> Self {
        Self { uid: ids.uid, gid: ids.gid }
    }
}

/// A process that no later one can be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In ticks since the boot.
    pub(crate) start_ticks: u64,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a container is, or would be.
    pub(crate) fn place(&self, id: &str) -> Result<Place> {
        check(id)?;
        Ok(Place { id: id.to_owned(), directory: self.root.join(id) })
    }

    /// A new container's. The directory is what makes an id unique.
    pub(crate) fn reserve(&self, id: &str) -> Result<Place> {
        let place = self.place(id)?;
        let make = || fs::DirBuilder::new().mode(0o700).create(&place.directory);
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.root).and_then(|()| make())
            }
            made => made,
        };
        match made {
            Ok(()) => Ok(place),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "container with given ID already exists: {id:?} below {}; delete it or choose another id",
                    self.root.display()
                )
            }
            Err(error) => Err(error).with_context(|| format!("making {}", place.directory.display())),
        }
    }

    /// A container that is there.
    pub(crate) fn find(&self, id: &str) -> Result<(Place, Record)> {
        let place = self.place(id)?;
        let record = place.record()?;
        match record {
            Some(record) => Ok((place, record)),
            None => bail!("container {id:?} does not exist below {}", self.root.display()),
        }
    }

    /// Ids of all, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("listing {}", self.root.display()))?,
        };
        let mut ids: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// An id is a file name.
fn check(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > MAX_ID_BYTES || matches!(id, "." | "..") || !id.chars().all(plain) {
        bail!(
            "invalid container ID {id:?}: it takes 1 to {MAX_ID_BYTES} of the characters A-Z, a-z, 0-9, _, +, - and ."
        );
    }
    Ok(())
}

impl Place {
    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is known; `None` if there is no such container, or nothing of it but a directory.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let path = self.directory.join(RECORD);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(|| format!("reading {}", path.display()))?,
        };
        serde_json::from_slice(&bytes).map(Some).with_context(|| format!("reading {}", path.display()))
    }

    /// Keeps the record; whoever reads meanwhile sees the old one or the new one.
    pub(crate) fn keep(&self, record: &Record) -> Result<()> {
        let (path, new) = (self.directory.join(RECORD), self.directory.join("record.new"));
        fs::write(&new, serde_json::to_vec(record)?).with_context(|| format!("writing {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// Keeps the text of the specification.
    pub(crate) fn keep_config(&self, text: &[u8]) -> Result<()> {
        let path = self.directory.join(CONFIG);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The specification at creation.
    pub(crate) fn config(&self) -> Result<Spec> {
        let path = self.directory.join(CONFIG);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    }

    /// Forgets the container. Absent is success.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_file_name() {
        for bad in ["", ".", "..", "a/b", "../a", "a b", "a\n", "ä", &"a".repeat(256)] {
            assert!(check(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["a", "a_b-c.d+1", &"f".repeat(64)] {
            check(good).unwrap();
        }
    }

    #[test]
    fn an_id_is_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("deep/root"));
        let place = store.reserve("a").unwrap();
        assert!(store.reserve("a").unwrap_err().to_string().contains("already exists"));
        assert!(store.find("a").unwrap_err().to_string().contains("does not exist"));
        place.remove().unwrap();
        place.remove().unwrap();
        store.reserve("a").unwrap();
        assert_eq!(store.ids().unwrap(), ["a"]);
    }
}
