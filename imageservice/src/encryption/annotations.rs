//! The annotations of an encrypted layer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::decrypting::LayerKey;

/// What the media type of an encrypted layer ends with.
pub(crate) const MEDIA_TYPE_SUFFIX: &str = "+encrypted";
/// What the annotations begin with that are about encryption.
pub(crate) const ANNOTATIONS: &str = "org.opencontainers.image.enc.";
/// Keys for recipients; what follows is the scheme.
const KEYS: &str = "org.opencontainers.image.enc.keys.";
/// What everybody may know.
const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
/// The one cipher that there is.
const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";

/// A layer's annotations, parsed as far as it goes without a key.
#[derive(Debug)]
pub(super) struct Sealed {
    /// JWE texts, one of which is to be opened.
    pub(super) for_jwe: Vec<Vec<u8>>,
    /// Other schemes that have keys.
    pub(super) for_others: Vec<String>,
    hmac: Vec<u8>,
}

#[derive(Deserialize)]
struct Public {
    #[serde(default)]
    cipher: String,
    #[serde(default)]
    hmac: String,
}

#[derive(Deserialize)]
struct Private {
    symkey: String,
    #[serde(default)]
    cipheroptions: BTreeMap<String, String>,
}

impl Sealed {
    /// Parses; the error is what is wrong.
    pub(super) fn parse(annotations: Option<&BTreeMap<String, String>>) -> Result<Self, String> {
        let none = BTreeMap::new();
        let annotations = annotations.unwrap_or(&none);
        let options =
            annotations.get(PUBLIC_OPTIONS).ok_or_else(|| format!("it has no annotation {PUBLIC_OPTIONS}"))?;
        let bad = || format!("its annotation {PUBLIC_OPTIONS} is malformed");
        let options: Public =
            STANDARD.decode(options).ok().and_then(|text| serde_json::from_slice(&text).ok()).ok_or_else(bad)?;
        if options.cipher != CIPHER {
            return Err(format!("its cipher is {:?}; only {CIPHER} is known", options.cipher));
        }
        let hmac = STANDARD.decode(&options.hmac).map_err(|_| bad())?;
        let mut sealed = Self { for_jwe: Vec::new(), for_others: Vec::new(), hmac };
        for (key, value) in annotations {
            match key.strip_prefix(KEYS) {
                Some("jwe") => {
                    let texts = value.split(',').map(|text| STANDARD.decode(text)).collect::<Result<_, _>>();
                    sealed.for_jwe = texts.map_err(|_| format!("its annotation {key} is no list of base64"))?;
                }
                Some(other) => sealed.for_others.push(other.to_owned()),
                None => {}
            }
        }
        Ok(sealed)
    }

    /// The layer's key, from what its recipient alone can read.
    pub(super) fn key(&self, opened: &[u8]) -> Result<LayerKey, String> {
        // Nothing of this text is repeated in an error: it is secret.
        let bad = || "what is encrypted for us is no key of a layer; push the image again".to_owned();
        let private: Private = serde_json::from_slice(opened).map_err(|_| bad())?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| bad());
        let nonce = private.cipheroptions.get("nonce").ok_or_else(bad)?;
        Ok(LayerKey {
            key: decode(&private.symkey)?.try_into().map_err(|_| bad())?,
            nonce: decode(nonce)?.try_into().map_err(|_| bad())?,
            hmac: self.hmac.clone(),
        })
    }
}
