//! SPDY/3.1, the server's side, as far as the stream protocols of Kubernetes need it: the client opens streams, both sides send
//! data. No crate that is kept up speaks it. What the streams are for is left to others.

#[cfg(test)]
pub(crate) mod client;
mod connection;
mod control;
mod dictionary;
pub(super) mod frame;
mod headers;
mod reader;
mod streams;
mod window;
mod writer;

pub(super) use connection::{Accept, Connection, Opened};
pub(super) use headers::Headers;
pub(super) use writer::Outlet;
