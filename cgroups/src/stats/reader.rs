//! Reads the small files of cgroups, many in a row, into one buffer.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read};

use crate::{Cgroup, Error, Hierarchy};

/// More than the longest of them has; the kernel gives each in one piece.
const FIRST_BYTES: usize = 16 << 10;

/// A buffer for files, to be used for as many cgroups as one likes.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { path: PathBuf::new(), bytes: vec![0; FIRST_BYTES] }
    }
}

impl Reader {
    /// The text of a file; `None` if it or its controller is not there.
    pub(super) fn text(&mut self, cgroup: &Cgroup, controller: &str, file: &str) -> Result<Option<&str>, Error> {
        if !self.name(cgroup, controller, file) {
            return Ok(None);
        }
        match self.fill() {
            // What has no text in it has no numbers either.
            Ok(length) => Ok(self.bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok())),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(cause) => Err(Error::file("read", &self.path, cause)),
        }
    }

    /// The number that a file has; `None` for `max` too.
    pub(super) fn number(&mut self, cgroup: &Cgroup, controller: &str, file: &str) -> Result<Option<u64>, Error> {
        Ok(self.text(cgroup, controller, file)?.and_then(|text| text.trim_end().parse().ok()))
    }

    /// Puts the path together; false if v1 lacks the controller.
    fn name(&mut self, cgroup: &Cgroup, controller: &str, file: &str) -> bool {
        self.path.clear();
        match cgroup.hierarchy() {
            Hierarchy::V2(root) => {
                self.path.push(root);
                self.path.push(cgroup.relative());
            }
            Hierarchy::V1(_) => match cgroup.directory(controller) {
                Some(directory) => self.path = directory,
                None => return false,
            },
        }
        self.path.push(file);
        true
    }

    fn fill(&mut self) -> Result<usize, Errno> {
        let file = open(&self.path)?;
        let mut length = 0;
        loop {
            let room = self.bytes.get_mut(length..).unwrap_or_default();
            let got = match read(&file, room) {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            length += got;
            // A short piece of a file that is made in one is its end.
            if got == 0 || length < self.bytes.len() {
                return Ok(length);
            }
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
