//! What goes wrong in the life of a pod, sorted by what a front end has to answer.

use crate::ports::PortError;

/// A failed operation. Every text names the step, the object, the cause and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The sandbox, container or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request can not be right; repeating it does not help.
    #[error("{0}")]
    Invalid(String),
    /// The key (names and attempt) is taken by an object with another configuration.
    #[error("{0}")]
    AlreadyExists(String),
    /// The object is not in the state that the operation needs.
    #[error("{0}")]
    FailedPrecondition(String),
    /// Something that is needed can not be reached now; repeat the request.
    #[error("{0}")]
    Unavailable(String),
    /// The time limit passed.
    #[error("{0}")]
    TimedOut(String),
    /// A bound of this host is reached.
    #[error("{0}")]
    Exhausted(String),
    /// A file system of this host can not be written to.
    #[error("{0}")]
    ReadOnly(String),
    /// The operator's policy of signatures does not allow the image.
    #[error("{0}")]
    Untrusted(String),
    /// An image can not be mounted as a volume, for the reason within.
    #[error("{0}")]
    ImageVolume(Box<EngineError>),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// Puts what was being done before the text: `step object: cause`.
    #[must_use]
    pub fn within(self, what: impl std::fmt::Display) -> Self {
        self.changed(&|text| format!("{what}: {text}"))
    }

    /// Adds to the text.
    #[must_use]
    pub(crate) fn and(self, more: &str) -> Self {
        self.changed(&|text| text + more)
    }

    fn changed(self, change: &dyn Fn(String) -> String) -> Self {
        match self {
            Self::NotFound(text) => Self::NotFound(change(text)),
            Self::Invalid(text) => Self::Invalid(change(text)),
            Self::AlreadyExists(text) => Self::AlreadyExists(change(text)),
            Self::FailedPrecondition(text) => Self::FailedPrecondition(change(text)),
            Self::Unavailable(text) => Self::Unavailable(change(text)),
            Self::TimedOut(text) => Self::TimedOut(change(text)),
            Self::Exhausted(text) => Self::Exhausted(change(text)),
            Self::ReadOnly(text) => Self::ReadOnly(change(text)),
            Self::Untrusted(text) => Self::Untrusted(change(text)),
            Self::ImageVolume(cause) => Self::ImageVolume(Box::new(cause.changed(change))),
            Self::Internal(text) => Self::Internal(change(text)),
        }
    }

    /// Says that it is about an image that is to be mounted at `destination`.
    #[must_use]
    pub(crate) fn of_image_volume(self, destination: &std::path::Path) -> Self {
        Self::ImageVolume(Box::new(self.within(format_args!("image volume at {}", destination.display()))))
    }

    /// An I/O failure on a path.
    pub(crate) fn io(doing: &str, path: &std::path::Path, cause: &std::io::Error) -> Self {
        let text = format!("{doing} {}: {cause}", path.display());
        let remedy = cause.raw_os_error().and_then(podwright_sys::exhaustion_remedy);
        match (remedy, cause.kind()) {
            (Some(remedy), _) => Self::Exhausted(format!("{text}; {remedy}")),
            (None, std::io::ErrorKind::ReadOnlyFilesystem) => {
                Self::ReadOnly(format!("{text}; the kernel's log tells why it is read-only; mount it writable again"))
            }
            (None, _) => Self::Internal(text),
        }
    }
}

impl From<PortError> for EngineError {
    fn from(error: PortError) -> Self {
        match error {
            PortError::NotFound(text) => Self::NotFound(text),
            PortError::Invalid(text) => Self::Invalid(text),
            PortError::Unavailable(text) => Self::Unavailable(text),
            PortError::TimedOut(text) => Self::TimedOut(text),
            PortError::Exhausted(text) => Self::Exhausted(text),
            PortError::ReadOnly(text) => Self::ReadOnly(text),
            PortError::Untrusted(text) => Self::Untrusted(text),
            PortError::Start(_, text) | PortError::Failed(text) => Self::Internal(text),
        }
    }
}
