//! The directories of the store, and the files in them: an OCI image layout, unpacked layers, and work in progress.
//!
//! Owns paths, atomic replacement and syncing. What is needed is known by `store`. All of it blocks, so it runs on blocking
//! threads.
//!
//! ```text
//! images/oci-layout, index.json, blobs/<algorithm>/<hex>     what skopeo reads
//! layers/<hex of the diff id>/fs, layer.json                 complete layers; layer.json is written last
//! ingest/                                                    downloads and unpacking in progress or given up; swept at open
//! trash/                                                     on its way out; swept at open
//! index.reserve                                              becomes the index when the disk is full
//! retired/<hex>.<nanoseconds>                                damaged layers that containers may still show
//! store.boot                                                 the boot in which the store was opened and not closed
//! ```

mod compare;
mod implied;
mod index;
mod merged;
mod nursery;
mod replaced;
mod reserve;
mod usage;

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use podwright_types::{Digest, DigestAlgorithm};
use serde::{Deserialize, Serialize};

pub(crate) use implied::note;
pub(crate) use index::{IndexEntry, read_index, wrap_manifest, write_index};
pub(crate) use merged::{NoDirectory, merged_directory};

use crate::error::{ErrorKind, ImageError, Result};
use crate::failpoints::{self, fail_point};
use crate::hash::digest_of;
use crate::unpack::is_opaque;

const OCI_LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// Largest small file that is read whole: manifests, configurations, the index.
pub(crate) const MAX_WHOLE_BYTES: u64 = 64 << 20;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Content {
    root: PathBuf,
    boot_id: String,
    trash_serial: AtomicU64,
}

/// The space that an unpacked layer takes, and whether it hides all below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerSize {
    /// Bytes on disk.
    pub(crate) bytes: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
    /// Its root is opaque. overlayfs heeds that mark everywhere but there.
    #[serde(default)]
    pub(crate) hides_lower: bool,
    /// Sum of the lengths of all files; unlike blocks it stays what it was. Layers of before have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_bytes: Option<u64>,
}

/// What is written beside an unpacked layer when it is complete.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerMarker {
    #[serde(flatten)]
    size: LayerSize,
    /// The boot in which it was unpacked, until it is synced: after a power cut such a layer is unpacked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unsynced_since_boot: Option<String>,
    /// Directories that wait to be described by a lower layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    implied: Vec<String>,
}

impl Content {
    /// Makes the directories and sweeps what was left in progress.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let content = Self { root: root.to_owned(), boot_id: boot_id()?, trash_serial: AtomicU64::new(0) };
        if !root.is_dir() {
            make_directory(root, 0o700)?;
        }
        for name in ["images", "images/blobs", "images/blobs/sha256", "layers", "ingest", "trash", "retired"] {
            make_directory(&root.join(name), 0o700)?;
        }
        nursery::spread(&root.join("ingest"));
        let layout = content.images().join("oci-layout");
        if !layout.exists() {
            replace(&layout, OCI_LAYOUT.as_bytes())?;
        }
        content.keep_reserve();
        for name in ["ingest", "trash"] {
            sweep_directory(&root.join(name))?;
        }
        Ok(content)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Makes the reserve for the index again, after it was used.
    pub(crate) fn keep_reserve(&self) {
        let index = std::fs::metadata(self.images().join("index.json")).map_or(0, |meta| meta.len());
        reserve::keep(&self.images(), usize::try_from(index).unwrap_or_default());
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.images().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// A layer's directory. Only hexadecimal digits: overlayfs reads colons in its options.
    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// Where a layer's tree is: a `lowerdir`.
    pub(crate) fn layer_tree(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("fs")
    }

    pub(crate) fn partial_blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("ingest").join(digest.hex())
    }

