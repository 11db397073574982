//! An empty file without a name, in the directory of a log: where no new file can be made any more, for want of inodes or blocks, it becomes
//! the new log, so that logs rotate on a full disk too. Nobody sees it before, and it ends with its process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use super::log::MODE;

/// At most one.
#[derive(Debug, Default)]
pub(super) struct Spare(Option<File>);

impl Spare {
    /// Makes one if there is none. Some file systems can not; there, a log that finds no room is not rotated.
    pub(super) fn keep(&mut self, log: &Path) {
        if self.0.is_none() {
            let directory = log.parent().unwrap_or(Path::new("/"));
            let flags = OFlags::TMPFILE.bits().cast_signed();
            self.0 = File::options().append(true).mode(MODE).custom_flags(flags).open(directory).ok();
        }
    }

    /// Gives it the name of the log. What has that name already stays.
    pub(super) fn place(&mut self, log: &Path) -> io::Result<File> {
        let spare = self.0.take().ok_or(io::ErrorKind::NotFound)?;
        let unnamed = format!("/proc/self/fd/{}", spare.as_raw_fd());
        linkat(CWD, unnamed, CWD, log, AtFlags::SYMLINK_FOLLOW)?;
        Ok(spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_no_name_until_it_is_placed_and_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut spare = Spare::default();
        assert!(spare.place(&log).is_err(), "there is none");
        spare.keep(&log);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        spare.place(&log).unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o137, 0);
        std::fs::write(&log, "somebody's").unwrap();
        spare.keep(&log);
        assert_eq!(spare.place(&log).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "somebody's");
    }
}
