//! The encoder against nft(8): what we write is what it reads.

use super::*;
use crate::testhost::{in_own_host, sh};

#[test]
fn root_a_table_reads_as_written() {
    if !in_own_host("nft::tests::root_a_table_reads_as_written") {
        return;
    }
    let socket = NftSocket::open().unwrap();
    let element =
        Element { set: "ports", key: vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0], data: vec![10, 1, 2, 3, 0, 80, 0, 0] };
    let rule = vec![
        Expression::Load(Source::Family, REGISTER),
        Expression::Equal(REGISTER, vec![2]),
        Expression::Load(Source::Source4, REGISTER),
        Expression::Mask(REGISTER, vec![255, 255, 0, 0]),
        Expression::Different(REGISTER, vec![10, 1, 0, 0]),
        Expression::Masquerade,
    ];
    let changes = vec![
        Change::AddTable,
        Change::AddSet(Set {
            name: "ports",
            key: &[KeyPart::Protocol, KeyPart::Port],
            data: &[KeyPart::Ipv4, KeyPart::Port],
        }),
        Change::AddChain(Chain { name: "snat", kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 }),
        Change::AddRule { chain: "snat", expressions: rule },
        Change::AddElement(element.clone()),
    ];
    socket.commit("podwright-test", &changes).unwrap();
    let text = sh("nft list ruleset");
    for expected in [
        "table inet podwright-test",
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "elements = { tcp . 8080 : 10.1.2.3 . 80 }",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr != 10.1.0.0/16 masquerade",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert_eq!((socket.rules("podwright-test").unwrap(), socket.rules("podwright-other").unwrap()), (1, 0));
    let json = sh("nft -j list ruleset");
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());

    // A transaction that fails part way changes nothing.
    let missing = Element { key: vec![17, 0, 0, 0, 0, 1, 0, 0], ..element.clone() };
    let failed = socket
        .commit("podwright-test", &[Change::DeleteElement(element.clone()), Change::DeleteElement(missing)])
        .unwrap_err();
    assert_eq!(failed.kind(), std::io::ErrorKind::NotFound);
    assert!(sh("nft list ruleset").contains("tcp . 8080"));
    socket.commit("podwright-test", &[Change::DeleteElement(element)]).unwrap();
    assert!(!sh("nft list ruleset").contains("tcp . 8080"));
    socket.commit("podwright-test", &[Change::DeleteTable]).unwrap();
    assert_eq!(sh("nft list ruleset"), "");
}
