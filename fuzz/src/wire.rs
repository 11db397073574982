//! The daemon-shim protocol: what can be read can be written and read again.

use std::fmt::Debug;

use podwright_shim_api::{Packet, Request};
use prost::Message;

pub(crate) fn request(bytes: &[u8]) {
    round_trip::<Request>(bytes);
}

pub(crate) fn packet(bytes: &[u8]) {
    round_trip::<Packet>(bytes);
}

fn round_trip<T: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(first) = T::decode(bytes) else { return };
    let second = T::decode(first.encode_to_vec().as_slice());
    assert_eq!(second.as_ref(), Ok(&first), "a message changes when it is written again");
}
