//! Ids of pod sandboxes, containers and execs.
//!
//! An id becomes a file name, a cgroup name and part of a socket path, so the alphabet is small and the length bounded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id that is accepted, in bytes. Generated ids are 64 hexadecimal digits.
const MAX_ID_BYTES: usize = 64;

/// Why a string is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The string is empty.
    #[error("the id is empty; give the id that was returned when the object was created")]
    Empty,
    /// The string is longer than an id can be.
    #[error("the id is {length} bytes long; an id has at most {MAX_ID_BYTES}")]
    TooLong {
        /// Bytes in the rejected string.
        length: usize,
    },
    /// The string holds a character outside of `[a-z0-9-]`.
    #[error("the id has {character:?} at byte {position}; an id consists of a-z, 0-9 and '-'")]
    BadCharacter {
        /// The first rejected character.
        character: char,
        /// Its byte offset.
        position: usize,
    },
}

fn check(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { length: id.len() });
    }
    match id.char_indices().find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Some((position, character)) => Err(IdError::BadCharacter { character, position }),
        None => Ok(()),
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Makes the id of 32 random bytes, written as 64 hexadecimal digits.
            #[must_use]
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(bytes.iter().map(|b| format!("{b:02x}")).collect())
            }

            /// The id as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(id: &str) -> Result<Self, IdError> {
                check(id).map(|()| Self(id.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(id: String) -> Result<Self, IdError> {
                check(&id).map(|()| Self(id))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// Names one pod sandbox for its whole life.
    SandboxId
);
id_type!(
    /// Names one container for its whole life.
    ContainerId
);
id_type!(
    /// Names one process executed in a running container.
    ExecId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_could_leave_a_directory() {
        for bad in ["", ".", "..", "a/b", "a\0b", "A", "é", &"a".repeat(65)] {
            assert!(bad.parse::<SandboxId>().is_err(), "{bad:?} was taken as an id");
        }
    }

    #[test]
    fn random_bytes_make_a_valid_id() {
        let id = ContainerId::from_random([0xab; 32]);
        assert_eq!(id.as_str().parse::<ContainerId>().as_ref(), Ok(&id));
        assert_eq!(id.as_str().len(), 64);
    }
}
