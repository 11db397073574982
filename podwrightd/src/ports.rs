//! The real parts behind the engine's traits. Each file adapts one crate and holds no logic of its own beyond that.

mod cgroupfs;
mod driver;
mod images;
mod network;
mod shim;
mod shims;
mod statistics;
mod systemd;

pub(crate) use cgroupfs::Cgroupfs;
pub(crate) use driver::CgroupDriver;
pub(crate) use images::StoredImages;
pub(crate) use network::PodNetworks;
pub(crate) use shims::ShimLauncher;
pub(crate) use statistics::HostStatistics;
pub(crate) use systemd::SystemdCgroups;

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
