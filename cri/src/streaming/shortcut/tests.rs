//! Bytes that take both ways.

use std::sync::Mutex;

use tokio::io::AsyncWriteExt as _;

use super::*;

/// Takes so many bytes at once and no more until it is told to.
#[derive(Default)]
struct Slow {
    room: Mutex<usize>,
    taken: Mutex<Vec<u8>>,
    more: Notify,
}

impl Slow {
    fn give_room(&self, bytes: usize) {
        *self.room.lock().unwrap() += bytes;
        self.more.notify_waiters();
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

impl Sink for Slow {
    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut room = self.room.lock().unwrap();
        let mut written = 0;
        for piece in pieces {
            let length = piece.len().min(*room);
            self.taken.lock().unwrap().extend_from_slice(&piece[..length]);
            *room -= length;
            written += length;
        }
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if *self.room.lock().unwrap() == 0 {
                more.await;
            }
            Ok(())
        })
    }
}

fn numbered(from: u32, to: u32) -> Vec<u8> {
    (from..to).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test]
async fn bytes_keep_their_order_whichever_way_they_go() {
    let (mut reader, mut user) = tokio::io::duplex(STREAM_BUFFER_BYTES);
    let (shortcut, sink) = (Shortcut::default(), Arc::new(Slow::default()));
    let mut early = VecDeque::from([Bytes::from(numbered(0, 10))]);
    shortcut.write(&mut early);
    assert_eq!(early.len(), 1, "nobody opened it");
    shortcut.fall_behind(early[0].len());
    reader.write_all(&early[0]).await.unwrap();
    let (way, to) = (shortcut.clone(), sink.clone());
    let carried = tokio::spawn(async move { carry(&mut user, &way, to).await });
    sink.give_room(20);
    while sink.taken() < 20 {
        tokio::task::yield_now().await;
    }
    let mut later = VecDeque::from([Bytes::from(numbered(10, 20))]);
    sink.give_room(1);
    shortcut.write(&mut later);
    assert_eq!(later.len(), 1, "what came before it is not written");
    assert!(shortcut.is_worth_waiting(STREAM_BUFFER_BYTES));
    assert!(!shortcut.is_worth_waiting(40));
    sink.give_room(20 + 60);
    shortcut.caught_up().await;
    later.push_back(Bytes::from(numbered(20, 30)));
    shortcut.write(&mut later);
    assert_eq!(later.iter().map(Bytes::len).collect::<Vec<_>>(), [19], "as much as it takes");
    shortcut.fall_behind(later[0].len());
    reader.write_all(&later[0]).await.unwrap();
    sink.give_room(19);
    drop(reader);
    carried.await.unwrap().unwrap();
    assert_eq!(*sink.taken.lock().unwrap(), numbered(0, 30));
}

#[tokio::test]
async fn a_way_that_is_closed_keeps_nobody_waiting() {
    let (mut reader, mut user) = tokio::io::duplex(STREAM_BUFFER_BYTES);
    let (shortcut, sink) = (Shortcut::default(), Arc::new(Slow::default()));
    shortcut.fall_behind(8);
    reader.write_all(&[0; 8]).await.unwrap();
    let (way, to) = (shortcut.clone(), sink.clone());
    let carried = tokio::spawn(async move { carry(&mut user, &way, to).await });
    while !shortcut.is_worth_waiting(STREAM_BUFFER_BYTES) {
        tokio::task::yield_now().await;
    }
    let (waiting, ()) = tokio::join!(shortcut.caught_up(), async { carried.abort() });
    assert_eq!(waiting, ());
    assert!(!shortcut.is_worth_waiting(STREAM_BUFFER_BYTES));
}
