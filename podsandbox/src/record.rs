//! The files in which the engine keeps what must survive the daemon: their format, their atomic replacement, and reading
//! them without ever trusting them. What they hold is said by the sandbox and the container.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Name of a record in its object's directory.
pub(crate) const FILE: &str = "record.json";
/// Version of the format; another one is put aside, not guessed at.
const VERSION: u32 = 1;
/// Largest record that is read, in bytes: several times what validation lets in.
const MAX_BYTES: u64 = 64 << 20;

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not our envelope: torn, or written by someone else.
    #[error("it is not a whole record (torn by a power cut, or edited)")]
    Torn(#[source] serde_json::Error),
    /// Another version.
    #[error("its format has version {0}, this daemon reads version {VERSION}; start the daemon that wrote it")]
    Version(u32),
    /// The checksum does not fit.
    #[error("its checksum does not fit its body (damaged on disk, or edited)")]
    Checksum,
    /// The envelope is right and the body is not.
    #[error("its body does not hold what a record of this kind holds")]
    Body(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    version: u32,
    sha256: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// Writes a value as a record.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::value::to_raw_value(value)?;
    serde_json::to_vec(&Envelope { version: VERSION, sha256: checksum(&body), body: &body })
}

/// Reads a record's bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(RecordError::Torn)?;
    if envelope.version != VERSION {
        return Err(RecordError::Version(envelope.version));
    }
    if checksum(envelope.body) != envelope.sha256 {
        return Err(RecordError::Checksum);
    }
    serde_json::from_str(envelope.body.get()).map_err(RecordError::Body)
}

fn checksum(body: &RawValue) -> String {
    Sha256::digest(body.get().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a directory that only root may enter, and its parents; present is success.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file at once: readers see the old or the new bytes. `durable` syncs it and its directory. What can not be written
/// leaves nothing.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    write(&temporary, bytes, mode, durable).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    match (durable, path.parent()) {
        (true, Some(parent)) => File::open(parent)?.sync_all(),
        (true, None) | (false, _) => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Reads a whole file that is not absurdly large.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Deletes an object's directory, its record last, so that a half deleted object is still known. Absent is success.
pub(crate) fn delete_dir(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != FILE {
            delete_tree(&entry.path())?;
        }
    }
    delete_tree(&dir.join(FILE))?;
    absent_is_fine(fs::remove_dir(dir))
}

/// Deletes a file or a directory with all below; follows no link. Absent is success.
pub(crate) fn delete_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => absent_is_fine(fs::remove_dir_all(path)),
        Ok(_) => absent_is_fine(fs::remove_file(path)),
        Err(e) => absent_is_fine(Err(e)),
    }
}

/// Turns "not there" into success.
pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = encode(&vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&bytes).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_changed_body_is_noticed() {
        let text = String::from_utf8(encode(&vec!["one"]).unwrap()).unwrap();
        let changed = text.replace("one", "two");
        assert!(matches!(decode::<Vec<String>>(changed.as_bytes()), Err(RecordError::Checksum)));
    }

    #[test]
    fn another_version_is_named() {
        let text = String::from_utf8(encode(&1).unwrap()).unwrap().replace("\"version\":1", "\"version\":9");
        assert!(matches!(decode::<u8>(text.as_bytes()), Err(RecordError::Version(9))));
    }

    #[test]
    fn every_torn_record_is_refused() {
        let bytes = encode(&vec!["some", "words"]).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<Vec<String>>(&bytes[..end]).is_err(), "{end} bytes were taken as whole");
        }
    }

    #[test]
    fn deleting_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("x");
        private_dir(&object.join("rw/upper")).unwrap();
        replace(&object.join(FILE), b"x", 0o600, true).unwrap();
        delete_dir(&object).unwrap();
        assert!(!object.exists());
        delete_dir(&object).unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<serde_json::Value>(&bytes);
        }
    }
}
