//! An unmodified kubelet on our daemon: standalone, with static pods.
//!
//! `PODWRIGHT_KUBELET=PATH` names its binary; without it these tests do nothing and say so. docs/kubelet.md tells how to run them.

// A JSON value indexed with a name that it has not is null; and tests tell what they skip, and show logs.
#![allow(clippy::indexing_slicing, clippy::print_stdout, clippy::print_stderr)]

#[path = "kubelet/api.rs"]
mod api;
#[path = "kubelet/ends.rs"]
mod ends;
#[path = "kubelet/garbage.rs"]
mod garbage;
#[path = "kubelet/node.rs"]
mod node;
#[path = "kubelet/pods.rs"]
mod pods;
#[path = "kubelet/record.rs"]
mod record;
#[path = "kubelet/restarts.rs"]
mod restarts;
#[path = "kubelet/status.rs"]
mod status;
#[path = "kubelet/talk.rs"]
mod talk;
#[path = "kubelet/volumes.rs"]
mod volumes;
