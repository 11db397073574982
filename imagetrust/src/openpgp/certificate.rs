//! What a certificate says about its own keys: whether one may sign, and until when.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{Duration, KeyDetails as _, Tag};

/// How long something holds, in seconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Life {
    until: Option<u64>,
}

impl Life {
    pub(super) fn of(created: u64, lasts: Option<Duration>) -> Self {
        let lasts = lasts.map(|lasts| std::time::Duration::from(lasts).as_secs()).filter(|seconds| *seconds > 0);
        Self { until: lasts.map(|seconds| created.saturating_add(seconds)) }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { until: [self.until, other.until].into_iter().flatten().min() }
    }

    pub(super) fn until(self) -> Option<u64> {
        self.until
    }

    pub(super) fn is_over(self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A signature must not say anything important that nobody here understands, nor be over a digest for which others can be found. SHA-1 is
/// left for what keys say about themselves, as old keys have no other; the library refuses known collisions in it.
pub(super) fn check_own(signature: &Signature) -> Result<(), String> {
    if matches!(signature.hash_alg(), Some(HashAlgorithm::Md5 | HashAlgorithm::Ripemd160) | None) {
        return Err("its digest algorithm is broken or unknown".to_owned());
    }
    let config = signature.config().ok_or_else(|| "its version is unknown".to_owned())?;
    let is_known = |data: &SubpacketData| !matches!(data, SubpacketData::Experimental(..) | SubpacketData::Other(..));
    if config.hashed_subpackets().any(|subpacket| subpacket.is_critical && !is_known(&subpacket.data)) {
        return Err("it says something critical that is not understood".to_owned());
    }
    Ok(())
}

/// Whether the primary key may sign now.
pub(super) fn primary_may_sign(certificate: &SignedPublicKey, now: u64) -> Result<Life, String> {
    let (binding, life) = primary_is_alive(certificate, now)?;
    if may_sign(binding) { Ok(life) } else { Err(format!("its key {} is not for signing", name(certificate))) }
}

/// Whether a subkey may sign now.
pub(super) fn subkey_may_sign(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: u64,
) -> Result<Life, String> {
    let (_, primary_life) = primary_is_alive(certificate, now)?;
    let primary = &certificate.primary_key;
    // Whatever takes trust away counts, however badly it is made.
    let holds = |signature: &&Signature| {
        (is_revocation(signature) || check_own(signature).is_ok())
            && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    };
    let of_type = |typ: SignatureType| subkey.signatures.iter().filter(move |one| one.typ() == Some(typ)).filter(holds);
    let shown = subkey.key.fingerprint();
    if of_type(SignatureType::SubkeyRevocation).next().is_some() {
        return Err(format!("its key {shown} is revoked"));
    }
    let binding = of_type(SignatureType::SubkeyBinding).max_by_key(|binding| created(binding));
    let binding = binding.ok_or_else(|| format!("its key {shown} is not bound to {}", name(certificate)))?;
    let binds_back = binding.embedded_signature().is_some_and(|back| {
        back.typ() == Some(SignatureType::KeyBinding)
            && check_own(back).is_ok()
            && back.verify_primary_key_binding(&subkey.key, primary).is_ok()
    });
    if !may_sign(binding) || !binds_back {
        return Err(format!("its key {shown} is not for signing"));
    }
    let life = Life::of(u64::from(subkey.key.created_at().as_secs()), binding.key_expiration_time());
    if life.is_over(now) { Err(format!("its key {shown} is expired")) } else { Ok(life.and(primary_life)) }
}

/// The newest of the primary key's signatures over itself.
fn primary_is_alive(certificate: &SignedPublicKey, now: u64) -> Result<(&Signature, Life), String> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err(format!("its key {} is revoked", name(certificate)));
    }
    let direct = details.direct_signatures.iter().filter(|one| {
        one.typ() == Some(SignatureType::Key) && check_own(one).is_ok() && one.verify_key(primary).is_ok()
    });
    let users = details.users.iter().filter_map(|user| {
        let own = user.signatures.iter().filter(|one| {
            (is_revocation(one) || check_own(one).is_ok())
                && one.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        });
        // A later revocation of the name takes what an earlier signature over it says away.
        own.max_by_key(|one| created(one))
            .filter(|one| one.is_certification() && one.typ() != Some(SignatureType::CertRevocation))
    });
    let newest = direct.chain(users).max_by_key(|one| created(one));
    let newest = newest.ok_or_else(|| format!("its key {} has no good signature over itself", name(certificate)))?;
    let life = Life::of(u64::from(primary.created_at().as_secs()), newest.key_expiration_time());
    if life.is_over(now) { Err(format!("its key {} is expired", name(certificate))) } else { Ok((newest, life)) }
}

/// Without a word about it, a key may do all that it can.
fn may_sign(binding: &Signature) -> bool {
    let says = binding.config().is_some_and(|config| {
        config.hashed_subpackets().any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    });
    !says || binding.key_flags().sign()
}

fn is_revocation(signature: &Signature) -> bool {
    matches!(signature.typ(), Some(SignatureType::SubkeyRevocation | SignatureType::CertRevocation))
}

fn created(signature: &Signature) -> u64 {
    signature.created().map_or(0, |created| u64::from(created.as_secs()))
}

fn name(certificate: &SignedPublicKey) -> String {
    certificate.primary_key.fingerprint().to_string()
}
