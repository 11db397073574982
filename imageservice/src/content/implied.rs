//! Directories that a layer's archive implies and does not describe: `tmp/file` without `tmp/`.
//!
//! What unpacks onto the lower layers finds such a directory there, with its owner and mode. Here each layer has its own tree,
//! and the kernel takes those of the uppermost one, so `/tmp` would lose its mode. So they are noted when the layer is unpacked, and
//! take owner, mode and time over from the layers below when an image with both is listed. The first such image decides.

use std::fs::{File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use podwright_types::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{Content, LayerMarker, write_marker};
use crate::error::{ImageError, Result};
use crate::unpack::is_opaque;

/// Where they are noted, beside the tree, until the marker is written.
const NOTE: &str = "implied";
const PLACE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// No link is followed: what an image has behind one is another directory.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// Notes the directories that unpacking into `tree` implied.
pub(crate) fn note(tree: &Path, implied: &[Vec<u8>]) -> Result<()> {
    let path = tree.with_file_name(NOTE);
    std::fs::write(&path, implied.join(&0)).map_err(|error| ImageError::io("note directories", &path, error))
}

/// Takes the note away.
pub(super) fn take_note(layer: &Path) -> Result<Vec<String>> {
    let names = read_note(layer)?;
    let path = layer.join(NOTE);
    std::fs::remove_file(&path).map_err(|error| ImageError::io("take note of directories", &path, error))?;
    Ok(names)
}

/// What is noted. Names that are no UTF-8 are left out.
pub(super) fn read_note(layer: &Path) -> Result<Vec<String>> {
    let path = layer.join(NOTE);
    let fail = |error| ImageError::io("take note of directories", &path, error);
    let text = std::fs::read(&path).map_err(fail)?;
    let names = text.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect())
}

impl Content {
    /// Describes the implied directories of a layer as the `lower` ones, from the uppermost down, have them. Those that are in
    /// none stay noted.
    pub(crate) fn describe_implied(&self, diff_id: &Digest, lower: &[Digest]) -> Result<()> {
        let Some(marker) = self.marker(diff_id).filter(|marker| !marker.implied.is_empty()) else { return Ok(()) };
        let tree = self.layer_tree(diff_id);
        let open = |path: &Path| File::open(path).map_err(|error| ImageError::io("open layer", path, error));
        let own = open(&tree)?;
        let lower: Vec<File> = lower.iter().map(|diff_id| open(&self.layer_tree(diff_id))).collect::<Result<_>>()?;
        let mut left = Vec::new();
        for path in &marker.implied {
            match (find(&own, path), model(&own, &lower, path)) {
                (Ok(Some(directory)), Ok(Some(model))) => copy_attributes(&model.into(), &directory.into())
                    .map_err(|error| ImageError::io("describe directory", &tree.join(path), error))?,
                (Ok(Some(_)), Ok(None)) => left.push(path.clone()),
                // Something else is there by now, or what is below is hidden or no directory.
                _ => {}
            }
        }
        if left.len() == marker.implied.len() {
            return Ok(());
        }
        write_marker(&self.layer(diff_id), &LayerMarker { implied: left, ..marker })
    }
}

/// The directory that says what one in `own` is like; an error if there can be none.
fn model(own: &File, lower: &[File], path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let mut above = own;
    for tree in lower {
        if hides_below(above, path)? {
            return Err(Errno::NOENT);
        }
        if let Some(found) = find(tree, path)? {
            return Ok(Some(found));
        }
        above = tree;
    }
    Ok(None)
}

/// Whether a directory on the way is opaque.
fn hides_below(tree: &File, path: &str) -> rustix::io::Result<bool> {
    let ways = path.match_indices('/').filter_map(|(at, _)| path.get(..at)).chain(["."]);
    for way in ways {
        if find(tree, way)?.is_some_and(|directory| is_opaque(&directory)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A directory of a tree; `None` if there is nothing.
fn find(tree: &File, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    match openat2(tree, path, PLACE, Mode::empty(), INSIDE) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn copy_attributes(from: &File, to: &File) -> std::io::Result<()> {
    let model = from.metadata()?;
    std::os::unix::fs::fchown(to, Some(model.uid()), Some(model.gid()))?;
    to.set_permissions(Permissions::from_mode(model.mode() & 0o7777))?;
    to.set_modified(model.modified()?)
}
