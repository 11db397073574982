//! Manifests that are taken and those that are refused.

use proptest::prelude::*;

use super::*;
use crate::image::ImageUser;

fn hex(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn image_json(media_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"x","digest":"sha256:{}","size":2}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{}","size":3}}]}}"#,
        hex('a'),
        hex('b')
    )
}

fn refusal(text: &str, content_type: &str) -> ImageError {
    match parse(text.as_bytes(), content_type, "image") {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error,
    }
}

#[test]
fn both_kinds_of_image_are_taken() {
    for media_type in [OCI_MANIFEST, DOCKER_MANIFEST, ""] {
        let parsed = parse(image_json(media_type).as_bytes(), media_type, "image").unwrap();
        let Manifest::Image(image) = parsed.manifest else { panic!("no image") };
        assert_eq!(image.layers.len(), 1);
        assert!(!parsed.media_type.is_empty());
    }
}

#[test]
fn schema_1_is_refused_by_name() {
    let text = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[]}"#;
    for error in [refusal(text, ""), refusal("{}", DOCKER_SCHEMA_1[1])] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("schema 1"), "{error}");
    }
}

#[test]
fn ambiguous_and_broken_texts_are_refused() {
    let both = image_json("").replacen('{', r#"{"manifests":[],"#, 1);
    let negative = image_json("").replace("\"size\":3", "\"size\":-3");
    let path = image_json("").replace(&hex('b'), "../../../../etc/passwd");
    for text in [both.as_str(), &negative, &path, "", "[]", "{}", "nul", "{\"schemaVersion\":2}"] {
        assert_eq!(refusal(text, "").kind(), ErrorKind::Corrupt, "{text}");
    }
    assert_eq!(refusal(&image_json(OCI_MANIFEST), OCI_INDEX).kind(), ErrorKind::Corrupt);
    assert_eq!(refusal(&image_json(OCI_INDEX), "").kind(), ErrorKind::Corrupt);
}

#[test]
fn deep_nesting_is_an_error() {
    assert_eq!(refusal(&"[".repeat(1 << 20), "").kind(), ErrorKind::Corrupt);
    assert_eq!(refusal(&"{\"a\":".repeat(1 << 18), "").kind(), ErrorKind::Corrupt);
}

#[test]
fn the_best_platform_comes_first() {
    let entry = |digit, os: &str, architecture: &str, variant: &str| Descriptor {
        media_type: OCI_MANIFEST.into(),
        digest: format!("sha256:{}", hex(digit)).parse().unwrap(),
        size: 1,
        platform: Some(Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() }),
        encryption: None,
    };
    let index = [
        entry('0', "unknown", "unknown", ""),
        entry('1', "linux", "arm", "v6"),
        entry('2', "linux", "arm", "v7"),
        entry('3', "windows", "arm", "v7"),
    ];
    let wanted = Platform { os: "linux".into(), architecture: "arm".into(), variant: "v7".into() };
    let chosen: Vec<_> = candidates(&index, &wanted).iter().map(|d| d.digest.hex().as_bytes()[0]).collect();
    assert_eq!(chosen, [b'2', b'1']);
}

#[test]
fn artifacts_are_no_images() {
    let text = image_json("").replace("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.cncf.helm.chart");
    let Manifest::Image(image) = parse(text.as_bytes(), "", "image").unwrap().manifest else { panic!("no image") };
    assert_eq!(check_layers(&image, 10, "image").unwrap_err().kind(), ErrorKind::Invalid);
    let text = image_json("").replace("layer.v1.tar+gzip", "layer.v1.erofs");
    let Manifest::Image(image) = parse(text.as_bytes(), "", "image").unwrap().manifest else { panic!("no image") };
    assert!(check_layers(&image, 10, "image").unwrap_err().to_string().contains("an EROFS image"));
    let Manifest::Image(image) = parse(image_json("").as_bytes(), "", "image").unwrap().manifest else { panic!() };
    assert_eq!(check_layers(&image, 0, "image").unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn of_annotations_those_of_encryption_are_kept() {
    let annotations = r#""annotations": {"x": 1, "y": "z", "org.opencontainers.image.enc.pubopts": "o", "org.opencontainers.image.enc.keys.jwe": null}"#;
    let text = |more: &str| format!(r#"{{"mediaType": "", "digest": "sha256:{}", "size": 1{more}}}"#, hex('a'));
    let read = |more: &str| serde_json::from_str::<Descriptor>(&text(more)).unwrap().encryption;
    let kept = [("org.opencontainers.image.enc.pubopts".to_owned(), "o".to_owned())];
    assert_eq!(read(&format!(", {annotations}")), Some(kept.into()));
    for none in ["", r#", "annotations": null"#, r#", "annotations": 1"#, r#", "annotations": {"a": "b"}"#] {
        assert_eq!(read(none), None, "{none}");
    }
}

#[test]
fn users_are_split() {
    assert_eq!(image_user(""), ImageUser::Uid(0));
    assert_eq!(image_user("1000:2000"), ImageUser::Uid(1000));
    assert_eq!(image_user("app:app"), ImageUser::Name("app".into()));
    for odd in ["4294967296", "2147483648", "+5", "-1", "18446744073709551617"] {
        assert_eq!(image_user(odd), ImageUser::Name(odd.into()));
    }
}

#[test]
fn docker_writes_null_for_nothing() {
    let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,
        "Labels":null,"Healthcheck":{"Test":["CMD","true"]}},"rootfs":{"type":"layers","diff_ids":null}}"#;
    let config = ConfigFile::parse(text.as_bytes(), "image").unwrap();
    assert_eq!(config.container_config().cmd, ["sh"]);
    assert!(config.container_config().env.is_empty());
    assert!(
        config
            .check(&Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }, 0, "i")
            .is_ok()
    );
    assert!(
        config
            .check(&Platform { os: "linux".into(), architecture: "s390x".into(), variant: String::new() }, 0, "i")
            .is_err()
    );
    assert!(
        config
            .check(&Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }, 1, "i")
            .is_err()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_manifest(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, "", "image");
        let _ = ConfigFile::parse(&bytes, "image");
    }
}
