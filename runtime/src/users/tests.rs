//! Look-ups in real directories, hostile ones among them.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::users::database::{parse_group, parse_passwd};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:34:www:/var/www:/bin/sh\nbad:x:99999999999:1::/:\n\
                      web:x:1:1:second:/second:\n1000:x:7:7:a name of digits:/seven:\nhuge:x:4294967295:0::/:\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:web,other\nwww:x:34:\naudio:x:29:other,web\nnear:x:30:webmaster\nbroken\n";

fn image() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
    fs::write(dir.path().join("etc/group"), GROUP).unwrap();
    dir
}

fn look_up(dir: &tempfile::TempDir, request: UserRequest<'_>) -> Result<ResolvedUser, Failure> {
    resolve(fs::File::open(dir.path()).unwrap(), &request)
}

fn by_text(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
    let found = look_up(&image(), UserRequest { text, merge_groups: true, ..UserRequest::default() });
    found.map(|r| (r.user.uid, r.user.gid, r.user.groups)).map_err(|failure| failure.text)
}

#[test]
fn names_and_numbers_become_a_user_with_its_groups() {
    assert_eq!(by_text("web"), Ok((33, 34, vec![34, 50, 29])));
    assert_eq!(by_text("33"), Ok((33, 34, vec![34, 50, 29])));
    assert_eq!(by_text("web:staff"), Ok((33, 50, vec![50, 29])));
    assert_eq!(by_text("web:4000"), Ok((33, 4000, vec![4000, 50, 29])));
    assert_eq!(by_text("1234"), Ok((1234, 0, vec![0])));
    assert_eq!(by_text("1000"), Ok((1000, 0, vec![0])), "digits are a number, never the user of that name");
    assert_eq!(by_text("web:"), Ok((33, 34, vec![34, 50, 29])));
}

#[test]
fn what_is_not_there_or_out_of_range_is_refused() {
    for text in ["nobody", "web:nogroup", "4294967295", "99999999999999999999", "-1", "+5", ":", ":0", "bad", "huge", "a:b:c"] {
        assert!(by_text(text).is_err(), "{text:?} was taken as {:?}", by_text(text));
    }
    let dir = image();
    assert!(look_up(&dir, UserRequest { uid: u32::MAX, ..UserRequest::default() }).is_err());
}

#[test]
fn numbers_of_the_specification_are_kept_and_groups_added_only_if_asked() {
    let dir = image();
    let request = UserRequest { uid: 33, gid: 5, additional_gids: &[7, 5], ..UserRequest::default() };
    let strict = look_up(&dir, request).unwrap();
    assert_eq!(strict.user.groups, [5, 7]);
    assert_eq!(strict.home.as_deref(), Some("/var/www"));
    let merged = look_up(&dir, UserRequest { merge_groups: true, ..request }).unwrap();
    assert_eq!(merged.user.groups, [5, 7, 50, 29]);
}

#[test]
fn an_image_without_files_has_numbers_only() {
    let dir = tempfile::tempdir().unwrap();
    let user = look_up(&dir, UserRequest { text: "12:13", ..UserRequest::default() }).unwrap();
    assert_eq!((user.user.uid, user.user.gid, user.home), (12, 13, None));
    assert!(look_up(&dir, UserRequest { text: "root", ..UserRequest::default() }).is_err());
}

#[test]
fn hostile_files_are_neither_followed_out_nor_waited_for() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "leak:x:4242:1::/:\n").unwrap();
    let dir = image();
    let passwd = dir.path().join("etc/passwd");
    let leak = || look_up(&dir, UserRequest { text: "leak", ..UserRequest::default() });

    fs::remove_file(&passwd).unwrap();
    symlink(secret.path(), &passwd).unwrap();
    assert!(leak().is_err(), "an absolute link must stay below the root");
    fs::remove_file(&passwd).unwrap();
    symlink("../../../../../../../../../../../..".to_owned() + secret.path().to_str().unwrap(), &passwd).unwrap();
    assert!(leak().is_err(), "a link with .. must stay below the root");

    fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(leak().unwrap_err().text.contains("no regular file"));

    fs::remove_file(&passwd).unwrap();
    fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
    assert!(leak().unwrap_err().text.contains("larger than"));
    fs::File::create(&passwd).unwrap().set_len(8 << 20).unwrap();
    assert!(leak().unwrap_err().text.contains("longer than"));
}

use rustix::fs::{FileType, Mode};

proptest! {
    #[test]
    fn no_line_panics_and_no_id_wraps(line in proptest::collection::vec(any::<u8>(), 0..200), id in any::<u64>()) {
        parse_passwd(&line);
        parse_group(&line);
        let parsed = parse_passwd(format!("a:x:{id}:{id}:::").as_bytes()).map(|p| u64::from(p.uid));
        prop_assert_eq!(parsed, (id <= u64::from(LAST_ID)).then_some(id));
        let taken = word("user", &id.to_string()).map(|w| matches!(w, Word::Number(n) if u64::from(n) == id));
        prop_assert_eq!(taken.unwrap_or(false), id <= u64::from(LAST_ID));
    }
}
