//! The one place that chooses gRPC codes. Texts come from where the failure was and are passed on as they are.

use podwright_imageservice::{ErrorKind, ImageError};
use podwright_podsandbox::EngineError;
use tonic::{Code, Status};

use crate::field::BadField;
use crate::streaming::NoToken;

/// Longest message of a status: it travels in a header, and clients bound those.
const MAX_MESSAGE_BYTES: usize = 3072;
/// How clients know that signatures are missing or wrong.
const UNTRUSTED: &str = "SignatureValidationFailed: ";

impl From<BadField> for Status {
    fn from(bad: BadField) -> Self {
        with_text(Code::InvalidArgument, &format!("invalid request: {bad}"))
    }
}

/// The status for a failure of the engine.
pub(crate) fn from_engine(error: &EngineError) -> Status {
    // Clients know it by this word.
    let word = if matches!(error, EngineError::ImageVolume(_)) {
        "ImageVolumeMountFailed: "
    } else if matches!(error, EngineError::Untrusted(_)) {
        UNTRUSTED
    } else {
        ""
    };
    with_text(code(error), &format!("{word}{error}"))
}

fn code(error: &EngineError) -> Code {
    match error {
        EngineError::NotFound(_) => Code::NotFound,
        EngineError::Invalid(_) => Code::InvalidArgument,
        EngineError::AlreadyExists(_) => Code::AlreadyExists,
        EngineError::FailedPrecondition(_) | EngineError::ReadOnly(_) => Code::FailedPrecondition,
        EngineError::Unavailable(_) => Code::Unavailable,
        EngineError::TimedOut(_) => Code::DeadlineExceeded,
        EngineError::Exhausted(_) => Code::ResourceExhausted,
        EngineError::ImageVolume(cause) => code(cause),
        EngineError::Untrusted(_) => Code::Unknown,
        EngineError::Internal(_) => Code::Internal,
    }
}

/// The status for a failure of the image store. Clients branch on the first word of a failed pull, where it is one of the
/// few that the API names; the code is UNKNOWN then, as they expect it.
pub(crate) fn from_image(error: &ImageError) -> Status {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::RegistryUnavailable | ErrorKind::TooManyRequests => {
            with_text(Code::Unknown, &format!("RegistryUnavailable: {text}"))
        }
        ErrorKind::Untrusted => with_text(Code::Unknown, &format!("{UNTRUSTED}{text}")),
        ErrorKind::NotFound => with_text(Code::NotFound, &text),
        ErrorKind::Unauthorized => with_text(Code::Unauthenticated, &text),
        ErrorKind::Invalid => with_text(Code::InvalidArgument, &text),
        ErrorKind::LimitExceeded | ErrorKind::NoSpace => with_text(Code::ResourceExhausted, &text),
        ErrorKind::Cancelled => with_text(Code::Aborted, &text),
        ErrorKind::Corrupt => with_text(Code::DataLoss, &text),
        ErrorKind::Io => with_text(Code::Internal, &text),
    }
}

/// An object that is not there.
pub(crate) fn not_found(text: &str) -> Status {
    with_text(Code::NotFound, text)
}

/// An object in a state that the call can not work with.
pub(crate) fn precondition(text: &str) -> Status {
    with_text(Code::FailedPrecondition, text)
}

/// A streaming URL that can not be given.
pub(crate) fn no_token(none: &NoToken) -> Status {
    let code = match none {
        NoToken::TooMany => Code::ResourceExhausted,
        NoToken::Random(_) => Code::Internal,
    };
    with_text(code, &none.to_string())
}

/// An RPC that this version does not serve.
pub(crate) fn unimplemented(rpc: &'static str) -> Status {
    Status::unimplemented(format!("{rpc} is not served by this version of Podwright"))
}

/// A list that no single message can hold.
pub(crate) fn too_long(bytes: usize, streaming: &'static str) -> Status {
    let limit = crate::service::MAX_MESSAGE_BYTES;
    let text =
        format!("the list has {bytes} bytes and a message at most {limit}; call {streaming}, or filter the list");
    with_text(Code::ResourceExhausted, &text)
}

/// A listener that was too slow.
pub(crate) fn events_missed(missed: u64) -> Status {
    let text = format!(
        "{missed} events came faster than they were read and are lost; list anew and call GetContainerEvents again"
    );
    with_text(Code::Aborted, &text)
}

/// A call that would last longer than the daemon.
pub(crate) fn stopping() -> Status {
    with_text(Code::Unavailable, "the daemon is being stopped; call again when it is back")
}

/// A task of ours that ended without an answer.
pub(crate) fn lost(what: &str, cause: &dyn std::fmt::Display) -> Status {
    with_text(Code::Internal, &format!("{what}: the task ended without an answer: {cause}; see the daemon's log"))
}

/// A failure to hand a setting to the network.
pub(crate) fn network_refused(text: &str) -> Status {
    with_text(Code::FailedPrecondition, text)
}

fn with_text(code: Code, text: &str) -> Status {
    Status::new(code, cut(text, MAX_MESSAGE_BYTES))
}

/// The start of a text, cut between characters.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_an_invalid_argument_that_names_it() {
        let status = Status::from(BadField::new("config.metadata", "is missing"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "invalid request: config.metadata: is missing");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = from_engine(&EngineError::Internal("é".repeat(9000)));
        assert_eq!(status.message().len(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn what_kubelet_tolerates_has_its_code() {
        assert_eq!(from_engine(&EngineError::NotFound("x".into())).code(), Code::NotFound);
        assert_eq!(from_engine(&EngineError::TimedOut("x".into())).code(), Code::DeadlineExceeded);
        let refused = EngineError::ImageVolume(Box::new(EngineError::Invalid("no such directory".into())));
        let status = from_engine(&refused);
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "ImageVolumeMountFailed: no such directory")
        );
        let untrusted = from_engine(&EngineError::Untrusted("no signature".into()));
        assert_eq!((untrusted.code(), untrusted.message()), (Code::Unknown, "SignatureValidationFailed: no signature"));
        assert_eq!(unimplemented("Exec").code(), Code::Unimplemented);
    }
}
