//! The versions of the protocol for commands, and what tells them apart.

/// A version of `channel.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Errors are plain text.
    V1,
    /// As the first, with fewer faults in old clients.
    V2,
    /// Terminals have sizes.
    V3,
    /// The end is told in a document, with the exit code.
    V4,
    /// A WebSocket client can end its input.
    V5,
}

/// How bytes stand in WebSocket messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are, in binary messages.
    Binary,
    /// In base64, in text messages.
    Base64,
}

/// Names over SPDY. A client that names none speaks the first.
pub(super) const SPDY_NAMES: [(&str, Version); 4] = [
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// Names over WebSocket. A client that names none speaks the first, in binary.
pub(super) const WEBSOCKET_NAMES: [(&str, (Version, Encoding)); 5] = [
    ("v5.channel.k8s.io", (Version::V5, Encoding::Binary)),
    ("v4.channel.k8s.io", (Version::V4, Encoding::Binary)),
    ("v4.base64.channel.k8s.io", (Version::V4, Encoding::Base64)),
    ("channel.k8s.io", (Version::V1, Encoding::Binary)),
    ("base64.channel.k8s.io", (Version::V1, Encoding::Base64)),
];

/// Name of port forwarding over SPDY.
pub(super) const FORWARD_NAME: &str = "portforward.k8s.io";
/// Name of port forwarding over SPDY in a WebSocket.
pub(super) const TUNNEL_NAME: &str = "SPDY/3.1+portforward.k8s.io";

impl Version {
    /// The client of a terminal opens a stream for its sizes.
    pub(super) fn resizes(self) -> bool {
        self >= Self::V3
    }
}
