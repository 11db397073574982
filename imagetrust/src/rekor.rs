//! The promise of a transparency log (rekor): that it has entered this very signature, by this key, over this payload.
//!
//! The log signs the entry in canonical JSON (RFC 8785), which is written here anew from what was read, so that nothing is compared that
//! was not signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::sigstore::PublicKey;

/// A signature with what belongs to it.
pub(crate) struct Signed<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a str,
    pub(crate) bundle: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Entry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// The entry's own text; of it only what is compared is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: EntrySignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntrySignature {
    content: String,
    public_key: EntryKey,
}

#[derive(Deserialize)]
struct EntryKey {
    content: String,
}

/// Checks the log's promise.
pub(crate) fn check(signed: &Signed<'_>, key: &PublicKey, logs: &[PublicKey]) -> Result<(), String> {
    let bundle = signed.bundle.ok_or_else(|| "no transparency log's entry is with it".to_owned())?;
    let bundle: Bundle =
        serde_json::from_str(bundle).map_err(|error| format!("its entry in the log can not be read: {error}"))?;
    let promise = decoded("the log's signature", &bundle.signed_entry_timestamp)?;
    let text = canonical(&bundle.payload)?;
    if !logs.iter().any(|log| log.verifies(text.as_bytes(), &promise)) {
        return Err("its entry is not signed by this transparency log".to_owned());
    }
    let body = decoded("its entry in the log", &bundle.payload.body)?;
    let body: Body =
        serde_json::from_slice(&body).map_err(|error| format!("its entry in the log can not be read: {error}"))?;
    if body.kind != "hashedrekord" || body.api_version != "0.0.1" {
        return Err("its entry in the log is of another kind than hashedrekord 0.0.1".to_owned());
    }
    let hex: String = Sha256::digest(signed.payload).iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = &body.spec.data.hash;
    let same_data = hash.algorithm == "sha256" && hash.value == hex;
    let entered = &body.spec.signature;
    let same_signature =
        decoded("the signature in the log", &entered.content)? == decoded("the signature", signed.signature)?;
    let entered_key = PublicKey::parse(&decoded("the key in the log", &entered.public_key.content)?)?;
    if same_data && same_signature && entered_key.is(key) {
        return Ok(());
    }
    Err("its entry in the log is about another signature".to_owned())
}

/// Base64, within an error's words. Lines may be broken, as the tools that write it read it.
pub(crate) fn decoded(what: &str, text: &str) -> Result<Vec<u8>, String> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).map_err(|error| format!("{what} is no base64: {error}"))
}

/// The entry as the log signed it: keys in order, no blanks.
fn canonical(entry: &Entry) -> Result<String, String> {
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if !is_plain(&entry.body) || !is_plain(&entry.log_id) {
        return Err("its entry in the log holds characters that it can not hold".to_owned());
    }
    let Entry { body, integrated_time, log_index, log_id } = entry;
    Ok(format!(r#"{{"body":"{body}","integratedTime":{integrated_time},"logID":"{log_id}","logIndex":{log_index}}}"#))
}
