//! CNI plugins.
use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use podwright_types::SandboxId;
use crate::config::NetworksConfig;
use crate::error::CniError;
use crate::networks::LoadedNetwork;
use crate::request::{PodNetwork, PodRequest};
#[derive(Debug)]
pub(crate) struct Plugins {}
impl Plugins {
    pub(crate) fn open(_config: &NetworksConfig) -> Result<Self, CniError> { Ok(Self {}) }
    pub(crate) async fn setup(&self, _request: &PodRequest) -> Result<PodNetwork, CniError> { Err(CniError::HostGone) }
    pub(crate) async fn teardown(&self, _sandbox: &SandboxId, _netns: Option<&OwnedFd>) -> Result<(), CniError> { Ok(()) }
    pub(crate) async fn check(&self, _sandbox: &SandboxId) -> Result<(), CniError> { Ok(()) }
    pub(crate) fn recover(&self, _known: &HashSet<SandboxId>) {}
    pub(crate) fn holders(&self) -> BTreeSet<SandboxId> { BTreeSet::new() }
    pub(crate) fn ready(&self) -> Result<(), String> { Ok(()) }
    pub(crate) fn loaded(&self) -> Option<LoadedNetwork> { None }
}
