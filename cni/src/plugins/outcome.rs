//! What plugins answer: results of versions 0.2 to 1.1 read leniently, and error objects.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    interfaces: Vec<Interface>,
    ips: Vec<Address>,
    ip4: Option<Legacy>,
    ip6: Option<Legacy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Interface {
    name: String,
    sandbox: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    address: String,
    interface: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Legacy {
    ip: String,
}

/// Addresses of the pod's link in a result.
pub(super) fn addresses(result: &Value, link: &str) -> Result<Vec<IpAddr>, String> {
    let outcome: Outcome =
        serde_json::from_value(result.clone()).map_err(|error| format!("its result can not be read: {error}"))?;
    let in_pod = |address: &&Address| match address.interface.and_then(|index| outcome.interfaces.get(index)) {
        Some(interface) => !interface.sandbox.is_empty() && interface.name == link,
        None => true,
    };
    let modern = outcome.ips.iter().filter(in_pod).map(|address| address.address.as_str());
    let legacy = outcome.ip4.iter().chain(&outcome.ip6).map(|legacy| legacy.ip.as_str());
    let mut addresses = Vec::new();
    for text in modern.chain(legacy) {
        let bare = text.split_once('/').map_or(text, |(address, _)| address);
        let address = bare.parse().map_err(|_| format!("its result has the address {text:?}"))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("its result has no address of {link}"));
    }
    Ok(addresses)
}

/// An error object.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorObject {
    /// Code; below 100 they are the specification's.
    #[serde(default)]
    pub(super) code: u64,
    /// Message.
    pub(super) msg: String,
    /// More.
    #[serde(default)]
    pub(super) details: String,
}

/// The error object that a plugin printed, if it did.
pub(super) fn error_object(stdout: &[u8]) -> Option<ErrorObject> {
    serde_json::from_slice(stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_of_every_age_are_read() {
        let interfaces = json!([{"name": "br0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}, {"name": "eth1", "sandbox": "/run/netns/x"}]);
        let new = json!({"cniVersion": "1.0.0", "interfaces": interfaces, "ips": [
            {"address": "10.0.0.1/24", "interface": 0}, {"address": "fd00::2/64", "interface": 2}, {"version": "4", "address": "10.0.0.2/24", "interface": 2},
            {"address": "10.9.0.2/24", "interface": 3}]});
        let parse = |value: &Value| {
            addresses(value, "eth0").map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(parse(&new).unwrap(), ["fd00::2", "10.0.0.2"]);
        assert_eq!(parse(&json!({"ips": [{"version": "4", "address": "10.0.0.2/24"}]})).unwrap(), ["10.0.0.2"]);
        assert_eq!(
            parse(&json!({"ip4": {"ip": "10.0.0.3/24"}, "ip6": {"ip": "fd00::3/64"}})).unwrap(),
            ["10.0.0.3", "fd00::3"]
        );
        for bad in [json!({}), json!([]), json!("x"), json!({"ips": [{"address": "rubbish"}]}), json!({"ips": 3})] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
