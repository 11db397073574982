//! Blocks and an inode that are kept back for the image index, so that images can be removed from a disk that is full: their removal
//! has to be on the list first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Kept at least, in bytes; an index is some 600 bytes per image.
const MIN_BYTES: usize = 64 << 10;
/// Kept for an index, as a multiple of its length.
const GROWTH: usize = 2;

/// Beside the OCI layout, which is not only ours to read.
fn path(images: &Path) -> PathBuf {
    images.with_file_name("index.reserve")
}

/// Makes the reserve where it is missing or too small for an index of this length. Where there is no room for it, it is made by a
/// later call.
pub(crate) fn keep(images: &Path, index_bytes: usize) {
    let (path, wanted) = (path(images), MIN_BYTES.max(index_bytes.saturating_mul(GROWTH)));
    let is = fs::metadata(&path).map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(usize::MAX));
    if is >= wanted {
        return;
    }
    let fresh = path.with_extension("new");
    // Spaces, and not a hole: the blocks have to be there.
    let write = || File::create(&fresh)?.write_all(&vec![b' '; wanted]).and_then(|()| fs::rename(&fresh, &path));
    if let Err(error) = write() {
        tracing::debug!(path = %path.display(), %error, "no larger reserve for the image index");
        let _ = fs::remove_file(&fresh);
    }
}

/// Exchanges the index and the reserve, which gets the new text in the blocks that it has. What is longer than the text is filled
/// with spaces, which JSON allows. The old index is the next reserve: enough for one with an image less.
pub(crate) fn replace(images: &Path, index: &Path, text: &[u8]) -> io::Result<()> {
    let path = path(images);
    let mut file = OpenOptions::new().write(true).open(&path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let rest = length.checked_sub(text.len()).ok_or(io::ErrorKind::StorageFull)?;
    file.write_all(text)?;
    file.write_all(&vec![b' '; rest])?;
    file.sync_all()?;
    exchange(&path, index)?;
    File::open(images)?.sync_all()
}

fn exchange(path: &Path, index: &Path) -> io::Result<()> {
    match renameat_with(CWD, path, CWD, index, RenameFlags::EXCHANGE) {
        // A file system without it, or no index yet.
        Err(Errno::INVAL | Errno::NOENT) => fs::rename(path, index),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(index: &Path) -> Vec<u8> {
        serde_json::from_slice(&fs::read(index).unwrap()).unwrap()
    }

    #[test]
    fn the_reserve_and_the_index_change_places() {
        let root = tempfile::tempdir().unwrap();
        let images = root.path().join("images");
        fs::create_dir(&images).unwrap();
        let index = images.join("index.json");
        fs::write(&index, b"[1, 2, 3]").unwrap();
        keep(&images, 100_000);
        assert!(replace(&images, &index, &vec![b'1'; 200_001]).is_err(), "longer than the reserve");
        replace(&images, &index, b"[1, 2]").unwrap();
        assert_eq!(read(&index), [1, 2]);
        replace(&images, &index, b"[1]").unwrap();
        assert_eq!(read(&index), [1], "in what was the first index");
        replace(&images, &index, b"[]").unwrap();
        assert_eq!(read(&index), Vec::<u8>::new());
    }
}
