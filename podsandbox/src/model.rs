//! What a front end asks for and what it is told: plain data, without behaviour.

mod container;
mod sandbox;
mod security;
mod stats;

pub use container::{
    ContainerConfig, ContainerSnapshot, ContainerState, Device, Exit, IdMapping, Mount, MountSource, Propagation,
    Resources,
};
pub use sandbox::{
    DnsConfig, Handler, HandlerKind, NamespaceMode, NamespaceModes, NetworkStatus, PodLimits, PortMapping, Protocol,
    SandboxConfig, SandboxSnapshot, SandboxState, UserNamespace,
};
pub use security::{
    AppArmor, Capabilities, GroupsPolicy, ResolvedUser, Seccomp, SecurityConfig, SelinuxOptions, UserSpec,
};
pub use stats::{
    CgroupUsage, ContainerDetails, ContainerStats, DeviceIo, FilesystemSize, HugePages, LayerUsage, LayersUsage,
    LinkUsage, MemoryUsage, NetworkUsage, Pressure, SandboxStats, Stall, SwapUsage, Traffic,
};
