//! Signatures that decided, kept beside the images: a container of an image that is here needs neither the network nor, after a restart
//! of the daemon, the credentials that its pull had.
//!
//! `<root>/signatures/<algorithm>-<hex of the manifest>.json`. Nothing in it is believed: it is judged anew.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podwright_imagetrust::Signature;
use podwright_types::Digest;
use serde::{Deserialize, Serialize};

use crate::content::{make_private_directory, replace};
use crate::error::{ImageError, Result};

/// Signatures that are kept of one image; the oldest go.
const MAX_KEPT: usize = 16;
/// Bytes of one file that are read.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The directory.
#[derive(Debug)]
pub(crate) struct Kept {
    directory: PathBuf,
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

impl Kept {
    pub(crate) fn new(root: &Path) -> Self {
        Self { directory: root.join("signatures") }
    }

    /// What is kept of a manifest; what can not be read is none.
    pub(crate) fn of(&self, manifest: &Digest) -> Vec<Signature> {
        self.rows(manifest).iter().filter_map(signature).collect()
    }

    /// Keeps signatures, with those of before.
    pub(crate) fn keep<'a>(&self, manifest: &Digest, new: impl Iterator<Item = &'a Signature>) -> Result<()> {
        let mut rows: Vec<Row> = new.map(row).collect();
        let before = self.rows(manifest);
        if rows.iter().all(|row| before.contains(row)) {
            return Ok(());
        }
        let older: Vec<Row> = before.into_iter().filter(|old| !rows.contains(old)).collect();
        rows.extend(older);
        rows.truncate(MAX_KEPT);
        make_private_directory(&self.directory)?;
        let path = self.path(manifest);
        let text = serde_json::to_vec(&File { signatures: rows })
            .map_err(|error| ImageError::io("write", &path, std::io::Error::other(error)))?;
        replace(&path, &text)
    }

    /// Removes what belongs to no manifest that is listed.
    pub(crate) fn sweep(&self, listed: &HashSet<Digest>) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        let names: HashSet<PathBuf> = listed.iter().map(|digest| self.path(digest)).collect();
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
