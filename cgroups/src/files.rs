//! Reading and writing the small files of cgroup file systems.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::Error;

fn failed(step: String, path: &Path, cause: std::io::Error) -> Error {
    Error::File { step, path: path.to_owned(), cause }
}

/// Writes a value in one write(2); the file must exist.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let result = options.write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    result.map_err(|cause| failed(format!("write {value:?} to"), path, cause))
}

/// Writes a value; an absent file is told by `false`.
pub(crate) fn write_if_there(path: &Path, value: &str) -> Result<bool, Error> {
    match write(path, value) {
        Ok(()) => Ok(true),
        Err(Error::File { cause, .. }) if cause.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| failed("read".to_owned(), path, cause))
}

/// Makes a directory and those above it; one that is there is success.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|cause| failed("make the directory".to_owned(), path, cause))
}

/// The pids in `cgroup.procs`; an absent cgroup has none.
pub(crate) fn pids(directory: &Path) -> Result<Vec<Pid>, Error> {
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw).collect()),
        Err(cause) if is_gone(&cause) => Ok(Vec::new()),
        Err(cause) => Err(failed("read the processes of".to_owned(), directory, cause)),
    }
}

/// The directory and those below, the deepest first; an absent one gives none.
pub(crate) fn tree(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    collect(directory, &mut found)?;
    Ok(found)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(cause) if is_gone(&cause) => return Ok(()),
        Err(cause) => return Err(failed("list".to_owned(), directory, cause)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found)?;
        }
    }
    found.push(directory.to_owned());
    Ok(())
}

/// Removes a cgroup directory; an absent one is success.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(cause) if !is_gone(&cause) => Err(failed("remove".to_owned(), path, cause)),
        _ => Ok(()),
    }
}

fn is_gone(cause: &std::io::Error) -> bool {
    cause.kind() == ErrorKind::NotFound || cause.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// The number after `key` in a file of lines `key number`.
pub(crate) fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
