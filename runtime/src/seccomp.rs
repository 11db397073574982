//! Seccomp: from an OCI profile to a filter in the kernel.
//!
//! Owns the compiler from `linux.seccomp` to classic BPF, our own default profile, and the reading of profiles in the format
//! that Docker and Kubernetes share. Whether a container gets a filter, and which, is decided elsewhere.
//!
//! Follows `seccomp(2)` and the OCI runtime specification, "Seccomp".

mod arch;
mod assembler;
mod compile;
mod default_profile;
mod profile;

pub use compile::{Filter, compile};
pub use default_profile::runtime_default;
pub use profile::parse_profile;

/// Why a profile makes no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The profile is no JSON of the known shape.
    #[error("the seccomp profile is no JSON in the format of Docker and Kubernetes: {0}")]
    Json(#[source] serde_json::Error),
    /// A word of the profile is not known.
    #[error("the seccomp profile has {field} {value:?}, which is not one of the OCI runtime specification's")]
    UnknownWord {
        /// Key of the profile.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A rule could not be built.
    #[error("a seccomp rule could not be built")]
    Rule(#[from] oci_spec::OciSpecError),
    /// An argument index over 5.
    #[error("the seccomp profile compares argument {index} of {syscall}; system calls have arguments 0 to 5")]
    BadArgument {
        /// System call.
        syscall: String,
        /// Index as given.
        index: usize,
    },
    /// User space is to decide.
    #[error("the seccomp profile uses SCMP_ACT_NOTIFY, for which no agent can be connected; use another action")]
    NotifyUnsupported,
    /// The profile is for other machines.
    #[error(
        "the seccomp profile names no architecture of this machine ({native}); add it or leave `architectures` out"
    )]
    ForeignArchitecture {
        /// Name of this machine's architecture.
        native: &'static str,
    },
    /// The kernel takes 4096 instructions.
    #[error("the seccomp profile needs {instructions} BPF instructions; the kernel takes at most {limit}", limit = assembler::MAX_INSTRUCTIONS)]
    TooLong {
        /// Instructions needed.
        instructions: usize,
    },
}
