//! What the name of an entry means: a file, the root, or one of the whiteout markers.

use super::{Failure, Step};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Names with this prefix are notes of aufs, not of the image.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// What an entry is about. Paths are relative to the layer, without `.` and doubled slashes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The layer's own directory.
    Root,
    /// Something named `name` in `directory`.
    Entry { directory: Vec<u8>, name: Vec<u8> },
    /// Lower layers' `name` in `directory` is hidden.
    Whiteout { directory: Vec<u8>, name: Vec<u8> },
    /// All that lower layers have in `directory` is hidden.
    Opaque { directory: Vec<u8> },
    /// A note of aufs.
    Ignored,
}

pub(super) fn meaning(path: &[u8]) -> Step<Meaning> {
    let Some((directory, name)) = split(path)? else {
        return if path.is_empty() { corrupt("an entry has no name") } else { Ok(Meaning::Root) };
    };
    if name == OPAQUE_MARKER {
        return Ok(Meaning::Opaque { directory });
    }
    if name.starts_with(AUFS_PREFIX) || directory.split(|byte| *byte == b'/').any(|part| part.starts_with(AUFS_PREFIX))
    {
        return Ok(Meaning::Ignored);
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        Some(b"" | b"." | b"..") => corrupt("a whiteout names nothing"),
        Some(hidden) => Ok(Meaning::Whiteout { directory, name: hidden.to_vec() }),
        None => Ok(Meaning::Entry { directory, name }),
    }
}

/// Splits into directory and last component; `None` for the root itself. A leading slash is the layer's root.
pub(super) fn split(path: &[u8]) -> Step<Option<(Vec<u8>, Vec<u8>)>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return corrupt("the name leads out of the layer with '..'"),
            part => parts.push(part),
        }
    }
    Ok(parts.pop().map(|name| (parts.join(&b'/'), name.to_vec())))
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn corrupt<T>(cause: &str) -> Step<T> {
    Err(Failure::Corrupt(cause.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(directory: &str, name: &str) -> Meaning {
        Meaning::Entry { directory: directory.into(), name: name.into() }
    }

    #[test]
    fn names_are_sorted_by_meaning() {
        for (path, expected) in [
            ("./", Meaning::Root),
            ("/", Meaning::Root),
            ("a", entry("", "a")),
            ("./a//b/./c/", entry("a/b", "c")),
            ("/etc/passwd", entry("etc", "passwd")),
            ("a/.wh.b", Meaning::Whiteout { directory: b"a".to_vec(), name: b"b".to_vec() }),
            ("a/.wh..wh..opq", Meaning::Opaque { directory: b"a".to_vec() }),
            (".wh..wh..opq", Meaning::Opaque { directory: Vec::new() }),
            (".wh..wh.plnk/1.2", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
        ] {
            assert_eq!(meaning(path.as_bytes()).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn ways_out_are_refused() {
        for path in ["..", "../a", "a/../../b", "/../a", "a/..", "", "a/.wh.", "a/.wh..", "a/.wh..."] {
            assert!(meaning(path.as_bytes()).is_err(), "{path:?} was taken");
        }
    }
}
