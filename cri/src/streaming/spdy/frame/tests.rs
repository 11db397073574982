//! The codec, against what a client writes and against what nobody should.

use proptest::prelude::*;

use super::super::client::{Sender, block, control, data};
use super::*;

fn all(decoder: &mut Decoder, input: &[u8]) -> Result<Vec<Frame>, ProtocolError> {
    let mut input = BytesMut::from(input);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut input)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn only(input: &[u8]) -> Result<Frame, ProtocolError> {
    let frames = all(&mut Decoder::default(), input)?;
    assert_eq!(frames.len(), 1, "{frames:?}");
    Ok(frames[0].clone())
}

#[test]
fn streams_open_with_headers_and_the_compression_goes_on_from_one_to_the_next() {
    let (mut sender, mut decoder) = (Sender::new(), Decoder::default());
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        let frame = sender.open(stream, false, &[("streamType", kind), ("x", "a\0b")]);
        let Frame::SynStream { stream: opened, fin, headers } = all(&mut decoder, &frame).unwrap().remove(0) else {
            panic!("no SYN_STREAM")
        };
        assert_eq!((opened, fin), (stream, false));
        assert_eq!(headers.get("streamtype"), Some(kind), "names are in lower case");
        assert_eq!(headers.get("x"), Some("a"), "the first of several values");
        assert_eq!(headers.get("y"), None);
    }
}

#[test]
fn data_is_handed_on_as_it_arrives() {
    let mut decoder = Decoder::default();
    let mut input = data(3, true, b"hello");
    let rest = input.split_off(10);
    assert_eq!(decoder.decode(&mut input).unwrap(), Some(Frame::Data { stream: 3, piece: "he".into(), fin: false }));
    assert_eq!(decoder.decode(&mut input).unwrap(), None);
    input.unsplit(rest);
    assert_eq!(decoder.decode(&mut input).unwrap(), Some(Frame::Data { stream: 3, piece: "llo".into(), fin: true }));
    assert_eq!(only(&data(3, true, b"")).unwrap(), Frame::Data { stream: 3, piece: Bytes::new(), fin: true });
}

#[test]
fn small_frames_are_read() {
    assert_eq!(only(&control(3, 0, &[0, 0, 0, 5, 0, 0, 0, 5])).unwrap(), Frame::Reset(5));
    assert_eq!(only(&control(6, 0, &[0, 0, 0, 9])).unwrap(), Frame::Ping(9));
    assert_eq!(only(&control(7, 0, &[0; 8])).unwrap(), Frame::GoAway);
    assert_eq!(only(&control(9, 0, &[0, 0, 0, 1, 0, 0, 1, 0])).unwrap(), Frame::WindowUpdate { stream: 1, delta: 256 });
    assert_eq!(only(&control(4, 0, &[0; 4])).unwrap(), Frame::Settings(None));
    let window = [0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 9, 1, 0, 0, 7, 0, 0, 16, 0];
    assert_eq!(only(&control(4, 0, &window)).unwrap(), Frame::Settings(Some(4096)));
    assert_eq!(only(&control(77, 0, &[1, 2, 3])).unwrap(), Frame::Unknown(77));
}

#[test]
fn what_cannot_be_is_refused() {
    assert_eq!(only(b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"), Err(ProtocolError::Version(2)));
    // An HTTP request on a connection that speaks SPDY.
    assert!(only(b"GET / HTTP/1.1\r\n\r\n").is_ok_and(|f| matches!(f, Frame::Data { .. })), "looks like DATA");
    assert_eq!(only(&data(0, false, b"x")), Err(ProtocolError::Stream(0)));
    assert_eq!(only(&control(3, 0, &[0; 8])), Err(ProtocolError::Stream(0)));
    assert_eq!(only(&control(6, 0, &[0; 3])), Err(ProtocolError::Length(6, 3)));
    assert_eq!(only(&control(4, 0, &[255, 255, 255, 255, 0])), Err(ProtocolError::Length(4, 5)));
    let mut long = control(1, 0, &[]);
    long[5] = 1;
    assert_eq!(only(&long), Err(ProtocolError::TooLong(1 << 16)), "refused before it has arrived");
    assert!(matches!(
        only(&control(1, 0, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3])),
        Err(ProtocolError::HeaderBlock(_))
    ));
}

#[test]
fn a_header_bomb_is_refused_at_its_limit() {
    let bomb = Sender::new().open(1, false, &[("a", &"x".repeat(4 << 20))]);
    assert!(bomb.len() < MAX_CONTROL_BYTES, "{} bytes pass the limit of frames", bomb.len());
    assert_eq!(only(&bomb), Err(ProtocolError::HeaderBlockTooLong));
    let headers = vec![("a", "b"); 65];
    assert_eq!(only(&Sender::new().open(1, false, &headers)), Err(ProtocolError::TooManyHeaders(65)));
    let mut lying = block(&[("a", "b")]);
    lying[7] = 200;
    assert!(matches!(only(&Sender::new().open_with(1, false, &lying)), Err(ProtocolError::HeaderBlock(_))));
}

#[test]
fn what_is_written_can_be_read() {
    let (mut out, mut decoder) = (BytesMut::new(), Decoder::default());
    put_syn_reply(&mut out, 1, true);
    put_syn_reply(&mut out, 3, false);
    put_syn_reply(&mut out, 5, false);
    put_data_head(&mut out, 3, 2, true);
    out.put_slice(b"ab");
    put_reset(&mut out, 5, Reset::Refused);
    put_ping(&mut out, 2);
    put_window_update(&mut out, 3, 9);
    put_goaway(&mut out, 5, false);
    let expected = [
        Frame::SynReply(1),
        Frame::SynReply(3),
        Frame::SynReply(5),
        Frame::Data { stream: 3, piece: "ab".into(), fin: true },
        Frame::Reset(5),
        Frame::Ping(2),
        Frame::WindowUpdate { stream: 3, delta: 9 },
        Frame::GoAway,
    ];
    assert_eq!(all(&mut decoder, &out).unwrap(), expected);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = all(&mut Decoder::default(), &input);
    }

    #[test]
    fn any_payload_of_a_control_frame_is_read_or_refused(
        kind in 0_u16..12, flags: u8, payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let _ = all(&mut Decoder::default(), &control(kind, flags, &payload));
    }

    #[test]
    fn any_header_block_is_read_or_refused(block in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = all(&mut Decoder::default(), &Sender::new().open_with(1, false, &block));
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut(
        headers in proptest::collection::vec(("[a-z]{1,9}", "[ -~]{0,30}"), 0..8),
        payload in proptest::collection::vec(any::<u8>(), 1..300),
        cut in 1_usize..50,
    ) {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut input = Sender::new().open(7, false, &headers);
        input.unsplit(data(7, true, &payload));
        let (mut decoder, mut arrived) = (Decoder::default(), BytesMut::new());
        let (mut opened, mut received, mut finished) = (None, Vec::new(), false);
        for part in input.chunks(cut) {
            arrived.extend_from_slice(part);
            while let Some(frame) = decoder.decode(&mut arrived).unwrap() {
                match frame {
                    Frame::SynStream { headers, .. } => opened = Some(headers),
                    Frame::Data { piece, fin, .. } => {
                        received.extend_from_slice(&piece);
                        finished |= fin;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let expected: Headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        prop_assert_eq!(opened, Some(expected));
        prop_assert_eq!(received, payload);
        prop_assert!(finished);
    }
}
