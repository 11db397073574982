//! What can go wrong with images. Each error names the step, the object, the cause and what to do.

use std::path::Path;

/// The kind of a failure: what a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The image, tag or blob does not exist.
    NotFound,
    /// The registry refused the credentials, or wants some; or an image is encrypted and there is no key for it.
    Unauthorized,
    /// The registry can not be reached, hangs, or answers with server errors.
    RegistryUnavailable,
    /// The registry told to come back later, and for longer than is worth waiting.
    TooManyRequests,
    /// Content is not what its digest or length says, or is malformed.
    Corrupt,
    /// The policy of signatures does not allow it.
    Untrusted,
    /// A limit of the configuration or of the host was exceeded.
    LimitExceeded,
    /// The disk is full.
    NoSpace,
    /// The request, or a file of the configuration, can not be right.
    Invalid,
    /// The pull was cancelled.
    Cancelled,
    /// The disk or the kernel failed.
    Io,
}

impl ErrorKind {
    /// A short name for logs and for the prefix of CRI messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Unauthorized => "Unauthorized",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::TooManyRequests => "TooManyRequests",
            Self::Corrupt => "Corrupt",
            Self::Untrusted => "Untrusted",
            Self::LimitExceeded => "LimitExceeded",
            Self::NoSpace => "NoSpace",
            Self::Invalid => "Invalid",
            Self::Cancelled => "Cancelled",
            Self::Io => "Io",
        }
    }
}

/// A failure of the image service.
#[derive(Debug, thiserror::Error)]
#[error("{step} {object}: {cause}")]
pub struct ImageError {
    kind: ErrorKind,
    step: &'static str,
    object: String,
    cause: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ImageError {
    /// Makes an error: `step` is what was being done ("fetch manifest"), `object` to what, `cause` why it failed and what to do.
    pub(crate) fn new(kind: ErrorKind, step: &'static str, object: impl ToString, cause: impl Into<String>) -> Self {
        Self { kind, step, object: clip(object.to_string()), cause: clip(cause.into()), source: None }
    }

    /// An I/O failure on a file of the store.
    pub(crate) fn io(step: &'static str, path: &Path, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let (kind, cause) = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                (ErrorKind::NoSpace, format!("{error}; free space or inodes, or remove images"))
            }
            std::io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Io, format!("{error}; the kernel's log tells why; mount it writable again"))
            }
            _ => match error.raw_os_error().and_then(podwright_sys::exhaustion_remedy) {
                Some(remedy) => (ErrorKind::LimitExceeded, format!("{error}; {remedy}")),
                None => (ErrorKind::Io, error.to_string()),
            },
        };
        Self::new(kind, step, path.display(), cause)
    }

    /// Attaches the error that this one comes from; its text is not repeated.
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds to the cause.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.cause = clip(format!("{}; {more}", self.cause));
        self
    }

    /// What a caller branches on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Servers choose parts of these texts, so their length is bounded.
fn clip(mut text: String) -> String {
    const MAX_BYTES: usize = 1024;
    if text.len() > MAX_BYTES {
        let end = (0..=MAX_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Results of the image service.
pub type Result<T> = std::result::Result<T, ImageError>;