    fn partial_layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("ingest").join(format!("{}.unpack", diff_id.hex()))
    }

    /// Reads and checks a small blob.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        use std::io::Read as _;
        let path = self.blob(digest);
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(MAX_WHOLE_BYTES).read_to_end(&mut bytes)).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::NotFound => ImageError::new(
                    ErrorKind::NotFound,
                    "read blob",
                    path.display(),
                    "it is gone; pull the image again",
                ),
                _ => ImageError::io("read blob", &path, error),
            }
        })?;
        if digest_of(digest.algorithm(), &bytes) == *digest {
            Ok(bytes)
        } else {
            let cause = "its content changed on disk; remove the image and pull it again";
            Err(ImageError::new(ErrorKind::Corrupt, "read blob", path.display(), cause))
        }
    }

    /// Writes and syncs a small blob whose digest was checked.
    pub(crate) fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let partial = self.partial_blob(digest);
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        write().map_err(|error| ImageError::io("write blob", &partial, error))?;
        fail_point(failpoints::TEXT_WHOLE);
        self.publish_blob(digest)
    }

    /// Moves a complete download to its place.
    pub(crate) fn publish_blob(&self, digest: &Digest) -> Result<()> {
        let path = self.blob(digest);
        if digest.algorithm() != DigestAlgorithm::Sha256
            && let Some(directory) = path.parent()
        {
            make_directory(directory, 0o700)?;
        }
        std::fs::rename(self.partial_blob(digest), &path).map_err(|error| ImageError::io("publish blob", &path, error))
    }

    /// Begins a layer: an empty tree to unpack into.
    pub(crate) fn begin_layer(&self, diff_id: &Digest) -> Result<PathBuf> {
        let partial = self.partial_layer(diff_id);
        remove_tree(&partial)?;
        let newborn = nursery::unused_name(&partial);
        make_directory(&newborn, 0o700)?;
        std::fs::rename(&newborn, &partial).map_err(|error| ImageError::io("make directory", &partial, error))?;
        let tree = partial.join("fs");
        make_directory(&tree, 0o755)?;
        fail_point(failpoints::UNPACK_BEGUN);
        Ok(tree)
    }

    /// Ends a layer that was unpacked and verified: counts it, marks it complete, and moves it to its place.
    pub(crate) fn publish_layer(&self, diff_id: &Digest) -> Result<LayerSize> {
        let partial = self.partial_layer(diff_id);
        let implied = implied::take_note(&partial)?;
        let size = self.finish_layer(&partial, implied)?;
        let place = self.layer(diff_id);
        // What is there is incomplete, or it would have been used.
        remove_tree(&place)?;
        std::fs::rename(&partial, &place).map_err(|error| ImageError::io("publish layer", &place, error))?;
        fail_point(failpoints::UNPACK_PUBLISHED);
        Ok(size)
    }

    /// Counts a layer and marks it complete, where it was unpacked.
    fn finish_layer(&self, partial: &Path, implied: Vec<String>) -> Result<LayerSize> {
        let tree = partial.join("fs");
        let hides_lower = is_opaque(File::open(&tree).map_err(|error| ImageError::io("open layer", &tree, error))?);
        let size = LayerSize { hides_lower, ..usage::measure(partial)? };
        let marker = LayerMarker { size, unsynced_since_boot: Some(self.boot_id.clone()), implied };
        fail_point(failpoints::UNPACK_UNMARKED);
        write_marker(partial, &marker)?;
        fail_point(failpoints::UNPACK_MARKED);
        Ok(size)
    }

    /// The size of a complete layer; `None` if it is not there, not complete, or a power cut may have torn it.
    pub(crate) fn complete_layer(&self, diff_id: &Digest) -> Option<LayerSize> {
        let marker = self.marker(diff_id)?;
        marker.unsynced_since_boot.is_none_or(|boot_id| boot_id == self.boot_id).then_some(marker.size)
    }

    fn marker(&self, diff_id: &Digest) -> Option<LayerMarker> {
        let text = std::fs::read(self.layer(diff_id).join("layer.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The inode of a layer that is not synced yet.
    pub(crate) fn unsynced_layer(&self, diff_id: &Digest) -> Option<u64> {
        self.marker(diff_id)?.unsynced_since_boot?;
        std::fs::symlink_metadata(self.layer(diff_id)).ok().map(|metadata| metadata.ino())
    }

    /// Makes everything on the layers' file system survive a power cut.
    pub(crate) fn sync_layers(&self) -> Result<()> {
        let layers = self.root.join("layers");
        let directory = File::open(&layers).map_err(|error| ImageError::io("open", &layers, error))?;
        rustix::fs::syncfs(&directory).map_err(|error| ImageError::io("sync file system of", &layers, error))
    }

    /// Notes that a layer is synced, unless it was removed, or replaced by another, since it had this inode.
    pub(crate) fn mark_synced(&self, diff_id: &Digest, inode: u64) -> Result<()> {
        match (self.unsynced_layer(diff_id), self.marker(diff_id)) {
            (Some(now), Some(marker)) if now == inode => {
                fail_point(failpoints::UNPACK_SYNCED);
                write_marker(&self.layer(diff_id), &LayerMarker { unsynced_since_boot: None, ..marker })
            }
            _ => Ok(()),
        }
    }

    /// Removes what an unfinished download or unpacking left.
    pub(crate) fn discard_partial_blob(&self, digest: &Digest) -> Result<()> {
        remove_tree(&self.partial_blob(digest))
    }

    /// Removes what an unfinished unpacking left.
    pub(crate) fn discard_partial_layer(&self, diff_id: &Digest) -> Result<()> {
        remove_tree(&self.partial_layer(diff_id))
    }

    /// Takes a blob or layer out of its place at once; [`empty_trash`](Self::empty_trash) frees the space.
    pub(crate) fn discard(&self, path: &Path) -> Result<PathBuf> {
        let serial = self.trash_serial.fetch_add(1, Ordering::Relaxed);
        let trash = self.root.join("trash").join(serial.to_string());
        match std::fs::rename(path, &trash) {
            Ok(()) => {
                fail_point(failpoints::REMOVE_DISCARDED);
                Ok(trash)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(trash),
            Err(error) => Err(ImageError::io("remove", path, error)),
        }
    }

    /// Blobs on disk.
    pub(crate) fn blobs_on_disk(&self) -> Result<Vec<(Digest, u64)>> {
        let mut found = Vec::new();
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
            let directory = self.images().join("blobs").join(algorithm.name());
            for (name, path) in list_directory(&directory)? {
                let size =
                    std::fs::symlink_metadata(&path).map_err(|error| ImageError::io("stat", &path, error))?.len();
                match format!("{}:{name}", algorithm.name()).parse() {
                    Ok(digest) => found.push((digest, size)),
                    Err(_) => remove_tree(&path)?,
                }
            }
        }
        Ok(found)
    }

    /// Names in the layers' directory.
    pub(crate) fn layers_on_disk(&self) -> Result<Vec<(String, PathBuf)>> {
        list_directory(&self.root.join("layers"))
    }

    /// Makes the names of blobs survive a power cut; their content is synced before they get them.
    pub(crate) fn sync_blob_names(&self) -> Result<()> {
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
            let path = self.images().join("blobs").join(algorithm.name());
            match File::open(&path).and_then(|directory| directory.sync_all()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ImageError::io("sync", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names the time since the kernel started.
fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(|error| ImageError::io("read boot id", path, error))?;
    Ok(text.trim().to_owned())
}

/// Replaces a marker as a whole. Not synced: an older marker only makes a layer be unpacked once more.
fn write_marker(layer: &Path, marker: &LayerMarker) -> Result<()> {
    let (path, fresh) = (layer.join("layer.json"), layer.join("layer.new"));
    let write = || -> std::io::Result<()> {
        std::fs::write(&fresh, serde_json::to_vec(marker)?)?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(|error| ImageError::io("write layer marker", &path, error))
}

/// Removes a tree; one that is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ImageError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Replaces a file by a synced new version, or leaves the old one.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(text)?;
        file.sync_all()?;
        fail_point(failpoints::INDEX_WRITTEN);
        std::fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&fresh);
        ImageError::io("write", path, error)
    })
}

/// Makes a directory that only we can enter.
pub(crate) fn make_private_directory(path: &Path) -> Result<()> {
    make_directory(path, 0o700)
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|error| ImageError::io("make directory", path, error))
}

fn list_directory(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::io("list", path, error)),
    };
    entries
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<std::io::Result<_>>()
        .map_err(|error| ImageError::io("list", path, error))
}

fn sweep_directory(path: &Path) -> Result<()> {
    for (_, path) in list_directory(path)? {
        remove_tree(&path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier release recorded is data: the sample is never made anew.
    #[test]
    fn layer_markers_of_version_1_are_read() {
        let full = r#"{"bytes":4096,"inodes":2,"hides_lower":true,"unsyncedSinceBoot":"b","implied":["tmp"]}"#;
        for sample in [full, r#"{"bytes":4096,"inodes":2,"hides_lower":false}"#] {
            let marker: LayerMarker = serde_json::from_str(sample).unwrap();
            let (sample, now): (serde_json::Value, _) =
                (serde_json::from_str(sample).unwrap(), serde_json::to_value(&marker).unwrap());
            for (name, value) in sample.as_object().unwrap() {
                assert_eq!(now.get(name), Some(value), "{name}");
            }
        }
    }
}
