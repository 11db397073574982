//! Leases that earlier releases recorded are read, field by field. The samples are data and never made anew.

use super::*;

const LEASE: &str = r#"{"sandbox":"1111111111111111111111111111111111111111111111111111111111111111","link":"pw0123abcdef0","pools":{"ipv4":"10.192.0.0/16","ipv6":"fd00:1::/64"},"ipv4":"10.192.0.2","ipv6":"fd00:1::2","port_mappings":[{"protocol":"udp","container_port":53,"host_port":5353,"host_ip":"127.0.0.1"}]}"#;
const HOST: &str = r#"[{"ipv4":"10.192.0.0/16","ipv6":"fd00:1::/64"}]"#;

#[test]
fn leases_of_version_1_are_read_and_written_the_same() {
    let lease: Lease = serde_json::from_str(LEASE).unwrap();
    assert_eq!(serde_json::to_string(&lease).unwrap(), LEASE);
    let pools: Vec<Pools> = serde_json::from_str(HOST).unwrap();
    assert_eq!(serde_json::to_string(&pools).unwrap(), HOST);
    assert_eq!(pools, [lease.pools]);
}
