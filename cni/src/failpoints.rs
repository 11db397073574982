//! The points at which tests of the whole kill the daemon while it connects and disconnects pods. Owns their names; what happens
//! at one is `podwright_sys::fail_point`'s part. Without the feature `failpoints` nothing of it is left.

pub(crate) use podwright_sys::fail_point;

/// ADD is recorded, and no plugin runs.
pub(crate) const ADD_RECORDED: &str = "cni add recorded";
/// A plugin runs for ADD.
pub(crate) const ADD_RUNS: &str = "cni add runs";
/// A plugin ended ADD.
pub(crate) const ADD_RAN: &str = "cni add ran";
/// All plugins did, and that is not recorded.
pub(crate) const ADD_UNRECORDED: &str = "cni add unrecorded";
/// The result is recorded.
pub(crate) const ADD_DONE: &str = "cni add done";
/// DEL was asked for, and no plugin runs.
pub(crate) const DEL_BEGUN: &str = "cni del begun";
/// A plugin runs for DEL.
pub(crate) const DEL_RUNS: &str = "cni del runs";
/// A plugin ended DEL.
pub(crate) const DEL_RAN: &str = "cni del ran";
/// All plugins did, and the record of ADD is there.
pub(crate) const DEL_UNRECORDED: &str = "cni del unrecorded";
/// The record is gone.
pub(crate) const DEL_DONE: &str = "cni del done";
/// A lease of the embedded network is recorded.
pub(crate) const LEASE_RECORDED: &str = "embedded lease";
/// The host's part is recorded, and not made.
pub(crate) const HOST_RECORDED: &str = "embedded host recorded";
/// The host has its addresses, and not its table.
pub(crate) const HOST_ADDRESSES: &str = "embedded host addresses";
/// The pod's link is there, and its host ports are not.
pub(crate) const LINK_MADE: &str = "embedded link";
/// The pod is connected.
pub(crate) const CONNECTED: &str = "embedded connected";
/// Host ports are closed, and the link is there.
pub(crate) const PORTS_CLOSED: &str = "embedded ports closed";
/// The link is gone, and the lease is there.
pub(crate) const LINK_GONE: &str = "embedded link gone";
/// The lease is gone.
pub(crate) const LEASE_GONE: &str = "embedded lease gone";
/// With the last lease the table is gone, and the host's addresses are there.
pub(crate) const TABLE_GONE: &str = "embedded table gone";
/// The addresses are gone too, and the record of the host's part is there.
pub(crate) const ADDRESSES_GONE: &str = "embedded addresses gone";

/// All of them.
#[cfg(feature = "failpoints")]
pub const FAIL_POINTS: &[&str] = &[
    ADD_RECORDED,
    ADD_RUNS,
    ADD_RAN,
    ADD_UNRECORDED,
    ADD_DONE,
    DEL_BEGUN,
    DEL_RUNS,
    DEL_RAN,
    DEL_UNRECORDED,
    DEL_DONE,
    LEASE_RECORDED,
    HOST_RECORDED,
    HOST_ADDRESSES,
    LINK_MADE,
    CONNECTED,
    PORTS_CLOSED,
    LINK_GONE,
    LEASE_GONE,
    TABLE_GONE,
    ADDRESSES_GONE,
];
