//! News of a running pull.

use std::sync::Arc;

use podwright_types::Digest;

/// How far a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Bytes are arriving, being hashed and unpacked.
    Downloading {
        /// Compressed bytes so far.
        bytes: u64,
    },
    /// It is on disk and verified.
    Done,
}

/// One piece of news of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The manifest is known.
    Resolved {
        /// The digest that the reference stands for.
        digest: Digest,
        /// Layers of the image.
        layers: usize,
        /// Compressed bytes of all layers.
        bytes: u64,
    },
    /// A layer came forward.
    Layer {
        /// Digest of the compressed layer.
        digest: Digest,
        /// Its compressed bytes.
        total_bytes: u64,
        /// How far it is.
        state: LayerState,
    },
}

/// Who hears the news; called often, so it must return at once.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;
