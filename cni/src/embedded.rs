//! The embedded network.
use std::collections::{BTreeSet, HashSet};
use podwright_types::SandboxId;
use crate::config::{NetworksConfig, Prefix};
use crate::error::CniError;
use crate::request::{PodNetwork, PodRequest};
#[derive(Debug)]
pub(crate) struct Embedded {}
impl Embedded {
    pub(crate) fn open(_config: &NetworksConfig, _preferred: Vec<Prefix>) -> Result<Self, CniError> { Ok(Self {}) }
    pub(crate) async fn setup(&self, _request: &PodRequest) -> Result<PodNetwork, CniError> { Err(CniError::HostGone) }
    pub(crate) async fn teardown(&self, _sandbox: &SandboxId) -> Result<(), CniError> { Ok(()) }
    pub(crate) async fn check(&self, _sandbox: &SandboxId) -> Result<(), CniError> { Ok(()) }
    pub(crate) async fn recover(&self, _known: &HashSet<SandboxId>) -> Result<(), CniError> { Ok(()) }
    pub(crate) fn prefer_pools(&self, _pools: Vec<Prefix>) {}
    pub(crate) fn holders(&self) -> BTreeSet<SandboxId> { BTreeSet::new() }
    pub(crate) fn pools(&self) -> Vec<Prefix> { Vec::new() }
}
