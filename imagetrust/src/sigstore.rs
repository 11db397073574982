//! Public keys of cosign: PEM, over SHA-256, as sigstore's own tools take them.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use webpki::{Error, RawPublicKeyEntity, ring};

/// What such a key may be.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 4] =
    [ring::ECDSA_P256_SHA256, ring::ECDSA_P384_SHA256, ring::ED25519, ring::RSA_PKCS1_2048_8192_SHA256];

/// A key that can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    spki: SubjectPublicKeyInfoDer<'static>,
}

impl PublicKey {
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, String> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|error| format!("it holds no public key in PEM (BEGIN PUBLIC KEY): {error}"))?;
        let key = Self { spki };
        // An empty signature tells whether the kind of key is known.
        if ALGORITHMS.iter().any(|algorithm| !is_other_kind(&key.try_one(*algorithm, b"", b""))) {
            return Ok(key);
        }
        Err("it is a key of a kind that is not supported; use ECDSA P-256 or P-384, Ed25519, or RSA".to_owned())
    }

    /// Whether this key signed these bytes.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ALGORITHMS.iter().any(|algorithm| self.try_one(*algorithm, message, signature).is_ok())
    }

    /// Whether both are the same key.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.spki == other.spki
    }

    fn try_one(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        RawPublicKeyEntity::try_from(&self.spki)?.verify_signature(algorithm, message, signature)
    }
}

fn is_other_kind(result: &Result<(), Error>) -> bool {
    !matches!(result, Ok(()) | Err(Error::InvalidSignatureForPublicKey))
}

#[cfg(test)]
mod tests;
