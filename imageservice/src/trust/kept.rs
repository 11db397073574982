//! Signatures of images, kept beside them: a container of an image that is here needs neither the network nor, after a restart
//! of the daemon or for another tenant than that of the pull, the credentials that its pull had.
//!
//! `<root>/signatures/<algorithm>-<hex of the manifest>.json`. Nothing in it is believed: it is judged anew.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podwright_imagetrust::Signature;
use podwright_types::Digest;
use serde::{Deserialize, Serialize};

use crate::content::{make_private_directory, replace};
use crate::error::{ImageError, Result};

/// Signatures that are kept of one image; those that never decided go first.
const MAX_KEPT: usize = 16;
/// Bytes of one file that are read.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The directory.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: PathBuf,
    /// Files are read, changed and replaced.
    changing: Mutex<()>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    signatures: Vec<Row>,
}

/// One signature; bytes are in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Row {
    Simple {
        message: String,
    },
    Sigstore {
        payload: String,
        signature: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bundle: Option<String>,
    },
}

impl Row {
    /// Somewhat more than it takes in a file, where quotes in the text of a bundle take two bytes.
    fn bytes(&self) -> u64 {
        let texts = match self {
            Self::Simple { message } => message.len(),
            Self::Sigstore { payload, signature, bundle } => {
                payload.len() + 2 * signature.len() + 2 * bundle.as_ref().map_or(0, String::len)
            }
        };
        texts as u64 + 128
    }
}

impl Kept {
    pub(crate) fn new(root: &Path) -> Self {
        Self { directory: root.join("signatures"), changing: Mutex::default() }
    }

    /// What is kept of a manifest; what can not be read is none.
    pub(crate) fn of(&self, manifest: &Digest) -> Vec<Signature> {
        self.rows(manifest).iter().filter_map(signature).collect()
    }

    /// Keeps signatures, with those of before. Those that decided go before all others.
    pub(crate) fn keep<'a>(
        &self,
        manifest: &Digest,
        deciding: impl Iterator<Item = &'a Signature>,
        others: impl Iterator<Item = &'a Signature>,
    ) -> Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rows(manifest);
        let (mut rows, mut bytes): (Vec<Row>, u64) = (Vec::new(), 0);
        for row in deciding.map(row).chain(before.iter().cloned()).chain(others.map(row)) {
            let more = bytes.saturating_add(row.bytes());
            if rows.len() < MAX_KEPT && more < MAX_FILE_BYTES && !rows.contains(&row) {
                bytes = more;
                rows.push(row);
            }
        }
        if rows.iter().all(|row| before.contains(row)) {
            return Ok(());
        }
        make_private_directory(&self.directory)?;
        let path = self.path(manifest);
        let text = serde_json::to_vec(&File { signatures: rows })
            .map_err(|error| ImageError::io("write", &path, std::io::Error::other(error)))?;
        replace(&path, &text)
    }

    /// Removes what belongs to no manifest that is needed. That is asked for while nothing can be kept, so that what a pull keeps is either
    /// seen there or kept afterwards.
    pub(crate) fn sweep(&self, needed: impl FnOnce() -> HashSet<Digest>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        let names: HashSet<PathBuf> = needed().iter().map(|digest| self.path(digest)).collect();
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !names.contains(path)) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn rows(&self, manifest: &Digest) -> Vec<Row> {
        let mut text = Vec::new();
        let read =
            std::fs::File::open(self.path(manifest)).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
        if read.is_err() {
            return Vec::new();
        }
        serde_json::from_slice::<File>(&text).unwrap_or_default().signatures
    }

    fn path(&self, manifest: &Digest) -> PathBuf {
        self.directory.join(format!("{}-{}.json", manifest.algorithm().name(), manifest.hex()))
    }
}

fn row(signature: &Signature) -> Row {
    match signature {
        Signature::Simple(message) => Row::Simple { message: STANDARD.encode(message) },
        Signature::Sigstore { payload, signature, bundle } => {
            Row::Sigstore { payload: STANDARD.encode(payload), signature: signature.clone(), bundle: bundle.clone() }
        }
    }
}

fn signature(row: &Row) -> Option<Signature> {
    Some(match row {
        Row::Simple { message } => Signature::Simple(STANDARD.decode(message).ok()?),
        Row::Sigstore { payload, signature, bundle } => Signature::Sigstore {
            payload: STANDARD.decode(payload).ok()?,
            signature: signature.clone(),
            bundle: bundle.clone(),
        },
    })
}
