//! The directories of files, and who describes which device. They are looked at when a device is asked for: a file that changed is read
//! again. A broken file is told in the log and by [`Registry::problems`], and takes no other along.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::Spec;
use podwright_sys::{FileStamp, read_small_file};

use crate::document::{self, Document, Edits, Form};
use crate::{Error, Name, apply};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Most files of one directory that are read.
const MAX_FILES: usize = 1024;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or directory.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

type Parsed = Result<Arc<Document>, String>;
/// Its directory's place among them, its path and what it says.
type Good = (usize, PathBuf, Arc<Document>);

/// Devices of the node.
#[derive(Debug)]
pub struct Registry {
    /// A later one goes before an earlier one.
    directories: Vec<PathBuf>,
    known: Mutex<BTreeMap<PathBuf, (FileStamp, Parsed)>>,
}

/// A device as a file describes it.
struct Found {
    document: Arc<Document>,
    file: PathBuf,
    edits: Edits,
}

impl Registry {
    /// Of these directories, which need not exist. A device in a later one goes before the same in an earlier one.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// What is wrong with files now. Looks at the disk.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.look().1
    }

    /// Names of all devices that can be had now. Looks at the disk.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        let of = |(_, _, document): (usize, PathBuf, Arc<Document>)| {
            let kind = document.kind.clone();
            document.devices.iter().map(|device| format!("{kind}={}", device.name)).collect::<Vec<_>>()
        };
        let mut names: Vec<String> = self.look().0.into_iter().flat_map(of).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Gives devices to a container; each once. Looks at the disk, and at the nodes of the devices.
    ///
    /// # Errors
    /// Names the first device that can not be had, and why.
    pub fn inject(&self, names: &[Name], spec: &mut Spec) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let (files, problems) = self.look();
        let mut given: Vec<&Name> = Vec::new();
        let mut common: Vec<PathBuf> = Vec::new();
        for name in names {
            if given.contains(&name) {
                continue;
            }
            given.push(name);
            let found = self.find(name, &files, &problems)?;
            let failed =
                |reason| Error::Apply { name: name.to_string(), file: found.file.display().to_string(), reason };
            // What all devices of a file have in common comes once.
            if !common.contains(&found.file) {
                apply::apply(&found.document.container_edits, spec).map_err(failed)?;
                common.push(found.file.clone());
            }
            apply::apply(&found.edits, spec).map_err(failed)?;
        }
        Ok(())
    }

    fn find(&self, name: &Name, files: &[Good], problems: &[Problem]) -> Result<Found, Error> {
        let describes = |document: &Document| {
            let device = document.devices.iter().find(|device| device.name == name.device);
            device.filter(|_| document.kind == name.kind).map(|device| device.container_edits.clone())
        };
        let mut best: Option<(usize, Found)> = None;
        for (priority, file, document) in files {
            let Some(edits) = describes(document) else { continue };
            match &best {
                Some((other, found)) if other == priority => {
                    return Err(Error::Conflict {
                        name: name.to_string(),
                        first: found.file.display().to_string(),
                        second: file.display().to_string(),
                    });
                }
                // They come from the last directory to the first.
                Some(_) => break,
                None => best = Some((*priority, Found { document: document.clone(), file: file.clone(), edits })),
            }
        }
        best.map(|(_, found)| found).ok_or_else(|| self.unknown(name, files, problems))
    }

    fn unknown(&self, name: &Name, files: &[Good], problems: &[Problem]) -> Error {
        let kinds = files.iter().any(|(_, _, document)| document.kind == name.kind);
        let hint = match problems.first() {
            Some(problem) => format!(" (one is broken: {}: {})", problem.path.display(), problem.reason),
            None if kinds => format!(", though there are others of {}", name.kind),
            None => "; is the vendor's software installed on this node?".to_owned(),
        };
        let directories = self.directories.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" or ");
        Error::Unknown { name: name.to_string(), directories, hint }
    }

    /// All good files, those of the last directory first, and all problems.
    fn look(&self) -> (Vec<Good>, Vec<Problem>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut good, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (priority, directory) in self.directories.iter().enumerate().rev() {
            let paths = match list(directory) {
                Ok(paths) => paths,
                Err(reason) => {
                    problems.push(Problem { path: directory.clone(), reason });
                    continue;
                }
            };
            for (path, form) in paths {
                let Some((stamp, parsed)) = read(&path, form, known.get(&path)) else { continue };
                match &parsed {
                    Ok(document) => good.push((priority, path.clone(), document.clone())),
                    Err(reason) => {
                        if known.get(&path).is_none_or(|(before, _)| *before != stamp) {
                            tracing::warn!(file = %path.display(), reason, "a file of CDI devices is broken; its devices can not be had");
                        }
                        problems.push(Problem { path: path.clone(), reason: reason.clone() });
                    }
                }
                seen.insert(path, (stamp, parsed));
            }
        }
        *known = seen;
        (good, problems)
    }
}

/// Files by name; a missing directory has none.
fn list(directory: &Path) -> Result<Vec<(PathBuf, Form)>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("it can not be listed: {error}")),
    };
    let mut files: Vec<(PathBuf, Form)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| {
            let form = match path.extension()?.to_str()? {
                "json" => Form::Json,
                "yaml" | "yml" => Form::Yaml,
                _ => return None,
            };
            Some((path, form))
        })
        .collect();
    if files.len() > MAX_FILES {
        return Err(format!("it has {} files; up to {MAX_FILES} are read", files.len()));
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// A file as it is now; `None` if it is gone or is no file.
fn read(path: &Path, form: Form, before: Option<&(FileStamp, Parsed)>) -> Option<(FileStamp, Parsed)> {
    let stamp = FileStamp::of(path)?;
    if let Some((_, parsed)) = before.filter(|(at, _)| *at == stamp) {
        return Some((stamp, parsed.clone()));
    }
    let parsed = read_small_file(path, MAX_FILE_BYTES).and_then(|bytes| document::parse(&bytes, form)).map(Arc::new);
    Some((stamp, parsed))
}

#[cfg(test)]
mod tests;
