//! Tests of the checks.

use super::*;

#[test]
fn long_texts_are_refused_without_being_shown_whole() {
    let bad = text("args[0]", "x".repeat(10 << 20), MAX_ARGUMENT_BYTES).unwrap_err();
    assert_eq!(bad.to_string(), "args[0]: is 10485760 bytes long; at most 131071 are allowed");
    assert!(shown(&"é".repeat(1000)).len() < 200);
}

#[test]
fn nul_bytes_are_refused_everywhere() {
    assert!(text("f", "a\0b".into(), 9).is_err());
    assert!(name("f", "a\0b".into()).is_err());
    assert!(absolute_path("f", "/a\0b".into()).is_err());
    assert!(inner_path("f", "a\0b".into()).is_err());
    assert!(map("f", BTreeMap::from([("k".into(), "\0".into())])).is_err());
}

#[test]
fn inner_paths_stay_below() {
    for bad in ["/etc/passwd", "../x", "a/../../x", "a/.."] {
        assert!(inner_path("log_path", bad.into()).is_err(), "{bad} was taken");
    }
    for good in ["", "0.log", "app/0.log", "./0.log"] {
        assert!(inner_path("log_path", good.into()).is_ok(), "{good} was refused");
    }
}

#[test]
fn ids_are_what_system_calls_take() {
    assert_eq!(user_or_group_id("uid", 0), Ok(0));
    assert_eq!(user_or_group_id("uid", 4_294_967_294), Ok(4_294_967_294));
    for bad in [-1, i64::MIN, 4_294_967_295, 4_294_967_296, i64::MAX] {
        assert!(user_or_group_id("uid", bad).is_err(), "{bad} was taken as an id");
    }
}

#[test]
fn errors_name_the_path_of_the_field() {
    let bad = each("mounts", vec!["/a", "b"], |v| absolute_path("host_path", v.into())).within("config").unwrap_err();
    assert_eq!(bad.to_string(), "config.mounts[1].host_path: \"b\" is not an absolute path");
    let bad = texts("args", vec!["\0".into()], |f, v| text(f, v, 9)).unwrap_err();
    assert_eq!(bad.to_string(), "args[0]: \"\\0\" has a NUL byte");
}
