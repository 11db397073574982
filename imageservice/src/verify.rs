//! What a look at every byte of the store found.

/// The outcome of [`ImageStore::verify`](crate::ImageStore::verify).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Images that are listed, and those that containers hold.
    pub images: usize,
    /// Blobs whose bytes were hashed.
    pub blobs: usize,
    /// Layers whose trees were compared with their archives.
    pub layers: usize,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

/// One damaged part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// `blob sha256:...` or `layer sha256:...`.
    pub part: String,
    /// Names or ids of the images that have it.
    pub images: Vec<String>,
    /// What is wrong with it.
    pub what: String,
    /// What became of it.
    pub remedy: Remedy,
}

/// What was done about a damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing; that was not asked for.
    None,
    /// It was fetched again from its registry.
    Fetched,
    /// It was unpacked again from its archive.
    Unpacked,
    /// It could not be mended; the text says why and what to do.
    Failed(String),
}

impl Verification {
    /// Whether all is well now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.iter().all(|damage| matches!(damage.remedy, Remedy::Fetched | Remedy::Unpacked))
    }
}
