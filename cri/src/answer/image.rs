//! An image, as lists and its status tell it.

use std::collections::BTreeMap;

use podwright_cri_api::v1;
use podwright_imageservice::{ImageInfo, ImageUser};
use serde_json::{Value, json};

/// An image.
pub(crate) fn image(image: &ImageInfo) -> v1::Image {
    let (uid, username) = match &image.user {
        ImageUser::Uid(uid) => (Some(v1::Int64Value { value: i64::from(*uid) }), String::new()),
        ImageUser::Name(name) => (None, name.clone()),
    };
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size_bytes,
        uid,
        username,
        spec: None,
        pinned: image.pinned,
    }
}

/// The verbose part: the image's own configuration, where tools look for it.
pub(crate) fn image_info(image: &ImageInfo) -> BTreeMap<String, String> {
    let spec: Value = serde_json::from_str(&image.config_json).unwrap_or(Value::Null);
    let info = json!({ "chainID": "", "imageSpec": spec });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
