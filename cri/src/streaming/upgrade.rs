//! From a request's headers to what will be spoken: SPDY or WebSocket, and in which version. Does no I/O.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::version::{Encoding, FORWARD_NAME, SPDY_NAMES, TUNNEL_NAME, Version, WEBSOCKET_NAMES};

/// Name of the protocol to upgrade to.
const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
/// The one version of WebSocket.
const WEBSOCKET_VERSION: &str = "13";
/// Subprotocols over SPDY: those the client knows, the one that was chosen, those we know.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What the streams are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Streams of a process.
    Command,
    /// Connections into a pod.
    Forward,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// A command over SPDY.
    SpdyCommand(Version),
    /// Connections over SPDY.
    SpdyForward,
    /// A command over WebSocket.
    WebSocketCommand(Version, Encoding),
    /// Connections over SPDY in a WebSocket.
    Tunnel,
}

/// The upgrade: what is spoken from then on, and the headers that say so.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) speech: Speech,
    pub(super) headers: HeaderMap,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), headers: Vec::new() }
    }
}

/// Agrees with a client.
pub(super) fn agree(request: &Parts, purpose: Purpose) -> Result<Upgrade, Refusal> {
    let wants = |name: &str| tokens(&request.headers, header::UPGRADE).any(|t| t.eq_ignore_ascii_case(name));
    if !tokens(&request.headers, header::CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade")) {
        return Err(not_asked());
    }
    if wants(WEBSOCKET) {
        websocket(request, purpose)
    } else if wants(SPDY) {
        spdy(&request.headers, purpose)
    } else {
        Err(not_asked())
    }
}

fn not_asked() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "this URL streams: ask for an upgrade of the connection to SPDY/3.1 or to websocket",
    )
}

fn spdy(headers: &HeaderMap, purpose: Purpose) -> Result<Upgrade, Refusal> {
    let asked: Vec<&str> = tokens(headers, STREAM_PROTOCOL).collect();
    let (speech, chosen) = match purpose {
        Purpose::Command => {
            let known = || SPDY_NAMES.iter().map(|(name, version)| (*name, Speech::SpdyCommand(*version)));
            choose(&asked, known, Speech::SpdyCommand(Version::V1))
        }
        Purpose::Forward => {
            choose(&asked, || std::iter::once((FORWARD_NAME, Speech::SpdyForward)), Speech::SpdyForward)
        }
    }
    .map_err(|known| no_common(&asked, &known))?;
    let mut headers = upgraded(SPDY);
    if let Some(chosen) = chosen {
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok(Upgrade { speech, headers })
}

fn websocket(request: &Parts, purpose: Purpose) -> Result<Upgrade, Refusal> {
    let headers = &request.headers;
    let bad = |text: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    if request.method != Method::GET {
        return bad("a WebSocket is asked for with GET");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != WEBSOCKET_VERSION) {
        return bad("only version 13 of WebSocket is spoken; name it in Sec-WebSocket-Version");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else { return bad("Sec-WebSocket-Key is missing") };
    let accept = derive_accept_key(key.as_bytes());

    let asked: Vec<&str> = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).collect();
    let (speech, chosen) = match purpose {
        Purpose::Command => {
            let known = || WEBSOCKET_NAMES.iter().map(|(n, (version, e))| (*n, Speech::WebSocketCommand(*version, *e)));
            choose(&asked, known, Speech::WebSocketCommand(Version::V1, Encoding::Binary))
        }
        Purpose::Forward => choose(&asked, || std::iter::once((TUNNEL_NAME, Speech::Tunnel)), Speech::Tunnel),
    }
    .map_err(|known| no_common(&asked, &known))?;
    let mut headers = upgraded(WEBSOCKET);
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(chosen) = chosen {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok(Upgrade { speech, headers })
}

/// The first of the client's names that is known; `unnamed` for a client that names none. Or else all that are known.
fn choose<I: Iterator<Item = (&'static str, Speech)>>(
    asked: &[&str],
    known: impl Fn() -> I,
    unnamed: Speech,
) -> Result<(Speech, Option<&'static str>), Vec<&'static str>> {
    if asked.is_empty() {
        return Ok((unnamed, None));
    }
    let found = asked.iter().find_map(|asked| known().find(|(name, _)| name == asked));
    found.map(|(name, speech)| (speech, Some(name))).ok_or_else(|| known().map(|(name, _)| name).collect())
}

fn no_common(asked: &[&str], known: &[&'static str]) -> Refusal {
    let shown: String = asked.join(", ").chars().take(200).flat_map(char::escape_default).collect();
    let text = format!("none of the subprotocols {shown} is known here; known: {}", known.join(", "));
    let mut refusal = Refusal::new(StatusCode::FORBIDDEN, text);
    for name in known {
        refusal.headers.push((ACCEPTED_PROTOCOLS, HeaderValue::from_static(name)));
    }
    refusal
}

fn upgraded(to: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(to));
    headers
}

/// The values of a header, which may be repeated or hold several, in order.
fn tokens(headers: &HeaderMap, name: impl header::AsHeaderName) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests;
