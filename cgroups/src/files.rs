//! Reading and writing the small files of cgroup file systems, and their directories.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::Error;
use crate::error::is_gone;

/// Writes a value in one write(2); the file must exist.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), Error> {
    write_with(OpenOptions::new().write(true).truncate(true), path, value)
}

/// Puts the calling process in, by a file of pids. It is not truncated: that means nothing here, and costs as much as the write.
pub(crate) fn enter(path: &Path) -> Result<(), Error> {
    write_with(OpenOptions::new().write(true), path, "0")
}

fn write_with(options: &OpenOptions, path: &Path, value: &str) -> Result<(), Error> {
    let result = options.open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    result.map_err(|cause| Error::file(format!("write {value:?} to"), path, cause))
}

/// Writes values to one file, each in one write(2); the file must exist.
pub(crate) fn write_lines(path: &Path, values: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(|cause| Error::file("open", path, cause))?;
    for value in values {
        file.write_all(value.as_bytes()).map_err(|cause| Error::file(format!("write {value:?} to"), path, cause))?;
    }
    Ok(())
}

/// Writes a value; an absent file is told by `false`.
pub(crate) fn write_if_there(path: &Path, value: &str) -> Result<bool, Error> {
    match write(path, value) {
        Ok(()) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| Error::file("read", path, cause))
}

/// Reads a file that is not there without its controller.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// How often a directory is made that somebody removes at the same moment: another daemon that ends removes what is empty.
const MAKE_TRIES: usize = 16;

/// Makes a directory and those above it; one that is there is success. `made` gets those that were not.
pub(crate) fn make_directory(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut result = Ok(());
    for _ in 0..MAKE_TRIES {
        result = fs::create_dir(path);
        match (&result, path.parent()) {
            (Ok(()), _) => {
                made.push(path.to_owned());
                return Ok(());
            }
            (Err(cause), _) if cause.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            (Err(cause), Some(parent)) if cause.kind() == ErrorKind::NotFound => make_directory(parent, made)?,
            (Err(cause), _) if cause.kind() == ErrorKind::AlreadyExists => (),
            (Err(_), _) => break,
        }
    }
    result.map_err(|cause| Error::file("make the directory", path, cause))
}

/// The pids in `cgroup.procs`; an absent cgroup has none.
pub(crate) fn pids(directory: &Path) -> Result<Vec<Pid>, Error> {
    match read(&directory.join("cgroup.procs")) {
        // Processes of a foreign pid namespace show as 0.
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw).collect()),
        // Threads of a process that the cgroup above lists.
        Err(error) if error.is_absent() || error.errno() == Some(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The directory and those below, the deepest first; an absent one gives none. Never more than one is open.
pub(crate) fn tree(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = vec![directory.to_owned()];
    let mut at = 0;
    while let Some(next) = found.get(at) {
        let below = subdirectories(next)?;
        match below {
            Some(below) => found.extend(below),
            None => {
                found.remove(at);
                continue;
            }
        }
        at += 1;
    }
    found.reverse();
    Ok(found)
}

fn subdirectories(directory: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(cause) if is_gone(&cause) => return Ok(None),
        Err(cause) => return Err(Error::file("list", directory, cause)),
    };
    let mut below = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| Error::file("list", directory, cause))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below.push(entry.path());
        }
    }
    Ok(Some(below))
}

/// Removes a cgroup directory and those below; an absent one is success.
pub(crate) fn remove_tree(top: &Path) -> Result<(), Error> {
    // Nearly always there is nothing below.
    if remove_directory(top).is_ok() {
        return Ok(());
    }
    tree(top)?.iter().try_for_each(|directory| remove_directory(directory))
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(cause) if !is_gone(&cause) => Err(Error::file("remove", path, cause)),
        _ => Ok(()),
    }
}

/// The number after `key` in a file of lines `key number`.
pub(crate) fn keyed_number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
