//! Small files of an operator: how one was when it was looked at, and its bytes. A FIFO or a device among them holds nobody up.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// How a file was when it was looked at: two that are equal are of the same content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Of a file as it is now, links followed; `None` if it is gone or a directory.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok().filter(|meta| !meta.is_dir())?;
        Some(Self {
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// Reads a regular file of up to `most_bytes`.
///
/// # Errors
/// Says in words why it can not be read, without its path.
pub fn read_small_file(path: &Path, most_bytes: u64) -> Result<Vec<u8>, String> {
    // A FIFO opens at once and is refused.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options().read(true).custom_flags(flags).open(path).map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(most_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > most_bytes {
        return Err(format!("it is larger than {most_bytes} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_their_size_are_read() {
        let top = tempfile::tempdir().unwrap();
        let (file, fifo) = (top.path().join("file"), top.path().join("fifo"));
        fs::write(&file, "12345").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_small_file(&file, 5).unwrap(), b"12345");
        assert_eq!(read_small_file(&file, 4).unwrap_err(), "it is larger than 4 bytes");
        assert_eq!(read_small_file(&fifo, 5).unwrap_err(), "it is no regular file");
        assert!(read_small_file(&top.path().join("none"), 5).is_err());
    }

    #[test]
    fn a_stamp_changes_with_the_file() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        assert_eq!(FileStamp::of(&file), None);
        assert_eq!(FileStamp::of(top.path()), None);
        fs::write(&file, "1").unwrap();
        let before = FileStamp::of(&file).unwrap();
        assert_eq!(FileStamp::of(&file), Some(before));
        fs::write(&file, "12").unwrap();
        assert_ne!(FileStamp::of(&file), Some(before));
    }
}
