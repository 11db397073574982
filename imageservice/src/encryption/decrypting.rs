//! The content of an encrypted layer: AES-256 in counter mode, with an HMAC over what is encrypted.

use std::fmt;
use std::io::{BufRead, Error, ErrorKind, Read, Result};

use aws_lc_rs::cipher::{AES_256, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

/// Bytes that are decrypted at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// What the cipher wants room for beyond what goes in.
const CIPHER_BLOCK_BYTES: usize = 16;

/// What opens a layer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LayerKey {
    pub(super) key: [u8; 32],
    pub(super) nonce: [u8; 16],
    /// Of all that is encrypted.
    pub(super) hmac: Vec<u8>,
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey")
    }
}

/// Reads the layer that a blob holds. What comes out is only known to be right when the end was read without an error.
pub(crate) struct Decrypting<R: BufRead> {
    source: R,
    cipher: StreamingDecryptingKey,
    hmac: hmac::Context,
    expected: Vec<u8>,
    plain: Vec<u8>,
    /// What of `plain` is filled, and how much of that was taken.
    filled: usize,
    taken: usize,
    end: Option<std::result::Result<(), Tampered>>,
}

/// The content is not what was encrypted.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("its content is not what was encrypted with its key (the HMAC differs)")]
pub(crate) struct Tampered;

impl<R: BufRead> Decrypting<R> {
    pub(crate) fn new(source: R, key: &LayerKey) -> Result<Self> {
        let failed = |_| Error::other("AES-256 can not be set up");
        let unbound = UnboundCipherKey::new(&AES_256, &key.key).map_err(failed)?;
        let cipher =
            StreamingDecryptingKey::ctr(unbound, DecryptionContext::Iv128((&key.nonce).into())).map_err(failed)?;
        Ok(Self {
            source,
            cipher,
            hmac: hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key.key)),
            expected: key.hmac.clone(),
            plain: vec![0; BLOCK_BYTES + CIPHER_BLOCK_BYTES],
            filled: 0,
            taken: 0,
            end: None,
        })
    }

    /// Reads what is left, and says whether all of it was right.
    pub(crate) fn finish(mut self) -> Result<()> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }

    fn verify(&self) -> std::result::Result<(), Tampered> {
        let found = self.hmac.clone().sign();
        verify_slices_are_equal(found.as_ref(), &self.expected).map_err(|_| Tampered)
    }
}

impl<R: BufRead> BufRead for Decrypting<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.taken >= self.filled && self.end.is_none() {
            (self.filled, self.taken) = (0, 0);
            let available = self.source.fill_buf()?;
            let sealed = available.get(..available.len().min(BLOCK_BYTES)).unwrap_or(available);
            if sealed.is_empty() {
                self.end = Some(self.verify());
            } else {
                self.hmac.update(sealed);
                let update = self.cipher.update(sealed, &mut self.plain);
                self.filled = update.map_err(|_| Error::other("AES-256 failed"))?.written().len();
                let length = sealed.len();
                self.source.consume(length);
            }
        }
        match self.end {
            Some(Err(tampered)) => Err(Error::new(ErrorKind::InvalidData, tampered)),
            Some(Ok(())) | None => Ok(self.plain.get(self.taken..self.filled).unwrap_or_default()),
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.filled);
    }
}

impl<R: BufRead> Read for Decrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
