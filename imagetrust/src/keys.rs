//! Keys as a policy names them: by file or in its own text.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

/// Most bytes of a key file.
const MAX_KEY_BYTES: u64 = 4 << 20;

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In the policy.
    Data(Vec<u8>),
}

/// A key's bytes, and what to call them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyBytes {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl KeySource {
    pub(crate) fn read(&self) -> Result<KeyBytes, String> {
        match self {
            Self::Data(bytes) => Ok(KeyBytes { name: "the key in the policy".to_owned(), bytes: bytes.clone() }),
            Self::File(path) => {
                let failed =
                    |cause: &dyn std::fmt::Display| format!("the key {} can not be read: {cause}", path.display());
                // A pipe would be waited for without end.
                if !std::fs::metadata(path).map_err(|error| failed(&error))?.is_file() {
                    return Err(failed(&"it is no file"));
                }
                let mut bytes = Vec::new();
                let file = File::open(path).map_err(|error| failed(&error))?;
                file.take(MAX_KEY_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
                if bytes.len() as u64 > MAX_KEY_BYTES {
                    return Err(failed(&format_args!("it has more than {MAX_KEY_BYTES} bytes")));
                }
                Ok(KeyBytes { name: format!("the key {}", path.display()), bytes })
            }
        }
    }
}
