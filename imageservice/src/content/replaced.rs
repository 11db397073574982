//! Layers that turned out to be damaged: put aside while containers may show them, and replaced by good ones at once.
//!
//! A running container has the directory of a layer mounted, wherever it is moved; its names must stay until the container is gone.
//! Owns `retired/` and the file that tells whether the store was closed before the power went.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use podwright_types::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Content, LayerSize, compare, implied, list_directory, remove_tree, replace, usage};
use crate::error::{ImageError, Result};

const OPENED: &str = "store.boot";
/// What is counted of a layer beside its tree.
const LAYER_DIRECTORY: u64 = 1;

impl Content {
    /// Puts a layer that was unpacked and verified in the place of a damaged one, which is put aside.
    pub(crate) fn replace_layer(&self, diff_id: &Digest) -> Result<LayerSize> {
        let (partial, place) = (self.partial_layer(diff_id), self.layer(diff_id));
        let implied = implied::take_note(&partial)?;
        let size = self.finish_layer(&partial, implied)?;
        let fail = |errno: Errno| ImageError::io("replace layer", &place, errno);
        match renameat_with(CWD, &partial, CWD, &place, RenameFlags::EXCHANGE) {
            Ok(()) => {
                let aside = self.retired().join(format!("{}.{}", diff_id.hex(), nanoseconds()));
                std::fs::rename(&partial, &aside).map_err(|error| ImageError::io("put aside", &partial, error))?;
            }
            Err(Errno::NOENT) => rustix::fs::rename(&partial, &place).map_err(fail)?,
            Err(errno) => return Err(fail(errno)),
        }
        Ok(size)
    }

    /// What is wrong with a layer, compared with the one that was just unpacked anew from its verified archive; `None` if nothing is.
    pub(crate) fn layer_damage(&self, diff_id: &Digest) -> Result<Option<String>> {
        let partial = self.partial_layer(diff_id);
        let Some(marker) = self.marker(diff_id) else { return Ok(Some("it is not marked as complete".to_owned())) };
        let described_later = implied::read_note(&partial)?;
        if !marker.implied.iter().all(|path| described_later.contains(path)) {
            return Ok(Some("its mark names other directories".to_owned()));
        }
        compare::first_difference(&partial.join("fs"), &self.layer_tree(diff_id), &described_later)
    }

    fn retired(&self) -> PathBuf {
        self.root.join("retired")
    }

    /// Removes what was put aside, but for layers that containers may show still; `is_held` is asked with the digits of a diff id.
    pub(crate) fn drop_retired(&self, is_held: impl Fn(&str) -> bool) -> Result<()> {
        for (name, path) in list_directory(&self.retired())? {
            if !is_held(name.split_once('.').map_or(name.as_str(), |(hex, _)| hex)) {
                remove_tree(&path)?;
            }
        }
        Ok(())
    }

    /// Says that the store is in use. Whether it was when an earlier boot ended: then names and lengths can not be trusted.
    pub(crate) fn begin_use(&self) -> bool {
        let path = self.root.join(OPENED);
        // Unreadable is torn, which is no clean end either.
        let unclean = match std::fs::read_to_string(&path) {
            // A daemon that was killed said it.
            Ok(boot_id) if boot_id == self.boot_id => return false,
            Ok(boot_id) => boot_id.trim() != self.boot_id,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        // On a full disk the store has to open, so that images can be removed.
        if let Err(error) = replace(&path, self.boot_id.as_bytes()) {
            tracing::warn!(%error, "the store opens without a word that it is in use");
        }
        unclean
    }

    /// Says that everything is on disk.
    pub(crate) fn end_use(&self) -> Result<()> {
        self.sync_layers()?;
        remove_tree(&self.root.join(OPENED))
    }

    /// Whether a layer has as many files, and as long ones, as when it was unpacked: what a power cut takes from a disk that lies.
    pub(crate) fn is_as_measured(&self, diff_id: &Digest, expected: &LayerSize) -> bool {
        match (usage::measure(&self.layer_tree(diff_id)), expected.content_bytes) {
            (Ok(found), Some(bytes)) => {
                found.content_bytes == Some(bytes) && found.inodes + LAYER_DIRECTORY == expected.inodes
            }
            (found, _) => found.is_ok(),
        }
    }
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
