//! Blocks of memory that are used again. A fresh one of this size is mapped by the allocator and faulted in page by page, each time.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

/// Size of a block.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// Where blocks are taken from; who has used one gives it back by dropping it.
pub(super) struct Blocks {
    returned: Receiver<Box<[u8]>>,
    to_return: SyncSender<Box<[u8]>>,
}

/// The filled part of a block.
struct Filled {
    block: Box<[u8]>,
    length: usize,
    to_return: SyncSender<Box<[u8]>>,
}

impl Blocks {
    /// Keeps at most `kept` blocks.
    pub(super) fn new(kept: usize) -> Self {
        let (to_return, returned) = sync_channel(kept);
        Self { returned, to_return }
    }

    /// A block with whatever is in it.
    pub(super) fn take(&self) -> Box<[u8]> {
        self.returned.try_recv().unwrap_or_else(|_| vec![0; BLOCK_BYTES].into())
    }

    /// Its first bytes, to be passed on.
    pub(super) fn filled(&self, block: Box<[u8]>, length: usize) -> Bytes {
        Bytes::from_owner(Filled { block, length, to_return: self.to_return.clone() })
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.block.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        // Where enough are kept, or their keeper has gone, it is freed.
        let _ = self.to_return.try_send(std::mem::take(&mut self.block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_when_all_of_its_bytes_are_dropped() {
        let blocks = Blocks::new(1);
        let block = blocks.take();
        let place = block.as_ptr();
        let mut bytes = blocks.filled(block, 10);
        let part = bytes.split_to(4);
        assert_eq!((part.len(), bytes.len()), (4, 6));
        drop(bytes);
        assert!(blocks.returned.try_recv().is_err(), "a part is in use");
        drop(part);
        let again = blocks.take();
        assert_eq!(again.as_ptr(), place);
    }
}
