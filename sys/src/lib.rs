//! System calls that have no safe wrapper in rustix or nix, and a few safe combinations of those that have one. The only
//! crate with unsafe code.
//!
//! What rustix or nix offers as a safe function is called there and not wrapped here.

mod bpf;
mod clone;
mod confine;
mod exhausted;
mod failpoints;
mod fds;
mod files;
mod heap;
mod host;
mod inherit;
mod keep;
mod keyring;
mod kill;
mod mounts;
mod namespaces;
mod packets;
mod seccomp;
mod signals;

pub use bpf::{BpfInstruction, attach_device_program, load_device_program};
pub use clone::{CloneFlags, Clones, Process, clone_process};
pub use confine::{AllowList, CapabilitySet, gain_nothing, keep_capabilities};
pub use exhausted::{exhaustion_remedy, spare_descriptors};
#[cfg(feature = "failpoints")]
pub use failpoints::arm_fail_point;
pub use failpoints::fail_point;
pub use fds::{close_all_from, exec_fd, make_all_cloexec_from};
pub use files::{FileStamp, read_small_file};
pub use heap::trim_heap;
pub use host::{boot_id, exit_now, loopback_up, random_bytes};
pub use inherit::{take_inherited, take_inherited_range};
pub use keep::close_all_except;
pub use keyring::new_session_keyring;
pub use kill::{signal_pidfd, signal_process};
pub use mounts::{MountAttributes, bind_fd, clone_file_readonly, clone_tree, set_mount_attributes};
pub use namespaces::{Propagation, join_namespace, join_process_namespaces, unshare};
pub use packets::{Received, next_packet_length, packet_pair, receive_packet, send_packet};
pub use rustix::io::Errno;
pub use seccomp::{SeccompInstruction, install_seccomp_filter};
pub use signals::{block_signals, ignore_signal, reset_signals};

/// Turns the result of a raw system call into an error.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
