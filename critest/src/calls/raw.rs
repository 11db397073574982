//! Calls by bytes: the codec of a client and a server that know no types.

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Largest message, as kubelet's.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Leaves messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a method, `RuntimeService/Version`, by bytes.
///
/// # Errors
/// What the server answers, or that it can not be reached.
pub async fn call(channel: &Channel, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let path = PathAndQuery::try_from(format!("/runtime.v1.{method}"));
    let path = path.map_err(|error| Status::internal(format!("the method {method}: {error}")))?;
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    client.unary(request, path, RawCodec).await
}
