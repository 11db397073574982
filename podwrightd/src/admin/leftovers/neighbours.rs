//! Other daemons of the host and what is theirs. In places that daemons share, a thing belongs to the one whose mark it has; without a mark
//! (made by others, or by a daemon of before) it is ours only if no other daemon and no shim of one is near.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use podwright_podsandbox::MARK_BYTES;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{DAEMON, SHIM, processes};

/// Whose a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
    Unmarked,
}

impl Whose {
    pub(super) fn of(found: Option<&str>, own: &str) -> Self {
        match found {
            Some(mark) if mark == own => Self::Ours,
            Some(mark) if !mark.is_empty() => Self::Others,
            Some(_) | None => Self::Unmarked,
        }
    }
}

/// Why what has no mark may be another's: in our mount namespace, and on this kernel.
pub(super) struct Neighbours {
    pub(super) in_our_namespace: Option<String>,
    pub(super) anywhere: Option<String>,
}

impl Neighbours {
    pub(super) fn look(state: &Path) -> Self {
        let unreadable = |error: io::Error| format!("/proc can not be read: {error}");
        let look = || -> io::Result<Self> {
            let own = fs::read_link("/proc/self/ns/mnt")?;
            let pid = std::process::id().to_string();
            let mut others = processes(DAEMON)?;
            others.retain(|process| !process.ends_with(&pid));
            others.extend(processes(SHIM)?.into_iter().filter(|shim| !is_of(shim, state) && shim.exists()));
            let is_here = |process: &&PathBuf| fs::read_link(process.join("ns/mnt")).is_ok_and(|of| of == own);
            let told = |process: &PathBuf| {
                let pid = process.file_name().unwrap_or_default().to_string_lossy();
                format!("it has no mark, and another daemon, or a shim of one, runs here (process {pid})")
            };
            Ok(Self { in_our_namespace: others.iter().find(is_here).map(told), anywhere: others.first().map(told) })
        };
        look().unwrap_or_else(|error| {
            let why = Some(unreadable(error));
            Self { in_our_namespace: why.clone(), anywhere: why }
        })
    }
}

/// Whether a shim is one of this daemon's: it has the directory of its socket open. That has the same name in every mount namespace, so
/// the directory itself is compared. The shim's clones have it no more, but for a moment: then they are taken for another's.
pub(super) fn is_of(process: &Path, state: &Path) -> bool {
    let shims = fs::canonicalize(state.join("shims")).and_then(|path| Ok((fs::metadata(&path)?, path)));
    let Ok((own, path)) = shims else { return false };
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    // Only what has the name is looked at: others may be on a file system that does not answer.
    let named = descriptors.map(|entry| entry.path()).filter(|entry| fs::read_link(entry).is_ok_and(|of| of == path));
    named.into_iter().any(|entry| fs::metadata(entry).is_ok_and(|of| (of.dev(), of.ino()) == (own.dev(), own.ino())))
}

/// The directory of pinned namespaces without what is mounted in it: there are the files that say whose a pin is.
pub(super) struct Beneath(Option<OwnedFd>);

impl Beneath {
    pub(super) fn open(directory: &Path) -> Self {
        Self(podwright_sys::clone_tree(CWD, directory, false).ok())
    }

    pub(super) fn mark(&self, name: &Path) -> Option<String> {
        use std::io::Read;
        let file = openat(
            self.0.as_ref()?,
            name,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let mut text = String::new();
        fs::File::from(file.ok()?).take(MARK_BYTES as u64).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_equal_mark_is_ours() {
        assert_eq!(Whose::of(Some("podwright 1:2"), "podwright 1:2"), Whose::Ours);
        assert_eq!(Whose::of(Some("podwright 1:3"), "podwright 1:2"), Whose::Others);
        assert_eq!(Whose::of(Some(""), "podwright 1:2"), Whose::Unmarked);
        assert_eq!(Whose::of(None, "podwright 1:2"), Whose::Unmarked);
    }
}
