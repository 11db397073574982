//! What a signature is over: a small JSON text that names the image and the digest of its manifest.

use podwright_types::Digest;
use serde::Deserialize;
use serde_json::Value;

/// `critical.type` of simple signing.
pub(crate) const SIMPLE: &str = "atomic container signature";
/// `critical.type` of cosign.
pub(crate) const COSIGN: &str = "cosign container image signature";

/// What was signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) digest: Digest,
    pub(crate) reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    critical: Critical,
    // Who made it, with what and when: by no means part of the decision.
    #[serde(rename = "optional")]
    _optional: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

/// Reads a payload whose signature was found to be good. Fields that are unknown, missing or there twice are errors: they could mean
/// something to who signed.
pub(crate) fn parse(bytes: &[u8], kind: &str) -> Result<Payload, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("what it signs can not be read: {error}"))?;
    if raw.critical.kind != kind {
        return Err(format!("what it signs is no {kind:?}"));
    }
    let digest =
        raw.critical.image.digest.parse().map_err(|error| format!("what it signs names no digest: {error}"))?;
    Ok(Payload { digest, reference: raw.critical.identity.reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(digest: &str, kind: &str, more: &str) -> String {
        format!(
            r#"{{"critical":{{"type":"{kind}","image":{{"docker-manifest-digest":"{digest}"}},"identity":{{"docker-reference":"r.example/a:v1"}}}},"optional":null{more}}}"#
        )
    }

    #[test]
    fn a_payload_says_no_more_and_no_less_than_it_must() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = parse(text(&digest, COSIGN, "").as_bytes(), COSIGN).unwrap();
        assert_eq!((good.digest.as_str(), good.reference.as_str()), (digest.as_str(), "r.example/a:v1"));
        for bad in [
            text(&digest, SIMPLE, ""),
            text("sha256:aa", COSIGN, ""),
            text(&digest, COSIGN, r#","more":1"#),
            text(&digest, COSIGN, r#","optional":{}"#),
            text(&digest, COSIGN, "").replace(r#","optional":null"#, ""),
            text(&digest, COSIGN, "").replace(r#""type""#, r#""type":"x","type""#),
            text(&digest, COSIGN, "") + "{}",
            String::new(),
        ] {
            assert!(parse(bad.as_bytes(), COSIGN).is_err(), "{bad}");
        }
    }
}
