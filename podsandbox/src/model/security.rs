//! What a process may do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Security of a sandbox or of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityConfig {
    /// All devices, all capabilities of the daemon, no masks, no seccomp.
    pub privileged: bool,
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// Who runs it.
    pub user: UserSpec,
    /// Groups beside the primary one.
    pub supplemental_groups: Vec<u32>,
    /// Whether groups of the image are added to them.
    pub groups_policy: GroupsPolicy,
    /// The root file system is read-only.
    pub readonly_rootfs: bool,
    /// Sets no_new_privs.
    pub no_new_privileges: bool,
    /// System calls.
    pub seccomp: Seccomp,
    /// AppArmor.
    pub apparmor: AppArmor,
    /// SELinux label; `None` leaves the default.
    pub selinux: Option<SelinuxOptions>,
    /// Paths that are hidden. Empty: none.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that are read-only. Empty: none.
    pub readonly_paths: Vec<PathBuf>,
}

/// Changes to the default capabilities. Names with or without `CAP_`, in any case; `ALL` is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Added to the effective, permitted and bounding set.
    pub add: Vec<String>,
    /// Taken away.
    pub drop: Vec<String>,
    /// Added to the ambient and inheritable set too.
    pub ambient: Vec<String>,
}

/// Who runs a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserSpec {
    /// As the image says; root where it says nothing.
    #[default]
    FromImage,
    /// Numbers.
    Id {
        /// User id.
        uid: u32,
        /// Group id; `None` takes the primary group from the image's passwd, else 0.
        gid: Option<u32>,
    },
    /// A name of the image's passwd file.
    Name {
        /// User name.
        name: String,
        /// Group id; `None` takes the primary group from the image's passwd.
        gid: Option<u32>,
    },
}

/// Whether groups of the image's group file are added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// They are.
    #[default]
    Merge,
    /// They are not.
    Strict,
}

/// A user after names were looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All supplementary groups, the primary one first.
    pub supplemental_groups: Vec<u32>,
}

/// Which seccomp filter applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Our own default.
    RuntimeDefault,
    /// None.
    #[default]
    Unconfined,
    /// A profile on the node: JSON as Docker and Kubernetes write it.
    Localhost(PathBuf),
}

/// Which AppArmor profile applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmor {
    /// Our own default, where the host has AppArmor.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile that is loaded on the node.
    Localhost(String),
}

/// An SELinux label in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelinuxOptions {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub type_: String,
    /// Level.
    pub level: String,
}
