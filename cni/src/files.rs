//! Small JSON records on disk: replaced atomically, synced where they must survive a power cut.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CniError;

/// Largest record that is read.
const RECORD_LIMIT_BYTES: u64 = 8 << 20;

/// Extension of a record that is being written.
const TEMPORARY: &str = "tmp";

/// Makes the directory, for us alone.
pub(crate) fn make_dir(path: &Path) -> Result<(), CniError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error("making the directory", path))
}

/// Writes a record; `durable` ones survive a power cut.
pub(crate) fn write(path: &Path, record: &impl Serialize, durable: bool) -> Result<(), CniError> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other).map_err(error("encoding the record", path))?;
    let temporary = path.with_extension(TEMPORARY);
    replace(path, &temporary, &bytes, durable).map_err(error("writing the record", path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

fn replace(path: &Path, temporary: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut file = fs::File::create(temporary)?;
    file.write_all(bytes)?;
    // Where there was nothing there is nothing to lose, and a torn record means none: then it is enough that all is on disk at the end,
    // which most file systems do in one go for name and bytes.
    let is_new = durable && !path.try_exists()?;
    if durable && !is_new {
        file.sync_data()?;
    }
    fs::rename(temporary, path)?;
    if is_new {
        file.sync_all()?;
    }
    match path.parent() {
        Some(parent) if durable => fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CniError> {
    match read_limited(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).map_err(error("reading the record", path))
        }
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(error("reading the record", path)(other)),
    }
}

/// Reads a file of at most 8 MiB.
pub(crate) fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(RECORD_LIMIT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes a record; none is success.
pub(crate) fn remove(path: &Path) -> Result<(), CniError> {
    match fs::remove_file(path) {
        Err(failure) if failure.kind() != io::ErrorKind::NotFound => Err(error("removing the record", path)(failure)),
        _ => Ok(()),
    }
}

/// Removes what a daemon left that was killed while it wrote a record.
pub(crate) fn remove_temporaries(dir: &Path) -> Result<(), CniError> {
    for entry in fs::read_dir(dir).map_err(error("listing", dir))? {
        let path = entry.map_err(error("listing", dir))?.path();
        if path.extension().is_some_and(|extension| extension == TEMPORARY) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Reads every record of the directory. Broken ones and left-over temporaries are logged and removed: what they spoke of is
/// found by looking at the host.
pub(crate) fn read_all<T: DeserializeOwned>(dir: &Path) -> Result<Vec<(PathBuf, T)>, CniError> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir).map_err(error("listing", dir))? {
        let path = entry.map_err(error("listing", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            match read(&path) {
                Ok(Some(record)) => records.push((path, record)),
                Ok(None) => {}
                Err(broken) => {
                    tracing::warn!(path = %path.display(), error = %broken, "removing a broken network record");
                    remove(&path)?;
                }
            }
        } else {
            remove(&path)?;
        }
    }
    Ok(records)
}

/// Makes an error of an operation on a file.
pub(crate) fn error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> CniError + use<> {
    let path = path.to_owned();
    move |source| CniError::File { operation, path: path.clone(), source }
}
