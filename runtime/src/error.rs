//! Errors: those of the caller's side, and failures that a child tells about.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Why a process could not even be cloned, or its child not be heard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {step} {object}")]
    System {
        /// What was being done.
        step: &'static str,
        /// To what.
        object: String,
        /// Why it failed.
        #[source]
        cause: Errno,
    },
    /// The request can not be served as it is.
    #[error("{0}")]
    Invalid(String),
    /// The child that makes a pod's namespaces failed.
    #[error("cannot make the pod's namespaces")]
    Child(#[source] Failure),
}

impl Error {
    pub(crate) fn system(step: &'static str, object: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let object = object.into();
        move |cause| Self::System { step, object, cause }
    }
}

/// What kind of failure it is, as far as exit codes tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The program is not there: by convention exit code 127.
    ProgramNotFound,
    /// The program is there and can not be executed: 126.
    ProgramNotExecutable,
    /// Something before the program: 128.
    Setup,
}

/// A step that failed in the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Kind.
    pub kind: FailureKind,
    /// What was being done, as `mount`.
    pub step: String,
    /// To what, as `/etc/hosts`.
    pub object: String,
    /// Error number of the system call, 0 if none failed.
    pub errno: i32,
    /// The whole story in words.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A step that failed by a system call.
    pub(crate) fn errno(step: &str, object: impl fmt::Display, errno: Errno) -> Self {
        let object = object.to_string();
        let reason = std::io::Error::from(errno);
        let text = format!("cannot {step} {object}: {reason}");
        Self { kind: FailureKind::Setup, step: step.to_owned(), object, errno: errno.raw_os_error(), text }
    }

    /// A step that failed by what was asked for.
    pub(crate) fn because(step: &str, object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        let object = object.to_string();
        let text = format!("cannot {step} {object}: {reason}");
        Self { kind: FailureKind::Setup, step: step.to_owned(), object, errno: 0, text }
    }

    /// A step that failed by an error of the standard library.
    pub(crate) fn io(step: &str, object: impl fmt::Display, error: &std::io::Error) -> Self {
        let failure = Self::because(step, object, error);
        Self { errno: error.raw_os_error().unwrap_or(0), ..failure }
    }
}

/// Names the step and its object when a system call of the child fails.
pub(crate) trait Step<T> {
    /// `object` is evaluated only on failure.
    fn step<O: fmt::Display>(self, step: &str, object: impl FnOnce() -> O) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step<O: fmt::Display>(self, step: &str, object: impl FnOnce() -> O) -> Result<T, Failure> {
        self.map_err(|errno| Failure::errno(step, object(), errno))
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step<O: fmt::Display>(self, step: &str, object: impl FnOnce() -> O) -> Result<T, Failure> {
        self.map_err(|error| Failure::io(step, object(), &error))
    }
}
