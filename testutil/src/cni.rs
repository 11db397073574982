//! The plugin chain that tests use: what a real node has.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// bridge with host-local, portmap, bandwidth, firewall and tuning, on `10.22.0.0/16` and `fd00:22::/64`.
#[must_use]
pub fn bridge_conflist(cni_version: &str) -> Value {
    json!({
        "cniVersion": cni_version,
        "name": "testnet",
        "plugins": [
            {
                "type": "bridge", "bridge": "pwbr0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
                }
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            {"type": "firewall"},
            {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "0"}}
        ]
    })
}

/// Writes [`bridge_conflist`] into a directory, as an administrator would.
///
/// # Errors
/// The directory can not be written.
pub fn write_bridge_chain(dir: &Path, cni_version: &str) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let path = dir.join("10-testnet.conflist");
    std::fs::write(&path, bridge_conflist(cni_version).to_string())
        .with_context(|| format!("writing {}", path.display()))
}
