//! What a look at the image store found, in the admin API's words.

use podwright_admin_api::v1::{self, VerifyImagesResponse};
use podwright_imageservice::{Damage, ErrorKind, ImageError, Remedy, Verification};
use tonic::Status;

use crate::ports::whole_text;

pub(super) fn told(found: Verification) -> VerifyImagesResponse {
    VerifyImagesResponse {
        images: found.images as u64,
        blobs: found.blobs as u64,
        layers: found.layers as u64,
        damages: found.damages.into_iter().map(damage).collect(),
    }
}

fn damage(damage: Damage) -> v1::Damage {
    let (remedy, failure) = match damage.remedy {
        Remedy::None => (v1::Remedy::None, String::new()),
        Remedy::Fetched => (v1::Remedy::Fetched, String::new()),
        Remedy::Unpacked => (v1::Remedy::Unpacked, String::new()),
        Remedy::Failed(why) => (v1::Remedy::Failed, why),
    };
    v1::Damage { part: damage.part, images: damage.images, what: damage.what, remedy: remedy.into(), failure }
}

pub(super) fn failed(error: &ImageError) -> Status {
    let text = whole_text(error);
    match error.kind() {
        ErrorKind::Invalid => Status::failed_precondition(text),
        ErrorKind::NoSpace => Status::resource_exhausted(text),
        ErrorKind::NotFound
        | ErrorKind::Unauthorized
        | ErrorKind::RegistryUnavailable
        | ErrorKind::TooManyRequests
        | ErrorKind::Corrupt
        | ErrorKind::Untrusted
        | ErrorKind::LimitExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Io => Status::internal(text),
    }
}
