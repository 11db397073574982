//! Long lists: cut into messages for the streaming lists, and refused where one message can not hold them.

use std::pin::Pin;

use prost::Message;
use tokio_stream::{Stream, iter};
use tonic::Status;

use crate::service::MAX_MESSAGE_BYTES;
use crate::status;

/// A message of a streaming list is sent when it has reached this size: small beside what clients take, even with the largest
/// item on top, and large enough that messages are few.
const CHUNK_BYTES: usize = 1 << 20;
/// What the wire adds to an item: its field number and its length.
const ITEM_OVERHEAD_BYTES: usize = 6;

/// The stream of an RPC.
pub(crate) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Items in messages of about [`CHUNK_BYTES`], each made only when the client is ready for it. No items are no message.
pub(crate) fn stream<I, T>(items: I, wrap: impl Fn(Vec<I::Item>) -> T + Send + 'static) -> Messages<T>
where
    I: Iterator + Send + 'static,
    I::Item: Message,
    T: Send + 'static,
{
    let mut items = items;
    let chunks = std::iter::from_fn(move || Some(chunk(&mut items)).filter(|chunk| !chunk.is_empty()));
    Box::pin(iter(chunks.map(move |chunk| Ok(wrap(chunk)))))
}

fn chunk<T: Message>(items: &mut impl Iterator<Item = T>) -> Vec<T> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES {
        let Some(item) = items.next() else { break };
        bytes += item.encoded_len() + ITEM_OVERHEAD_BYTES;
        chunk.push(item);
    }
    chunk
}

/// The whole list in one message, if clients can take that.
///
/// # Errors
/// RESOURCE_EXHAUSTED that names the streaming RPC.
pub(crate) fn whole<T: Message>(list: T, streaming: &'static str) -> Result<T, Status> {
    let bytes = list.encoded_len();
    if bytes > MAX_MESSAGE_BYTES {
        return Err(status::too_long(bytes, streaming));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_cri_api::v1;
    use tokio_stream::StreamExt as _;

    fn item(number: usize, bytes: usize) -> v1::PodSandbox {
        v1::PodSandbox { id: number.to_string(), runtime_handler: "x".repeat(bytes), ..Default::default() }
    }

    async fn sent(items: Vec<v1::PodSandbox>) -> Vec<v1::StreamPodSandboxesResponse> {
        let wrap = |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes };
        stream(items.into_iter(), wrap).map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn every_item_comes_once_in_messages_of_some_size() {
        let messages = sent((0..50_000).map(|number| item(number, 100)).collect()).await;
        assert!(messages.len() > 1 && messages.iter().all(|message| message.encoded_len() < 2 * CHUNK_BYTES));
        let ids = messages.iter().flat_map(|message| &message.pod_sandboxes).map(|item| item.id.clone());
        assert!(ids.eq((0..50_000).map(|number| number.to_string())));
        assert_eq!(sent(Vec::new()).await, []);
    }

    #[tokio::test]
    async fn a_large_item_is_sent_all_the_same() {
        let messages = sent(vec![item(0, 1), item(1, 3 * CHUNK_BYTES), item(2, 1)]).await;
        assert_eq!(messages.iter().map(|message| message.pod_sandboxes.len()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_list_that_is_too_long_names_its_stream() {
        let list = |count| v1::ListPodSandboxResponse { items: (0..count).map(|i| item(i, 1 << 20)).collect() };
        assert!(whole(list(15), "StreamPodSandboxes").is_ok());
        let status = whole(list(16), "StreamPodSandboxes").unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().contains("StreamPodSandboxes"), "{}", status.message());
    }
}
