//! The forms of a user, and properties over arbitrary input.

use proptest::prelude::*;

use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n77:x:1:1::/:/x\nbad:x:4294967296:0::/:/x\n\xff:x:5:5::/:/\nshort:x\n";
const GROUP: &[u8] = b"root:x:0:\nwww:x:34:\nextra:x:50:web,root\nmore:x:51:web\nbad:x:99999999999:web\n";

fn named(name: &str) -> Result<Found, UserError> {
    resolve(PASSWD, GROUP, &Request { name: Some(name), uid: 0, gid: 0, additional: &[7], merge: true })
}

fn ids(name: &str) -> (u32, u32, Vec<u32>) {
    let user = named(name).unwrap().user;
    (user.uid, user.gid, user.groups)
}

#[test]
fn forms() {
    assert_eq!(ids("web"), (33, 34, vec![34, 7, 50, 51]));
    assert_eq!(ids("web:extra"), (33, 50, vec![50, 7, 51]));
    assert_eq!(ids("33"), (33, 34, vec![34, 7, 50, 51]));
    assert_eq!(ids("1000"), (1000, 0, vec![0, 7]));
    assert_eq!(ids("1000:2000"), (1000, 2000, vec![2000, 7]));
    assert_eq!(ids("77"), (77, 0, vec![0, 7]));
    assert_eq!(named("web").unwrap().home.as_deref(), Some("/srv"));
}

#[test]
fn refusals() {
    assert_eq!(named("nobody").unwrap_err(), UserError::NoUser("nobody".to_owned()));
    assert_eq!(named("web:none").unwrap_err(), UserError::NoGroup("none".to_owned()));
    for form in ["", ":", "a:", ":b", "a:b:c"] {
        assert_eq!(named(form).unwrap_err(), UserError::Form, "{form:?}");
    }
    for big in ["4294967295", "4294967296", "99999999999999999999999", "0:4294967295", "1:18446744073709551616"] {
        assert!(matches!(named(big), Err(UserError::OutOfRange(_))), "{big} was taken");
    }
    assert!(named("bad").is_err());
}

#[test]
fn more_groups_than_can_be_told_are_an_error() {
    let group: String = (0..=MAX_GROUPS).map(|gid| format!("g{gid}:x:{gid}:web\n")).collect();
    let request = Request { name: Some("web"), uid: 0, gid: 0, additional: &[], merge: true };
    assert_eq!(resolve(PASSWD, group.as_bytes(), &request).unwrap_err(), UserError::TooManyGroups);
}

#[test]
fn strict_groups_are_only_those_given() {
    let request = Request { name: None, uid: 33, gid: 3, additional: &[4], merge: false };
    assert_eq!(resolve(PASSWD, GROUP, &request).unwrap().user.groups, [3, 4]);
}

proptest! {
    #[test]
    fn a_number_is_itself_or_an_error(number in any::<u128>()) {
        match (named(&number.to_string()), u32::try_from(number)) {
            (Ok(found), Ok(uid)) if uid != u32::MAX => prop_assert_eq!(found.user.uid, uid),
            (Err(UserError::OutOfRange(_)), Err(_) | Ok(u32::MAX)) => {}
            (result, _) => prop_assert!(false, "{} gave {:?}", number, result),
        }
    }

    #[test]
    fn arbitrary_files_and_names_give_no_id_out_of_range(
        passwd in prop::collection::vec(any::<u8>(), 0..200),
        group in prop::collection::vec(any::<u8>(), 0..200),
        name in ".{0,20}",
    ) {
        let request = Request { name: Some(&name), uid: 0, gid: 0, additional: &[], merge: true };
        if let Ok(found) = resolve(&passwd, &group, &request) {
            prop_assert!(found.user.uid != u32::MAX && !found.user.groups.contains(&u32::MAX));
        }
    }
}
