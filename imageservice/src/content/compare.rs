//! Whether two unpacked trees are the same: names, kinds, owners, modes, times, links, extended attributes, contents.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{ImageError, Result};

/// Bytes of two files that are compared at a time.
const BLOCK_BYTES: usize = 128 << 10;

/// The first thing in `found` that is not as in `good`, in words. `described_later` are directories whose owner, mode and time
/// came from elsewhere.
pub(super) fn first_difference(good: &Path, found: &Path, described_later: &[String]) -> Result<Option<String>> {
    let described_later: BTreeSet<&Path> = described_later.iter().map(Path::new).collect();
    let mut pending = vec![PathBuf::new()];
    while let Some(inner) = pending.pop() {
        let (own, other) = (names(&good.join(&inner))?, names(&found.join(&inner))?);
        if let Some(name) = own.symmetric_difference(&other).next() {
            let what = if own.contains(name) { "is missing" } else { "does not belong there" };
            return Ok(Some(format!("{} {what}", shown(&inner.join(name)))));
        }
        for name in own {
            let path = inner.join(name);
            let (own, other) = (good.join(&path), found.join(&path));
            let (own_meta, other_meta) = (metadata(&own)?, metadata(&other)?);
            let differs = if own_meta.is_dir() && other_meta.is_dir() && described_later.contains(path.as_path()) {
                None
            } else {
                different(&own, &own_meta, &other, &other_meta)?
            };
            if let Some(what) = differs {
                return Ok(Some(format!("{}: {what}", shown(&path))));
            }
            if own_meta.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(None)
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy().chars().take(256).collect::<String>())
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>> {
    let fail = |error| ImageError::io("list", directory, error);
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<_>>().map_err(fail)
        }
        // Then everything in it is missing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(fail(error)),
    }
}

fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(path).map_err(|error| ImageError::io("stat", path, error))
}

fn different(own: &Path, good: &Metadata, other: &Path, found: &Metadata) -> Result<Option<&'static str>> {
    let is_plain = !good.is_dir();
    // What stands for a removed name, or is implied, has the time at which it was unpacked.
    let is_timed = is_plain && !(good.file_type().is_char_device() && good.rdev() == 0);
    let checks = [
        ("its kind", good.file_type() == found.file_type()),
        ("its owner", (good.uid(), good.gid()) == (found.uid(), found.gid())),
        ("its mode", good.mode() == found.mode() || good.is_symlink()),
        ("its length", !is_plain || good.len() == found.len()),
        ("its time", !is_timed || (good.mtime(), good.mtime_nsec()) == (found.mtime(), found.mtime_nsec())),
        ("its number of names", !is_plain || good.nlink() == found.nlink()),
        ("its device", good.rdev() == found.rdev() || !is_device(good)),
    ];
    if let Some((what, _)) = checks.into_iter().find(|(_, same)| !same) {
        return Ok(Some(what));
    }
    if good.is_symlink() {
        let target = |path: &Path| std::fs::read_link(path).map_err(|error| ImageError::io("read link", path, error));
        return Ok((target(own)? != target(other)?).then_some("where it leads"));
    }
    if attributes(own)? != attributes(other)? {
        return Ok(Some("its extended attributes"));
    }
    Ok((good.is_file() && !same_content(own, other)?).then_some("its content"))
}

fn is_device(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

/// Those of the security module belong to the place and not to the image.
fn attributes(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let fail = |errno: rustix::io::Errno| ImageError::io("read attributes of", path, errno);
    let mut names = Vec::new();
    let length = match rustix::fs::llistxattr(path, &mut [0_u8; 0][..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(fail(errno)),
    };
    names.resize(length, 0_u8);
    let length = if length == 0 { 0 } else { rustix::fs::llistxattr(path, &mut names[..]).map_err(fail)? };
    names.truncate(length);
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux") {
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).map_err(fail)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

fn same_content(own: &Path, other: &Path) -> Result<bool> {
    let (mut own_file, mut other_file) = (open(own)?, open(other)?);
    let (mut good, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let length = fill(&mut own_file, &mut good).map_err(|error| ImageError::io("read", own, error))?;
        let other_length = match fill(&mut other_file, &mut found) {
            Ok(length) => length,
            // A disk that can not give it back has lost it.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(false),
            Err(error) => return Err(ImageError::io("read", other, error)),
        };
        if good.get(..length) != found.get(..other_length) {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path);
    file.map_err(|error| ImageError::io("open", path, error))
}

fn fill(file: &mut File, block: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "12345").unwrap();
        symlink("b", dir.path().join("a/link")).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(dir.path().join("a/b/file")).unwrap().set_modified(old).unwrap();
        dir
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        type Change = fn(&Path);
        let cases: [(&str, Change); 7] = [
            ("is missing", |dir| std::fs::remove_file(dir.join("a/b/file")).unwrap()),
            ("does not belong", |dir| std::fs::write(dir.join("a/other"), "").unwrap()),
            ("its content", |dir| {
                std::fs::write(dir.join("a/b/file"), "12346").unwrap();
                let file = File::options().write(true).open(dir.join("a/b/file")).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("its length", |dir| std::fs::write(dir.join("a/b/file"), "").unwrap()),
            ("its mode", |dir| {
                std::fs::set_permissions(dir.join("a/b"), std::fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("where it leads", |dir| {
                std::fs::remove_file(dir.join("a/link")).unwrap();
                symlink("c", dir.join("a/link")).unwrap();
            }),
            ("its kind", |dir| {
                std::fs::remove_file(dir.join("a/b/file")).unwrap();
                std::fs::create_dir(dir.join("a/b/file")).unwrap();
            }),
        ];
        for (what, change) in cases {
            let (good, found) = (tree(), tree());
            let link = |dir: &Path| {
                let times = rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
                    last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
                };
                let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::utimensat(rustix::fs::CWD, dir.join("a/link"), &times, flags).unwrap();
            };
            link(good.path());
            link(found.path());
            assert_eq!(first_difference(good.path(), found.path(), &[]).unwrap(), None);
            change(found.path());
            link(found.path());
            let seen = first_difference(good.path(), found.path(), &[]).unwrap().unwrap();
            assert!(seen.contains(what), "{what}: {seen}");
            let hidden = first_difference(good.path(), found.path(), &["a/b".to_owned()]).unwrap();
            assert_eq!(hidden.is_none(), what == "its mode", "{what}");
        }
    }
}
