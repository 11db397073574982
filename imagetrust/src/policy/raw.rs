//! The file as it is written, and what is made of each requirement.

use serde::Deserialize;
use serde_json::Value;

use super::Requirement;
use crate::identity::Identity;
use crate::json::UniqueMap;
use crate::keys::KeySource;
use crate::rekor::decoded;

/// A list of requirements.
pub(super) type Requirements = Vec<RawRequirement>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) default: Requirements,
    #[serde(default)]
    pub(super) transports: UniqueMap<UniqueMap<Requirements>>,
}

/// One requirement, with the fields of all types.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawRequirement {
    #[serde(rename = "type")]
    kind: String,
    key_type: Option<String>,
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<Value>,
    pki: Option<Value>,
    rekor_public_key_path: Option<String>,
    rekor_public_key_paths: Option<Vec<String>>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Option<Vec<String>>,
    base_layer_identity: Option<Value>,
    signed_identity: Option<RawIdentity>,
}

/// `signedIdentity`, with the fields of all types.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RawIdentity {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) docker_reference: Option<String>,
    pub(crate) docker_repository: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) signed_prefix: Option<String>,
}

/// The four ways in which a key or keys may be given.
struct Given {
    field: &'static str,
    path: Option<String>,
    paths: Option<Vec<String>>,
    data: Option<String>,
    datas: Option<Vec<String>>,
}

impl RawRequirement {
    pub(super) fn converted(self) -> Result<Requirement, String> {
        match self.kind.as_str() {
            "insecureAcceptAnything" => self.without_fields().map(|()| Requirement::Accept),
            "reject" => self.without_fields().map(|()| Requirement::Reject),
            "signedBy" => self.signed_by(),
            "sigstoreSigned" => self.sigstore_signed(),
            "signedBaseLayer" => Ok(unsupported("signedBaseLayer is verified by no tool; require signedBy")),
            "" => Err("the type is missing".to_owned()),
            other => Err(format!("the type {other:?} is unknown")),
        }
    }

    fn without_fields(self) -> Result<(), String> {
        let kind = self.kind.clone();
        let is_plain = self.key_type.is_none() && self.signed_identity.is_none() && self.has_no_keys();
        if is_plain && self.has_no_sigstore() { Ok(()) } else { Err(format!("{kind} takes no other fields")) }
    }

    fn has_no_keys(&self) -> bool {
        self.key_path.is_none() && self.key_paths.is_none() && self.key_data.is_none() && self.key_datas.is_none()
    }

    fn has_no_sigstore(&self) -> bool {
        let Self { fulcio, pki, base_layer_identity, .. } = self;
        let rekor = (&self.rekor_public_key_path, &self.rekor_public_key_paths);
        let rekor_data = (&self.rekor_public_key_data, &self.rekor_public_key_datas);
        fulcio.is_none()
            && pki.is_none()
            && base_layer_identity.is_none()
            && matches!((rekor, rekor_data), ((None, None), (None, None)))
    }

    fn signed_by(self) -> Result<Requirement, String> {
        if !self.has_no_sigstore() || self.key_datas.is_some() {
            return Err("signedBy takes keyType, keyPath, keyPaths, keyData and signedIdentity only".to_owned());
        }
        let identity = identity(self.signed_identity)?;
        let given =
            Given { field: "key", path: self.key_path, paths: self.key_paths, data: self.key_data, datas: None };
        let keys = given.one()?;
        match self.key_type.as_deref() {
            Some("GPGKeys") => Ok(Requirement::SignedBy { keys, identity }),
            Some(other @ ("signedByGPGKeys" | "X509Certificates" | "signedByX509CAs")) => {
                Ok(unsupported(&format!("keyType {other} is verified by no tool; require GPGKeys")))
            }
            Some(other) => Err(format!("keyType {other:?} is unknown; write \"GPGKeys\"")),
            None => Err("keyType is missing; write \"GPGKeys\"".to_owned()),
        }
    }

    fn sigstore_signed(self) -> Result<Requirement, String> {
        if self.key_type.is_some() || self.base_layer_identity.is_some() {
            return Err("sigstoreSigned takes neither keyType nor baseLayerIdentity".to_owned());
        }
        let has_keys = !self.has_no_keys();
        let ways = usize::from(has_keys) + usize::from(self.fulcio.is_some()) + usize::from(self.pki.is_some());
        if ways != 1 {
            return Err(
                "sigstoreSigned wants exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio, pki".to_owned()
            );
        }
        let identity = identity(self.signed_identity)?;
        let logs = Given {
            field: "rekorPublicKey",
            path: self.rekor_public_key_path,
            paths: self.rekor_public_key_paths,
            data: self.rekor_public_key_data,
            datas: self.rekor_public_key_datas,
        };
        let logs = logs.optional()?;
        if !has_keys {
            let what = if self.fulcio.is_some() { "fulcio" } else { "pki" };
            let text = format!(
                "sigstoreSigned with {what} (signing without a key of one's own) is not verified; require a key by keyPath"
            );
            return Ok(unsupported(&text));
        }
        let given = Given {
            field: "key",
            path: self.key_path,
            paths: self.key_paths,
            data: self.key_data,
            datas: self.key_datas,
        };
        Ok(Requirement::SigstoreSigned { keys: given.one()?, logs, identity })
    }
}

impl Given {
    fn one(self) -> Result<Vec<KeySource>, String> {
        let field = self.field;
        let keys = self.optional()?;
        if keys.is_empty() {
            Err(format!("no key is given; write {field}Path, {field}Paths or {field}Data"))
        } else {
            Ok(keys)
        }
    }

    /// Nothing, or exactly one of the ways.
    fn optional(self) -> Result<Vec<KeySource>, String> {
        let field = self.field;
        let plural = |list: &Vec<String>| {
            if list.is_empty() { Err(format!("{field}Paths or {field}Datas is an empty list")) } else { Ok(()) }
        };
        match (self.path, self.paths, self.data, self.datas) {
            (None, None, None, None) => Ok(Vec::new()),
            (Some(path), None, None, None) => Ok(vec![file(&path)?]),
            (None, Some(paths), None, None) => {
                plural(&paths).and_then(|()| paths.iter().map(|path| file(path)).collect())
            }
            (None, None, Some(text), None) => Ok(vec![data(field, &text)?]),
            (None, None, None, Some(texts)) => {
                plural(&texts).and_then(|()| texts.iter().map(|text| data(field, text)).collect())
            }
            _ => Err(format!("only one of {field}Path, {field}Paths, {field}Data and {field}Datas can be given")),
        }
    }
}

fn file(path: &str) -> Result<KeySource, String> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(KeySource::File(path.into()));
    }
    Err(format!("the key's path {path:?} is not absolute"))
}

fn data(field: &str, text: &str) -> Result<KeySource, String> {
    decoded(&format!("{field}Data"), text).map(KeySource::Data)
}

fn identity(raw: Option<RawIdentity>) -> Result<Identity, String> {
    raw.map_or(Ok(Identity::RepoDigestOrExact), Identity::from_raw)
}

fn unsupported(text: &str) -> Requirement {
    Requirement::Unsupported(text.to_owned())
}
