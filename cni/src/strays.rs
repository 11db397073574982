//! What is on the host in this daemon's name and belongs to no pod: told to operators, and removed when they say so. What a daemon makes
//! has its instance in the name (of links, of the table) or lies in its own directory, so another daemon's is never taken for it.

use std::fmt;

use podwright_types::SandboxId;

/// One such thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// A lease of addresses and host ports; a stray only if nobody knows the sandbox.
    Lease {
        /// Whose it is.
        sandbox: SandboxId,
    },
    /// A link of the name of ours without a lease.
    Link {
        /// Its name.
        name: String,
    },
    /// More in our nftables table than the leases ask for, or the table without any lease.
    Rules {
        /// Name of the table.
        table: String,
        /// What is too much.
        excess: String,
    },
}

impl Stray {
    /// A word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lease { .. } => "lease",
            Self::Link { .. } => "link",
            Self::Rules { .. } => "nftables",
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease { sandbox } => write!(formatter, "addresses of sandbox {sandbox}"),
            Self::Link { name } => formatter.write_str(name),
            Self::Rules { table, excess } => write!(formatter, "table inet {table}, {excess}"),
        }
    }
}
