//! Whole connections, against a client made of frames.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::super::client::{Sender, control, data};
use super::super::frame::{Decoder, Frame};
use super::*;

struct Client {
    io: DuplexStream,
    sender: Sender,
    decoder: Decoder,
    input: BytesMut,
}

fn pair(max_streams: usize) -> (Connection, Client) {
    pair_over(1 << 20, max_streams)
}

/// With so many bytes on the way.
fn pair_over(bytes: usize, max_streams: usize) -> (Connection, Client) {
    let (server, io) = tokio::io::duplex(bytes);
    let wanted: Accept = Box::new(|headers| headers.get("streamtype") != Some("unwanted"));
    let connection = Connection::start(server, max_streams, wanted, &CancellationToken::new());
    (connection, Client { io, sender: Sender::new(), decoder: Decoder::default(), input: BytesMut::new() })
}

impl Client {
    async fn send(&mut self, frame: &[u8]) {
        self.io.write_all(frame).await.unwrap();
    }

    async fn open(&mut self, stream: u32, kind: &str) {
        let frame = self.sender.open(stream, false, &[("streamtype", kind)]);
        self.send(&frame).await;
    }

    /// The next frame that says more than that a window grew; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode(&mut self.input).unwrap() {
                Some(Frame::WindowUpdate { .. }) => continue,
                Some(frame) => return Some(frame),
                None => {}
            }
            if self.io.read_buf(&mut self.input).await.unwrap() == 0 {
                return None;
            }
        }
    }

    async fn stream_to_its_end(&mut self, stream: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Frame::Data { stream: of, piece, fin } if of == stream => {
                    all.extend_from_slice(&piece);
                    if fin {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let (mut connection, mut client) = pair(4);
    client.open(1, "data").await;
    let Opened { id, headers, mut stream } = connection.next().await.unwrap();
    assert_eq!((id, headers.get("streamtype")), (1, Some("data")));
    assert_eq!(client.next().await, Some(Frame::SynReply(1)));

    client.send(&data(1, false, b"he")).await;
    client.send(&data(1, true, b"llo")).await;
    let mut received = String::new();
    stream.io.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "hello");

    let answer = vec![b'x'; 300_000];
    let (sent, got) = tokio::join!(
        async {
            stream.io.write_all(&answer).await.unwrap();
            stream.io.shutdown().await
        },
        client.stream_to_its_end(1)
    );
    sent.unwrap();
    assert!(got == answer, "more than a window, to a client that knows none");
    connection.shared.pumps.close();
    connection.shared.pumps.wait().await;
    assert_eq!(connection.shared.count(), 0, "both ways have ended");
    assert!(!stream.ended.is_cancelled());
}

#[tokio::test]
async fn a_reset_ends_its_stream_only() {
    let (mut connection, mut client) = pair(4);
    client.open(1, "data").await;
    client.open(3, "data").await;
    let (first, mut second) = (connection.next().await.unwrap(), connection.next().await.unwrap());
    client.send(&control(3, 0, &[0, 0, 0, 1, 0, 0, 0, 5])).await;
    first.stream.ended.cancelled().await;
    client.send(&data(1, false, b"late")).await;
    client.send(&data(3, true, b"x")).await;
    let mut received = String::new();
    second.stream.io.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "x");
    assert!(!second.stream.ended.is_cancelled());
    assert_eq!(connection.shared.count(), 1);
}

#[tokio::test]
async fn unwanted_repeated_and_too_many_streams_are_refused() {
    let (mut connection, mut client) = pair(1);
    client.open(1, "unwanted").await;
    assert_eq!(client.next().await, Some(Frame::Reset(1)));
    client.open(3, "data").await;
    assert_eq!(client.next().await, Some(Frame::SynReply(3)));
    let opened = connection.next().await.unwrap();
    for impossible in [3, 1, 4] {
        client.open(impossible, "data").await;
        assert_eq!(client.next().await, Some(Frame::Reset(impossible)));
    }
    client.open(5, "data").await;
    assert_eq!(client.next().await, Some(Frame::Reset(5)), "one is the most");
    client.send(&data(9, false, b"x")).await;
    assert_eq!(client.next().await, Some(Frame::Reset(9)), "it was never opened");
    assert!(!opened.stream.ended.is_cancelled());
}

#[tokio::test]
async fn a_client_with_windows_gets_no_more_than_it_allows() {
    let (mut connection, mut client) = pair(1);
    client.send(&control(4, 0, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 10])).await;
    client.open(1, "data").await;
    let mut opened = connection.next().await.unwrap();
    assert_eq!(client.next().await, Some(Frame::SynReply(1)));
    opened.stream.io.write_all(&[b'x'; 25]).await.unwrap();
    drop(opened);
    let piece = |length, fin| Some(Frame::Data { stream: 1, piece: vec![b'x'; length].into(), fin });
    assert_eq!(client.next().await, piece(10, false));
    // An answer to this comes although no data may.
    client.send(&control(6, 0, &[0, 0, 0, 1])).await;
    assert_eq!(client.next().await, Some(Frame::Ping(1)));
    client.send(&control(9, 0, &[0, 0, 0, 1, 0, 0, 0, 15])).await;
    assert_eq!(client.next().await, piece(15, false));
    assert_eq!(client.next().await, piece(0, true));
}

