//! `podwright images verify`: what is damaged in the image store, and what became of it.

use std::path::Path;

use anyhow::Result;
use podwright_admin_api::v1::{Damage, Remedy, VerifyImagesResponse};

use crate::client;

/// Prints what was found; whether all is well now.
pub(crate) async fn verify(state: &Path, repair: bool) -> Result<bool> {
    let found = client::verify_images(state, repair).await?;
    print!("{}", human(&found));
    Ok(is_whole(&found))
}

fn is_whole(found: &VerifyImagesResponse) -> bool {
    found.damages.iter().all(|damage| matches!(damage.remedy(), Remedy::Fetched | Remedy::Unpacked))
}

fn human(found: &VerifyImagesResponse) -> String {
    let mut text: String = found.damages.iter().map(line).collect();
    let VerifyImagesResponse { images, blobs, layers, damages } = found;
    text.push_str(&format!("images {images}, blobs {blobs}, layers {layers}, damaged {}\n", damages.len()));
    text
}

fn line(damage: &Damage) -> String {
    let (grade, after) = match damage.remedy() {
        Remedy::Fetched => ("OK", "it was fetched again".to_owned()),
        Remedy::Unpacked => ("OK", "it was unpacked again".to_owned()),
        Remedy::Failed => ("FAIL", format!("it is not mended: {}", damage.failure)),
        Remedy::None | Remedy::Unspecified => ("FAIL", "run this without --no-repair to mend it".to_owned()),
    };
    format!("{grade:4}  {} of {}: {}; {after}\n", damage.part, damage.images.join(", "), damage.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_and_mended_is_told() {
        let damage = |remedy: Remedy| Damage {
            part: "blob sha256:ab".into(),
            images: vec!["r/a:1".into(), "r/b:1".into()],
            what: "it is gone".into(),
            remedy: remedy.into(),
            failure: "no registry".into(),
        };
        let mut found = VerifyImagesResponse { images: 2, blobs: 9, layers: 4, damages: vec![damage(Remedy::Fetched)] };
        assert_eq!(
            human(&found),
            "OK    blob sha256:ab of r/a:1, r/b:1: it is gone; it was fetched again\nimages 2, blobs 9, layers 4, damaged 1\n"
        );
        assert!(is_whole(&found));
        for remedy in [Remedy::Failed, Remedy::None] {
            found.damages = vec![damage(remedy)];
            assert!(!is_whole(&found) && human(&found).starts_with("FAIL"));
        }
        assert!(human(&found).contains("--no-repair"));
    }
}
