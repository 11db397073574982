//! Entry points of the fuzz targets, with what must hold whatever the bytes are. Only with the feature `fuzzing`.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::container::ContainerRecord;
use crate::record;
use crate::sandbox::SandboxRecord;

/// A record with its envelope.
pub fn record(bytes: &[u8]) {
    let _ = record::decode::<SandboxRecord>(bytes);
    let _ = record::decode::<ContainerRecord>(bytes);
}

/// The body of a record, in an envelope that is right: what a daemon of another version may have written.
pub fn record_body(bytes: &[u8]) {
    let Ok(body) = serde_json::from_slice::<&serde_json::value::RawValue>(bytes) else { return };
    let Ok(envelope) = record::encode(&body) else { return };
    round_trip::<SandboxRecord>(&envelope);
    round_trip::<ContainerRecord>(&envelope);
}

/// What is read is written so that it is read again.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(envelope: &[u8]) {
    let Ok(first) = record::decode::<T>(envelope) else { return };
    let second = record::encode(&first).ok().and_then(|bytes| record::decode::<T>(&bytes).ok());
    assert_eq!(Some(first), second, "a record changes when it is written again");
}
