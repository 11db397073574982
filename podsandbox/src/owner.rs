//! Telling engines of one host apart, in places that they share: a mark of what cannot be another's, an engine's root directory.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest mark, in bytes.
pub const MARK_BYTES: usize = 64;

/// The mark of the engine with this root directory: its file system and inode, which no other directory of this boot has at the same
/// time, whatever path it is seen under.
///
/// # Errors
/// The directory is not there.
pub fn owner_mark(root: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(root)?;
    Ok(format!("podwright {}:{}", meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_mark_and_no_other_has_it() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mark = owner_mark(one.path()).unwrap();
        assert_eq!(owner_mark(&one.path().join(".")).unwrap(), mark);
        assert_ne!(owner_mark(other.path()).unwrap(), mark);
        assert!(mark.len() <= MARK_BYTES);
        assert!(owner_mark(&one.path().join("absent")).is_err());
    }
}
