//! Where the file system puts the inodes of a new layer. ext4 keeps what lies under a directory near that directory, which is wrong here: layers
//! have nothing to do with each other. In one block group, those that are unpacked side by side wait for one bitmap; and without a journal
//! each new file steps over all inodes that were deleted there in the last minutes, which took four fifths of the processor time of a pull.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

/// Tells the file system that what is made in `directory` belongs nowhere near it, nor together. Only ext2 to ext4 know that; others place
/// directories well by themselves.
pub(super) fn spread(directory: &Path) {
    let mark = || -> std::io::Result<()> {
        let directory = File::open(directory)?;
        let flags = ioctl_getflags(&directory)?;
        if !flags.contains(IFlags::TOPDIR) {
            ioctl_setflags(&directory, flags | IFlags::TOPDIR)?;
        }
        Ok(())
    };
    if let Err(error) = mark() {
        tracing::debug!(directory = %directory.display(), %error, "the file system takes no advice on where to put layers");
    }
}

/// A name that nothing had before: the place follows from a directory's name at its birth, and where a layer was removed a moment ago is
/// the worst place for the same layer.
pub(super) fn unused_name(path: &Path) -> PathBuf {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    path.with_extension(format!("{now}.{serial}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ext4_is_told_and_other_file_systems_do_not_mind() {
        const EXT4: u64 = 0xef53;
        let directory = tempfile::tempdir().unwrap();
        spread(directory.path());
        spread(directory.path());
        let is_ext4 =
            u64::try_from(rustix::fs::statfs(directory.path()).unwrap().f_type).is_ok_and(|kind| kind == EXT4);
        let is_told = ioctl_getflags(File::open(directory.path()).unwrap()).is_ok_and(|f| f.contains(IFlags::TOPDIR));
        assert!(is_told || !is_ext4);
    }

    #[test]
    fn no_name_is_given_twice() {
        let path = Path::new("/ingest/0123.unpack");
        let (one, two) = (unused_name(path), unused_name(path));
        assert_ne!(one, two);
        assert!(one.to_string_lossy().starts_with("/ingest/0123."), "{one:?}");
    }
}
