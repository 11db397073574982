//! A directory of an image as its layers show it together: which directories of which layers make it up.
//!
//! Layers are complete and nobody writes to them, so they are read as overlayfs would read them, without mounting: an upper
//! entry hides a lower one, directories merge until one is opaque, a whiteout ends the search. Symbolic links are followed inside
//! the image, as a process with the image as its root would follow them; none leads out.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use crate::unpack::is_opaque;

/// Most symbolic links on the way; the kernel's own limit.
const MAX_LINKS: usize = 40;
/// Most parts of a path, with those that links put in; a path has 4095 bytes.
const MAX_PARTS: usize = 2048;

/// Why there is no such directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDirectory {
    /// Nothing has that name.
    #[error("the image has nothing there; correct the path")]
    Missing,
    /// It is something else, or something else is on the way.
    #[error("it is no directory; only directories of an image can be mounted")]
    NotDirectory,
    /// Links lead round in circles, or to very long paths.
    #[error("it has too many symbolic links on the way")]
    TooManyLinks,
    /// The disk.
    #[error("a layer can not be read")]
    Io(#[from] std::io::Error),
}

/// What the layers have under a name.
enum Found {
    Nothing,
    Directory(Vec<PathBuf>),
    Link(PathBuf),
    Other,
}

/// The directories that show `path` when they are laid one upon another; `layers` and they are the topmost first. Blocks on the disk.
pub(crate) fn merged_directory(layers: &[PathBuf], path: &Path) -> Result<Vec<PathBuf>, NoDirectory> {
    // The way here; its first is the root, which nothing leaves.
    let mut way = vec![layers.to_vec()];
    let mut parts = reversed(path);
    let mut links = 0;
    while let Some(part) = parts.pop() {
        if part == ".." {
            way.truncate(way.len().saturating_sub(1).max(1));
            continue;
        }
        match find(way.last().map_or(&[][..], Vec::as_slice), &part)? {
            Found::Nothing => return Err(NoDirectory::Missing),
            Found::Other => return Err(NoDirectory::NotDirectory),
            Found::Directory(directories) => way.push(directories),
            Found::Link(target) => {
                links += 1;
                if target.is_absolute() {
                    way.truncate(1);
                }
                parts.extend(reversed(&target));
                if links > MAX_LINKS || parts.len() > MAX_PARTS {
                    return Err(NoDirectory::TooManyLinks);
                }
            }
        }
    }
    Ok(way.pop().unwrap_or_default())
}

/// Names and `..` of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn find(directories: &[PathBuf], name: &OsStr) -> Result<Found, NoDirectory> {
    let mut merged = Vec::new();
    for path in directories.iter().map(|directory| directory.join(name)) {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        if metadata.is_dir() {
            let is_last = is_opaque(File::open(&path)?);
            merged.push(path);
            if is_last {
                break;
            }
        } else if merged.is_empty() && !is_whiteout(&metadata) {
            return if metadata.is_symlink() { Ok(Found::Link(std::fs::read_link(&path)?)) } else { Ok(Found::Other) };
        } else {
            break;
        }
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
}

fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

#[cfg(test)]
mod tests;
