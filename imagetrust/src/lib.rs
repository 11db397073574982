//! Who may have signed an image: containers' `policy.json`, what signatures say, and whether they hold.
//!
//! Owns the language of policies (containers-policy.json(5)), the formats of signatures (simple signing, cosign's), keys, and
//! `registries.d` (containers-registries.d(5)), which says where signatures are. Fetching signatures, and when a policy is asked, are
//! left to the image service. Reads files of the node's administrator; everything else is bytes.

#![forbid(unsafe_code)]

mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identity;
mod json;
mod judge;
mod keys;
mod openpgp;
mod payload;
mod places;
mod policy;
mod rekor;
mod scope;
mod sigstore;

pub use error::{PlacesError, PolicyError, Untrusted};
pub use judge::{Accepted, Material, Wanted};
pub use places::{Places, read_places};
pub use policy::{Policy, Rule};

/// A signature as it was found, nothing of it checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// Simple signing: an OpenPGP message around the payload.
    Simple(Vec<u8>),
    /// Cosign's: a payload, its signature, and what a transparency log said about them.
    Sigstore {
        /// What was signed.
        payload: Vec<u8>,
        /// The signature, in base64.
        signature: String,
        /// The log's entry, as JSON.
        bundle: Option<String>,
    },
}
