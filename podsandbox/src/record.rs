//! The files in which the engine keeps what must survive the daemon: their format, their atomic replacement, and reading
//! them without ever trusting them. What they hold is said by the sandbox and the container.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Name of a record in its object's directory.
pub(crate) const FILE: &str = "record.json";
/// Version of the format. A daemon that meets a later one does not start; see docs/state.md for what a change of it must do.
const VERSION: u32 = 1;
/// Largest record that is read, in bytes: several times what validation lets in.
const MAX_BYTES: u64 = 64 << 20;

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Not our envelope: torn, or written by someone else.
    #[error("it is not a whole record (torn by a power cut, or edited)")]
    Torn(#[source] serde_json::Error),
    /// A version that never was.
    #[error("its format has version {0}, which no daemon wrote")]
    Version(u32),
    /// A later version: whatever it says, this daemon must not act without knowing it.
    #[error(
        "it was written by a later podwrightd (format version {0}, this one reads up to {VERSION}); start that one, whose pods run on \
         meanwhile, or remove its pods with it before you go back"
    )]
    Later(u32),
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
    seal(&serde_json::value::to_raw_value(value)?)
}

/// Writes a value as a record, with what an earlier reading of it did not know.
pub(crate) fn encode_with<T: Serialize>(value: &T, unknown: &Unknown) -> Result<Vec<u8>, serde_json::Error> {
    match unknown.0.as_deref() {
        None => encode(value),
        Some(unknown) => {
            let mut body = serde_json::to_value(value)?;
            merge(&mut body, unknown);
            seal(&serde_json::value::to_raw_value(&body)?)
        }
    }
}

fn seal(body: &RawValue) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Envelope { version: VERSION, sha256: checksum(body), body })
}

/// Reads a record's bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    serde_json::from_str(open(bytes)?.get()).map_err(RecordError::Body)
}

/// Reads a record's bytes, and keeps what they have beyond what this version knows.
pub(crate) fn decode_with<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<(T, Unknown), RecordError> {
    let body = open(bytes)?;
    let value = serde_json::from_str(body.get()).map_err(RecordError::Body)?;
    let unknown = Unknown::of(body.get(), &value).map_err(RecordError::Body)?;
    Ok((value, unknown))
}

fn open(bytes: &[u8]) -> Result<&RawValue, RecordError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(RecordError::Torn)?;
    match envelope.version {
        VERSION => {}
        later if later > VERSION => return Err(RecordError::Later(later)),
        other => return Err(RecordError::Version(other)),
    }
    if checksum(envelope.body) != envelope.sha256 {
        return Err(RecordError::Checksum);
    }
    Ok(envelope.body)
}

/// What a later release of the same format added to a record. It is written again with every change, so that going back to an
/// earlier release and forward again loses nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unknown(Option<Box<Value>>);

/// The part of a record that never changes: it is kept as a whole, lists included.
const CONSTANT: &str = "config";

impl Unknown {
    fn of<T: Serialize>(body: &str, value: &T) -> Result<Self, serde_json::Error> {
        // Nearly always the body is what this version writes.
        if serde_json::to_string(value)? == body {
            return Ok(Self::default());
        }
        let (mut all, known) = (serde_json::from_str::<Value>(body)?, serde_json::to_value(value)?);
        let constant = all.as_object_mut().and_then(|all| all.remove(CONSTANT));
        let constant = constant.filter(|constant| has_more(constant, known.get(CONSTANT).unwrap_or(&Value::Null)));
        let mut rest = surplus(all, &known).unwrap_or_else(|| Value::Object(Map::new()));
        if let (Some(rest), Some(constant)) = (rest.as_object_mut(), constant) {
            rest.insert(CONSTANT.into(), constant);
        }
        Ok(Self(rest.as_object().is_some_and(|rest| !rest.is_empty()).then(|| Box::new(rest))))
    }
}

/// Fields of `all` that are not in `known`, as deep as objects go.
fn surplus(all: Value, known: &Value) -> Option<Value> {
    let (Value::Object(all), Value::Object(known)) = (all, known) else { return None };
    let more = all.into_iter().filter_map(|(name, value)| match known.get(&name) {
        None => Some((name, value)),
        Some(known) => surplus(value, known).map(|value| (name, value)),
    });
    let more: Map<String, Value> = more.collect();
    (!more.is_empty()).then_some(Value::Object(more))
}

/// Whether there is a field anywhere in `all` that is not in `known`.
fn has_more(all: &Value, known: &Value) -> bool {
    match (all, known) {
        (Value::Object(all), Value::Object(known)) => {
            all.iter().any(|(name, value)| known.get(name).is_none_or(|known| has_more(value, known)))
        }
        (Value::Array(all), Value::Array(known)) => all.iter().zip(known).any(|(all, known)| has_more(all, known)),
        _ => false,
    }
}

/// Puts fields into an object; those that it has already only where they are objects too, or constant.
fn merge(body: &mut Value, unknown: &Value) {
    let (Value::Object(body), Value::Object(unknown)) = (body, unknown) else { return };
    for (name, value) in unknown {
        match body.get_mut(name) {
            Some(known) if name != CONSTANT => merge(known, value),
            Some(_) | None => drop(body.insert(name.clone(), value.clone())),
        }
    }
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
        let of = |version: u32| {
            let text = String::from_utf8(encode(&1).unwrap()).unwrap();
            text.replace("\"version\":1", &format!("\"version\":{version}"))
        };
        assert!(matches!(decode::<u8>(of(9).as_bytes()), Err(RecordError::Later(9))));
        assert!(matches!(decode::<u8>(of(0).as_bytes()), Err(RecordError::Version(0))));
    }

    #[derive(Serialize, serde::Deserialize)]
    struct Known {
        config: Vec<Pair>,
        durable: Pair,
    }

    #[derive(Serialize, serde::Deserialize)]
    struct Pair {
        a: u32,
        b: Vec<u32>,
    }

    #[test]
    fn what_a_later_release_added_is_written_again() {
        let later = serde_json::json!({
            "config": [{"a": 1, "b": [2], "new": "c"}],
            "durable": {"a": 3, "b": [], "deep": {"new": 4}},
            "top": [5],
        });
        let (mut known, unknown) = decode_with::<Known>(&encode(&later).unwrap()).unwrap();
        known.durable.a = 7;
        let mut wanted = later;
        wanted["durable"]["a"] = 7.into();
        assert_eq!(decode::<Value>(&encode_with(&known, &unknown).unwrap()).unwrap(), wanted);
    }

    #[test]
    fn what_is_known_is_never_kept_twice() {
        let bytes = encode(&Known { config: Vec::new(), durable: Pair { a: 1, b: vec![1] } }).unwrap();
        let (mut known, unknown) = decode_with::<Known>(&bytes).unwrap();
        assert!(unknown.0.is_none());
        known.durable.b.clear();
        let again: Known = decode(&encode_with(&known, &unknown).unwrap()).unwrap();
        assert!(again.durable.b.is_empty());
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
