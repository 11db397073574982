//! The node's private keys: PEM files in a directory, as CRI-O's `decryption_keys_path` has them.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use aws_lc_rs::rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey};
use podwright_sys::read_small_file;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::{ErrorKind, ImageError, Result};

/// Largest file of keys.
const MAX_FILE_BYTES: u64 = 64 << 10;
/// Most keys that are tried.
const MAX_KEYS: usize = 256;

/// All keys that could be read.
#[derive(Default)]
pub(super) struct PrivateKeys {
    pub(super) rsa: Vec<OaepPrivateDecryptingKey>,
    pub(super) elliptic: Vec<agreement::PrivateKey>,
    directory: Option<PathBuf>,
}

impl PrivateKeys {
    /// Reads the files of a directory. One that holds no key, or one of a kind that is not known, is told in the log and left out, so that
    /// it does not keep the others from their work. A directory that is not there has no keys.
    pub(super) fn read(directory: Option<&Path>) -> Result<Self> {
        let mut keys = Self { directory: directory.map(Path::to_owned), ..Self::default() };
        let Some(directory) = directory else { return Ok(keys) };
        let failed = |error| ImageError::io("list keys in", directory, error);
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(keys),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            // Those of a mounted Secret are links; its own directories begin with a dot.
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !is_hidden && !path.is_dir() {
                files.push(path);
            }
        }
        files.sort();
        for file in files {
            match read_small_file(&file, MAX_FILE_BYTES).and_then(|text| keys.add(&text)) {
                Ok(0) => {
                    tracing::warn!(file = %file.display(), "a file of decryption keys holds no private key in PEM")
                }
                Ok(_) => {}
                Err(cause) => tracing::warn!(file = %file.display(), cause, "a decryption key can not be used"),
            }
            if keys.count() > MAX_KEYS {
                let cause = format!("there are more than {MAX_KEYS} keys; remove those that are not needed");
                return Err(ImageError::new(ErrorKind::LimitExceeded, "read keys in", directory.display(), cause));
            }
        }
        Ok(keys)
    }

    /// One key on P-256, of 32 equal bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of_number(number: u8) -> Self {
        let key = agreement::PrivateKey::from_private_key(&ECDH_P256, &[number; 32]);
        Self { elliptic: key.into_iter().collect(), ..Self::default() }
    }

    fn count(&self) -> usize {
        self.rsa.len() + self.elliptic.len()
    }

    /// Takes the keys of one file; how many there were.
    fn add(&mut self, text: &[u8]) -> std::result::Result<usize, String> {
        let before = self.count();
        for key in PrivateKeyDer::pem_slice_iter(text) {
            // Nothing of the text is repeated.
            let key = key.map_err(|_| "it is no valid PEM; encrypted keys are not supported".to_owned())?;
            self.add_der(&key)?;
        }
        Ok(self.count() - before)
    }

    fn add_der(&mut self, key: &PrivateKeyDer<'_>) -> std::result::Result<(), String> {
        let (der, is_rsa) = match key {
            PrivateKeyDer::Pkcs1(key) => (pkcs8(key.secret_pkcs1_der()), true),
            PrivateKeyDer::Sec1(key) => (key.secret_sec1_der().to_vec(), false),
            PrivateKeyDer::Pkcs8(key) => (key.secret_pkcs8_der().to_vec(), true),
            _ => return Err("it is a key of an unknown kind".to_owned()),
        };
        for curve in [&ECDH_P256, &ECDH_P384, &ECDH_P521] {
            if let Ok(key) = agreement::PrivateKey::from_private_key_der(curve, &der) {
                self.elliptic.push(key);
                return Ok(());
            }
        }
        let rsa = PrivateDecryptingKey::from_pkcs8(&der).ok().and_then(|key| OaepPrivateDecryptingKey::new(key).ok());
        match rsa {
            Some(key) if is_rsa => {
                self.rsa.push(key);
                Ok(())
            }
            _ => Err("it is neither RSA of 2048 to 8192 bits nor on P-256, P-384 or P-521".to_owned()),
        }
    }
}

impl fmt::Display for PrivateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.directory {
            Some(directory) => write!(f, "{} (it has {})", directory.display(), self.count()),
            None => f.write_str("the configuration ([images] decryption_keys_dir is empty)"),
        }
    }
}

/// Wraps an RSA key of PKCS#1 into PKCS#8 (RFC 5208, 5): version 0, rsaEncryption, the key.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    const VERSION_AND_ALGORITHM: [u8; 18] =
        [2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let octets = tagged(4, pkcs1);
    tagged(0x30, &[VERSION_AND_ALGORITHM.as_slice(), &octets].concat())
}

/// A value in DER, with a length of two bytes, or of one.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).and_then(|at| length.get(at..)).unwrap_or_default();
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or_default());
            out.extend(long);
        }
    }
    out.extend(content);
    out
}
