//! Which speech follows from which headers.

use super::*;

fn request(method: Method, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn spdy_with(protocols: &[&str], purpose: Purpose) -> Result<Upgrade, Refusal> {
    let mut headers = vec![("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
    headers.extend(protocols.iter().map(|p| ("X-Stream-Protocol-Version", *p)));
    agree(&request(Method::POST, &headers), purpose)
}

fn websocket_with(protocols: &[&str], purpose: Purpose) -> Result<Upgrade, Refusal> {
    let mut headers = vec![
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend(protocols.iter().map(|p| ("Sec-WebSocket-Protocol", *p)));
    agree(&request(Method::GET, &headers), purpose)
}

#[test]
fn the_clients_first_known_version_is_taken() {
    let all = ["v9.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"];
    let upgrade = spdy_with(&all, Purpose::Command).unwrap();
    assert_eq!(upgrade.speech, Speech::SpdyCommand(Version::V4));
    assert_eq!(upgrade.headers[STREAM_PROTOCOL], "v4.channel.k8s.io");
    assert_eq!(upgrade.headers[header::UPGRADE], SPDY);
    for (name, version) in SPDY_NAMES {
        assert_eq!(spdy_with(&[name], Purpose::Command).unwrap().speech, Speech::SpdyCommand(version));
    }
    let unnamed = spdy_with(&[], Purpose::Command).unwrap();
    assert_eq!(unnamed.speech, Speech::SpdyCommand(Version::V1));
    assert!(unnamed.headers.get(STREAM_PROTOCOL).is_none());
    assert_eq!(spdy_with(&[FORWARD_NAME], Purpose::Forward).unwrap().speech, Speech::SpdyForward);
}

#[test]
fn websockets_are_agreed_on() {
    let upgrade = websocket_with(&["v5.channel.k8s.io, v4.channel.k8s.io"], Purpose::Command).unwrap();
    assert_eq!(upgrade.speech, Speech::WebSocketCommand(Version::V5, Encoding::Binary));
    assert_eq!(upgrade.headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    // The sample of RFC 6455.
    assert_eq!(upgrade.headers[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (name, (version, encoding)) in WEBSOCKET_NAMES {
        let speech = websocket_with(&[name], Purpose::Command).unwrap().speech;
        assert_eq!(speech, Speech::WebSocketCommand(version, encoding));
    }
    assert_eq!(websocket_with(&[TUNNEL_NAME], Purpose::Forward).unwrap().speech, Speech::Tunnel);
}

#[test]
fn without_a_common_version_the_known_ones_are_named() {
    let refusal = spdy_with(&["v9.channel.k8s.io"], Purpose::Command).unwrap_err();
    assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    assert_eq!(refusal.headers.len(), SPDY_NAMES.len());
    assert!(refusal.text.contains("v9.channel.k8s.io"));
    assert_eq!(spdy_with(&["v4.channel.k8s.io"], Purpose::Forward).unwrap_err().status, StatusCode::FORBIDDEN);
    assert_eq!(websocket_with(&["chat"], Purpose::Command).unwrap_err().status, StatusCode::FORBIDDEN);
}

#[test]
fn what_asks_for_no_upgrade_gets_none() {
    for headers in [
        &[][..],
        &[("Connection", "Upgrade")],
        &[("Upgrade", "SPDY/3.1")],
        &[("Connection", "Upgrade"), ("Upgrade", "SPDY/3")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "8")],
    ] {
        let refusal = agree(&request(Method::GET, headers), Purpose::Command).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    let post = request(
        Method::POST,
        &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "x"),
        ],
    );
    assert_eq!(agree(&post, Purpose::Command).unwrap_err().status, StatusCode::BAD_REQUEST);
}
