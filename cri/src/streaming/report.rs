//! What the error stream says at the end of a session: a `Status` document of Kubernetes since v4, plain text before it.

use podwright_podsandbox::EngineError;
use serde_json::{Value, json};

use super::limits::MAX_ERROR_BYTES;
use super::version::Version;
use crate::status::cut;

/// How a session ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The container attached to ended, or gave no more.
    Over,
    /// The command ended.
    Exited(i32),
    /// There was no session, or its end is not known.
    Failed(EngineError),
}

/// The words for the error stream; none is success before v4.
pub(super) fn words(version: Version, outcome: &Outcome) -> Vec<u8> {
    match version {
        Version::V4 | Version::V5 => document(outcome).to_string().into_bytes(),
        Version::V1 | Version::V2 | Version::V3 => text(outcome).into_bytes(),
    }
}

fn document(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Over | Outcome::Exited(0) => json!({"metadata": {}, "status": "Success"}),
        Outcome::Exited(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": text(outcome),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Outcome::Failed(_) => json!({
            "metadata": {},
            "status": "Failure",
            "message": text(outcome),
            "reason": "InternalError",
            "details": {"causes": [{"message": text(outcome)}]},
            "code": 500,
        }),
    }
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Over | Outcome::Exited(0) => String::new(),
        Outcome::Exited(code) => format!("command terminated with exit code {code}"),
        Outcome::Failed(error) => cut(&error.to_string(), MAX_ERROR_BYTES).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(version: Version, outcome: &Outcome) -> Value {
        serde_json::from_slice(&words(version, outcome)).unwrap()
    }

    #[test]
    fn exit_codes_are_told_as_kubectl_reads_them() {
        let failed = parsed(Version::V4, &Outcome::Exited(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(parsed(Version::V5, &Outcome::Exited(0))["status"], "Success");
        assert_eq!(parsed(Version::V4, &Outcome::Over)["status"], "Success");
    }

    #[test]
    fn old_clients_get_text_or_nothing() {
        for version in [Version::V1, Version::V2, Version::V3] {
            assert!(words(version, &Outcome::Exited(0)).is_empty());
            assert_eq!(words(version, &Outcome::Exited(3)), b"command terminated with exit code 3");
        }
    }

    #[test]
    fn failures_are_told_in_full() {
        let error = EngineError::NotFound("no container c".into());
        let failed = parsed(Version::V4, &Outcome::Failed(error.clone()));
        assert_eq!((&failed["reason"], &failed["message"]), (&json!("InternalError"), &json!("no container c")));
        assert_eq!(words(Version::V1, &Outcome::Failed(error)), b"no container c");
    }
}
