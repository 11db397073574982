//! The real parts behind the engine's traits. Each file adapts one crate and holds no logic of its own beyond that.

mod cgroupfs;
mod checkpoints;
mod driver;
mod images;
pub(crate) mod mark;
mod network;
mod shim;
mod shims;
mod statistics;
mod systemd;

use podwright_podsandbox::ports::PortError;

pub(crate) use cgroupfs::Cgroupfs;
pub(crate) use checkpoints::CriuCheckpoints;
pub(crate) use driver::CgroupDriver;
pub(crate) use images::StoredImages;
pub(crate) use network::PodNetworks;
pub(crate) use shims::ShimLauncher;
pub(crate) use statistics::HostStatistics;
pub(crate) use systemd::SystemdCgroups;

/// A failure of this host's: exhausted if an error number behind it says so, with what to do about it.
pub(crate) fn failed_with(errno: Option<i32>, text: String) -> PortError {
    match errno.and_then(podwright_sys::exhaustion_remedy) {
        Some(remedy) => PortError::Exhausted(format!("{text}; {remedy}")),
        None if errno == Some(rustix::io::Errno::ROFS.raw_os_error()) => PortError::ReadOnly(text),
        None => PortError::Failed(text),
    }
}

/// The number of the first system error among an error and all that it comes from.
pub(crate) fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let own = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    own.or_else(|| error.source().and_then(errno_of))
}

/// An error and all that it comes from, on one line. The engine passes texts on, not errors.
pub(crate) fn whole_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