#[tokio::test]
async fn a_close_writes_what_was_sent() {
    let (mut connection, mut client) = pair(2);
    client.open(1, "stdout").await;
    let mut opened = connection.next().await.unwrap();
    opened.stream.io.write_all(b"bye").await.unwrap();
    drop(opened);
    let (all, ()) = tokio::join!(
        async {
            assert_eq!(client.next().await, Some(Frame::SynReply(1)));
            let said = client.stream_to_its_end(1).await;
            assert_eq!(client.next().await, Some(Frame::GoAway));
            assert_eq!(client.next().await, None);
            drop(client);
            said
        },
        connection.close()
    );
    assert_eq!(all, b"bye");
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection_with_a_word() {
    let (mut connection, mut client) = pair(2);
    client.open(1, "stdout").await;
    let opened = connection.next().await.unwrap();
    client.send(&control(1, 0, b"rubbish that is no header block")).await;
    assert_eq!(client.next().await, Some(Frame::SynReply(1)));
    assert_eq!(client.next().await, Some(Frame::GoAway));
    opened.stream.ended.cancelled().await;
    assert_eq!(connection.next().await.map(|opened| opened.id), None);
}

#[tokio::test]
async fn a_client_that_leaves_ends_everything() {
    let (mut connection, mut client) = pair(2);
    client.open(1, "stdin").await;
    let mut opened = connection.next().await.unwrap();
    drop(client);
    opened.stream.ended.cancelled().await;
    assert_eq!(opened.stream.io.read(&mut [0; 9]).await.unwrap(), 0);
    assert!(connection.next().await.is_none());
    connection.close().await;
}

#[tokio::test]
async fn a_full_stream_stops_the_client_and_not_what_is_sent_to_it() {
    let (mut connection, mut client) = pair(2);
    client.open(1, "stdin").await;
    let mut opened = connection.next().await.unwrap();
    assert_eq!(client.next().await, Some(Frame::SynReply(1)));
    let Client { io, mut decoder, mut input, .. } = client;
    let (mut from_server, mut to_server) = tokio::io::split(io);
    let sending = tokio::spawn(async move {
        for _ in 0..100 {
            to_server.write_all(&data(1, false, &[b'x'; 60_000])).await.unwrap();
        }
        to_server.write_all(&data(1, true, b"")).await.unwrap();
        to_server
    });
    // It has read nothing, and can speak.
    opened.stream.io.write_all(b"busy").await.unwrap();
    loop {
        match decoder.decode(&mut input).unwrap() {
            Some(Frame::Data { piece, .. }) => break assert_eq!(piece, "busy"),
            Some(_) => {}
            None => drop(from_server.read_buf(&mut input).await.unwrap()),
        }
    }
    assert!(!sending.is_finished(), "6 MB fit nowhere");
    let mut received = Vec::new();
    opened.stream.io.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 6_000_000);
    sending.await.unwrap();
}

#[tokio::test]
async fn our_own_pings_are_no_movement() {
    let (connection, mut client) = pair(4);
    tokio::time::sleep(Duration::from_millis(5)).await;
    connection.shared.control.push(Answer::Ping(2)).unwrap();
    assert_eq!(client.next().await, Some(Frame::Ping(2)));
    assert!(!connection.shared.has_moved(), "nothing was carried");
    client.send(&control(6, 0, &1_u32.to_be_bytes())).await;
    assert_eq!(client.next().await, Some(Frame::Ping(1)));
    assert!(connection.shared.has_moved(), "the client wants to go on");
}

#[tokio::test]
async fn what_is_sent_after_a_finished_stream_comes_after_it() {
    let (mut connection, mut client) = pair_over(1024, 4);
    for (id, kind) in [(1, "stdout"), (3, "error")] {
        client.open(id, kind).await;
        assert_eq!(client.next().await, Some(Frame::SynReply(id)));
    }
    let mut stdout = connection.next().await.unwrap().stream;
    let mut error = connection.next().await.unwrap().stream;
    // The client reads nothing until all room between is full.
    while tokio::time::timeout(Duration::from_millis(50), stdout.io.write_all(&[0; 1024])).await.is_ok() {}
    tokio::spawn(async move {
        stdout.finish().await;
        error.io.write_all(b"over").await.unwrap();
        error.finish().await;
    });
    let mut ended = false;
    loop {
        match client.next().await.unwrap() {
            Frame::Data { stream: 1, fin, .. } => ended |= fin,
            Frame::Data { stream: 3, .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(ended, "the error stream overtook the output");
    drop(connection);
}
