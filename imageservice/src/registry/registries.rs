//! `registries.conf`: containers-registries.conf(5), which podman, skopeo and CRI-O read.
//!
//! Owns the file, its drop-ins, and which entry is for an image. What an entry makes of a name is left to `endpoints`. Short names are not
//! resolved here: kubelet's are complete, and others mean docker.io, as ever.

mod endpoints;
mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use podwright_sys::{FileStamp, read_small_file};
use podwright_types::ImageReference;

use super::hosts::Host;
use crate::error::{ErrorKind, ImageError, Result};
use file::{Entry, Mistake};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most drop-ins that are read.
const MAX_FILES: usize = 1024;

/// How every file was when it was read; those that were not there included.
type Stamps = Vec<(PathBuf, Option<FileStamp>)>;

/// The entries, read again when a file has changed.
#[derive(Debug, Default)]
pub(super) struct Registries {
    known: Mutex<Option<(Stamps, Arc<Vec<Entry>>)>>,
}

/// What the file says of an image.
#[derive(Debug)]
pub(super) struct Choice {
    entries: Arc<Vec<Entry>>,
    chosen: usize,
}

impl Registries {
    /// The entry for an image, of `file` and of its drop-ins in `<file>.d`; a file that is not there says nothing.
    pub(super) fn find(&self, file: &Path, reference: &ImageReference) -> Result<Option<Choice>> {
        let entries = self.entries(file)?;
        let chosen = find(&entries, &endpoints::with_host_in_lower_case(&reference.to_string()));
        Ok(chosen.map(|chosen| Choice { entries, chosen }))
    }

    fn entries(&self, file: &Path) -> Result<Arc<Vec<Entry>>> {
        let files = std::iter::once(file.to_owned()).chain(drop_ins(file)?);
        let stamps: Stamps = files.map(|path| (path.clone(), FileStamp::of(&path))).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, entries)) = known.as_ref().filter(|(before, _)| *before == stamps) {
            return Ok(Arc::clone(entries));
        }
        let mut entries = Vec::new();
        for (path, _) in stamps.iter().filter(|(_, stamp)| stamp.is_some()) {
            merge(&mut entries, read(path)?);
        }
        file::check_conflicts(&entries).map_err(|mistake| mistake.in_file(file))?;
        let entries = Arc::new(entries);
        *known = Some((stamps, Arc::clone(&entries)));
        Ok(entries)
    }
}

impl Choice {
    /// The servers to ask for an image, in their order.
    ///
    /// # Errors
    /// The registry is blocked, or a location and the rest of the name make no name.
    pub(super) fn servers(&self, reference: &ImageReference) -> Result<Vec<Host>> {
        match self.entries.get(self.chosen) {
            Some(entry) => endpoints::servers(entry, reference),
            None => Ok(Vec::new()),
        }
    }

    /// Refuses an image of a blocked registry.
    pub(super) fn check_allowed(&self, reference: &ImageReference) -> Result<()> {
        match self.entries.get(self.chosen) {
            Some(entry) if entry.blocked => Err(ImageError::new(
                ErrorKind::Invalid,
                "find registry of",
                reference,
                format!("{} is blocked by {}:{}", entry.prefix, entry.file.display(), entry.line),
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// The entry with the longest prefix that fits, of equal ones the first.
fn find(entries: &[Entry], name: &str) -> Option<usize> {
    let fitting = entries.iter().enumerate().filter(|(_, entry)| endpoints::matched(name, &entry.prefix).is_some());
    fitting.rev().max_by_key(|(_, entry)| entry.prefix.len()).map(|(at, _)| at)
}

/// Puts the entries of a later file in the place of those with the same prefix.
fn merge(entries: &mut Vec<Entry>, later: Vec<Entry>) {
    entries.retain(|entry| !later.iter().any(|new| new.prefix == entry.prefix));
    entries.extend(later);
}

/// `<file>.d/*.conf`, by name.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>> {
    let mut directory = file.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(ImageError::io("list registries files in", &directory, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| ImageError::io("list registries files in", &directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    if files.len() > MAX_FILES {
        let cause = format!("there are {} files; {MAX_FILES} are read at most", files.len());
        return Err(ImageError::new(ErrorKind::LimitExceeded, "list registries files in", directory.display(), cause));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    let refuse = |cause: String| ImageError::new(ErrorKind::Invalid, "read registries file", path.display(), cause);
    let bytes = read_small_file(path, MAX_FILE_BYTES).map_err(refuse)?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is no text in UTF-8".to_owned()))?;
    file::parse(&text, path).map_err(|mistake| mistake.in_file(path))
}

impl Mistake {
    fn in_file(self, path: &Path) -> ImageError {
        let Self { line, cause, .. } = self;
        let path = self.file.as_deref().unwrap_or(path);
        ImageError::new(ErrorKind::Invalid, "read registries file", format!("{}:{line}", path.display()), cause)
    }
}

/// Parses a file, and makes servers of what it says of some images.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(text: &str) {
    let Ok(entries) = file::parse(text, Path::new("registries.conf")) else { return };
    let digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for name in ["busybox", "registry.example:5000/a/b:v1", &format!("sub.registry.example/a/b@{digest}")] {
        let Ok(reference) = name.parse::<ImageReference>() else { continue };
        let name = endpoints::with_host_in_lower_case(&reference.to_string());
        let Some(chosen) = find(&entries, &name) else { continue };
        let choice = Choice { entries: Arc::new(entries.clone()), chosen };
        for server in choice.servers(&reference).into_iter().flatten() {
            assert!(server.base.host_str().is_some_and(|host| !host.is_empty()), "an endpoint without a host");
            assert!(server.repository.as_ref().is_some_and(|path| !path.contains("..")), "a name could lead elsewhere");
        }
    }
}

#[cfg(test)]
mod tests;
