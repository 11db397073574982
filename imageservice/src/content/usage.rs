//! Space that a tree takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::LayerSize;
use crate::error::{ImageError, Result};

/// Counts blocks and inodes below a directory, itself included; a file with several names counts once.
pub(super) fn measure(path: &Path) -> Result<LayerSize> {
    let mut size = LayerSize { bytes: 0, inodes: 0, hides_lower: false, content_bytes: Some(0) };
    let mut linked = HashSet::new();
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        let fail = |error| ImageError::io("measure", &directory, error);
        add(&mut size, &std::fs::symlink_metadata(&directory).map_err(fail)?);
        for entry in std::fs::read_dir(&directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_type().map_err(fail)?.is_dir() {
                pending.push(entry.path());
                continue;
            }
            let metadata = entry.metadata().map_err(fail)?;
            if metadata.nlink() == 1 || linked.insert(metadata.ino()) {
                add(&mut size, &metadata);
            }
        }
    }
    Ok(size)
}

fn add(size: &mut LayerSize, metadata: &std::fs::Metadata) {
    /// The unit of `st_blocks`, whatever the file system's own is.
    const BLOCK_BYTES: u64 = 512;
    size.bytes += metadata.blocks() * BLOCK_BYTES;
    size.inodes += 1;
    if metadata.is_file() {
        size.content_bytes = size.content_bytes.map(|bytes| bytes.saturating_add(metadata.len()));
    }
}
