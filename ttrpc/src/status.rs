//! ttrpc's own messages: the envelope of a request and of a response. Written by hand, as they are few.

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
    /// Time limit in nanoseconds.
    #[prost(int64, tag = "4")]
    pub(crate) timeout_nanos: i64,
}

/// Its answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

/// An error of a call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// gRPC's number for it.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// In words.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// [`Status::code`]: the one who asks is at fault.
pub const INVALID_ARGUMENT: i32 = 3;
/// [`Status::code`]: there is no such call.
pub const UNIMPLEMENTED: i32 = 12;
/// [`Status::code`]: something went wrong with the one who was asked.
pub const INTERNAL: i32 = 13;
