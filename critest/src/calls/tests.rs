//! Texts of calls come back as they were; answers are told apart.

use podwright_cri_api::v1::{Container, ContainerState};
use podwright_cri_api::v1::{ContainerMetadata, CreateContainerResponse, ListContainersResponse};
use prost::Message;

use super::message::{decode, encode, parse, text};
use super::{Call, Names, read};

fn list(id: &str, state: ContainerState, created_at: i64) -> Vec<u8> {
    let metadata = Some(ContainerMetadata { name: "main".into(), attempt: 1 });
    let container = Container { id: id.into(), metadata, state: state.into(), created_at, ..Default::default() };
    ListContainersResponse { containers: vec![container] }.encode_to_vec()
}

#[test]
fn a_message_comes_back_from_wire_and_text() {
    let bytes = list(&"ab".repeat(32), ContainerState::ContainerExited, 1 << 60);
    let fields = decode(&bytes).unwrap();
    assert_eq!(encode(&fields), bytes);
    assert_eq!(parse(&text(&fields)).unwrap(), fields);
    // A message that is printable all over: a line feed, a length, an id.
    let bytes = CreateContainerResponse { container_id: "cd".repeat(32) }.encode_to_vec();
    let whole = [&[0x12, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat();
    assert!(text(&decode(&whole).unwrap()).starts_with("  2 { 1 \"cdcd"), "{}", text(&decode(&whole).unwrap()));
    for broken in [&b"\x0a\x05a"[..], b"\xff", b"\x00", b"\x0b"] {
        assert!(decode(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn a_fixture_comes_back() {
    let request = decode(&list("x", ContainerState::ContainerRunning, 3)).unwrap();
    let call = |paths: &[&str], answer| Call {
        method: "RuntimeService/ListContainers".into(),
        request: request.clone(),
        answer,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let calls =
        [call(&[], Ok(Vec::new())), call(&["$DIR/a/", "$DIR/b"], Err(5)), call(&["$DIR/c"], Ok(request.clone()))];
    let text: String = calls.iter().map(Call::text).collect();
    assert_eq!(read(&format!("# words\n{text}")).unwrap(), calls);
    assert!(read("call X\n").unwrap_err().to_string().contains("without an answer"));
    assert!(read("call X\nanswer\n  1 {\n").is_err());
}

#[test]
fn answers_are_compared_with_what_stands_for_ids_and_times() {
    let (old, new) = ("ab".repeat(32), "cd".repeat(32));
    let recorded = decode(&list(&old, ContainerState::ContainerRunning, 1 << 60)).unwrap();
    let actual = decode(&list(&new, ContainerState::ContainerRunning, 1 << 61)).unwrap();
    let mut names = Names::default();
    names.same(&recorded, &actual).unwrap();
    assert_eq!(names.text(&old), new);
    let exited = decode(&list(&new, ContainerState::ContainerExited, 1 << 61)).unwrap();
    assert!(names.same(&recorded, &exited).is_err(), "another state");
    let other = decode(&list(&"ef".repeat(32), ContainerState::ContainerRunning, 1 << 61)).unwrap();
    assert!(names.same(&recorded, &other).is_err(), "another id for the same one");
}
