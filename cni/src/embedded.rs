//! The embedded default network: a point-to-point veth and host routes for each pod, no bridge, nothing to install.
//!
//! ```text
//!            setup                       teardown                 link is gone
//! (nothing) ───────> Intended ─> Connected ────────> Leaving ───────────────────> (nothing)
//! ```
//!
//! A lease is recorded before anything is made of it. Dropping the pod's network namespace removes the link at no cost, while
//! removing it by hand waits for the kernel; so teardown leaves it, and the address is given away only once the link is gone.
//! If the namespace lives on for [`reaper::LINGER`], the link is removed. The host's own part (table, gateway addresses) is made with
//! the first lease and removed with the last.

mod book;
mod lease;
mod links;
mod pools;
mod reaper;
mod rules;
mod strays;
mod sysctl;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwright_types::SandboxId;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::config::{EmbeddedConfig, NetworksConfig, Prefix};
use crate::error::CniError;
use crate::failpoints::{self, fail_point};
use crate::files;
use crate::host::{Host, HostNet, kernel};
use crate::nft::Change;
use crate::request::{PodNetwork, PodRequest, PortMapping, Protocol};
use crate::strays::Stray;
use book::{Book, Phase};
use lease::{Lease, Pools};

/// Letters of the name of a link that tell daemons of a host apart: 25 bits, as one that took another's links for its own would
/// remove them.
const INSTANCE_LETTERS: usize = 5;
/// Letters that tell pods apart: 40 bits. With the first two, these are the 15 that a name may have.
const SANDBOX_LETTERS: usize = 8;

/// The embedded network.
#[derive(Debug)]
pub(crate) struct Embedded {
    inner: Arc<Inner>,
    reaper: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    config: EmbeddedConfig,
    instance: String,
    table: String,
    link_prefix: String,
    dir: PathBuf,
    /// Says for which pools the host has its part, from before that is made until it is gone.
    base_file: PathBuf,
    host: Host,
    book: Mutex<Book>,
    preferred: Mutex<Vec<Prefix>>,
    leaving: Notify,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

impl Embedded {
    /// Reads the leases; changes nothing of the host.
    pub(crate) fn open(config: &NetworksConfig, host: Host, preferred: Vec<Prefix>) -> Result<Self, CniError> {
        pools::check_instance(&config.instance)?;
        pools::check_pools(&config.embedded)?;
        let dir = config.state_dir.join("embedded");
        files::make_dir(&dir)?;
        files::remove_temporaries(&config.state_dir)?;
        let mut book = Book::default();
        for (_, lease) in files::read_all::<Lease>(&dir)? {
            book.pools = Some(lease.pools);
            book.insert(lease);
        }
        let base_file = config.state_dir.join("embedded-host.json");
        book.base = files::read(&base_file).unwrap_or_else(|error| {
            tracing::warn!(%error, "addresses of the host in pools of before may be left");
            None
        });
        let events = reaper::listen().map_err(|error| kernel("listening for", "links that go away", error))?;
        let inner = Arc::new(Inner {
            config: config.embedded.clone(),
            instance: config.instance.clone(),
            table: format!("podwright-{}", config.instance),
            link_prefix: format!("pw{}", letters(&config.instance, INSTANCE_LETTERS)),
            dir,
            base_file,
            host,
            book: Mutex::new(book),
            preferred: Mutex::new(preferred),
            leaving: Notify::new(),
        });
        let reaper = tokio::spawn(reaper::reap(Arc::clone(&inner), events));
        Ok(Self { inner, reaper })
    }

    /// Connects a pod; a connected one is answered from memory.
    pub(crate) async fn setup(&self, request: &PodRequest) -> Result<PodNetwork, CniError> {
        let sandbox = &request.sandbox;
        let known = self.inner.book().get(sandbox).cloned();
        match known {
            Some((lease, Phase::Connected)) => return Ok(PodNetwork { addresses: lease.addresses() }),
            Some((_, Phase::Leaving)) => self.inner.finish(sandbox).await?,
            Some((_, Phase::Intended)) | None => {}
        }
        let netns = request.netns.clone().ok_or_else(|| CniError::Request {
            sandbox: sandbox.clone(),
            reason: "it has no network namespace".to_owned(),
        })?;
        let lease = self.inner.lease(request).await?;
        let inner = Arc::clone(&self.inner);
        let job = lease.clone();
        let made = self.inner.host.run(move |net| inner.connect(net, &job, &netns)).await;
        match made {
            Ok(lease) => Ok(PodNetwork { addresses: lease.addresses() }),
            Err(error) => {
                self.inner.undo(sandbox).await;
                Err(error)
            }
        }
    }

    /// Disconnects a pod: its host ports are closed at once, its addresses given back when its link is gone.
    pub(crate) async fn teardown(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        let inner = Arc::clone(&self.inner);
        let id = sandbox.clone();
        let gone = self.inner.host.run(move |net| inner.disconnect(net, &id)).await?;
        if gone {
            self.inner.release(sandbox).await
        } else {
            self.inner.leaving.notify_one();
            Ok(())
        }
    }

    /// Whether the pod's link is there.
    pub(crate) async fn check(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        let lease = self.inner.book().get(sandbox).map(|(lease, _)| lease.link.clone());
        let link = lease
            .ok_or_else(|| CniError::Request { sandbox: sandbox.clone(), reason: "it is not connected".to_owned() })?;
        let (name, id) = (link.clone(), sandbox.clone());
        let exists = self.inner.host.run(move |net| links::link_exists(&net.route, &name)).await?;
        if exists { Ok(()) } else { Err(CniError::Request { sandbox: id, reason: format!("its link {link} is gone") }) }
    }

    /// Frees what belongs to none of the known sandboxes, and writes the table anew from the leases.
    pub(crate) async fn recover(&self, known: &HashSet<SandboxId>) -> Result<(), CniError> {
        let strangers: Vec<SandboxId> =
            self.inner.book().holders().into_iter().filter(|sandbox| !known.contains(sandbox)).collect();
        for sandbox in &strangers {
            self.inner.book().set_phase(sandbox, Phase::Leaving);
        }
        let inner = Arc::clone(&self.inner);
        self.inner.host.run(move |net| inner.tidy(net)).await?;
        for sandbox in &strangers {
            self.inner.release(sandbox).await?;
        }
        Ok(())
    }

    /// See [`Inner::strays`].
    pub(crate) async fn strays(&self) -> Result<Vec<Stray>, CniError> {
        self.inner.strays().await
    }

    /// See [`Inner::remove_stray`].
    pub(crate) async fn remove_stray(&self, stray: &Stray) -> Result<(), CniError> {
        self.inner.remove_stray(stray).await
    }

    /// Takes the addresses of new pods from these pools.
    pub(crate) fn prefer_pools(&self, pools: Vec<Prefix>) {
        *self.inner.preferred.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        self.inner.book().pools = None;
    }

    /// Name of the host's end of a pod's link.
    pub(crate) fn link(&self, sandbox: &SandboxId) -> Option<String> {
        self.inner.book().get(sandbox).map(|(lease, _)| lease.link.clone())
    }

    /// Sandboxes with a lease.
    pub(crate) fn holders(&self) -> BTreeSet<SandboxId> {
        self.inner.book().holders()
    }

    /// Pools of new pods, once chosen.
    pub(crate) fn pools(&self) -> Vec<Prefix> {
        self.inner.book().pools.into_iter().flat_map(|pools| [pools.ipv4, pools.ipv6]).flatten().collect()
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }

    /// The pod's lease, recorded.
    async fn lease(self: &Arc<Self>, request: &PodRequest) -> Result<Lease, CniError> {
        if let Some((lease, _)) = self.book().get(&request.sandbox) {
            return Ok(lease.clone());
        }
        if self.needs_pools() {
            let inner = Arc::clone(self);
            self.host.run(move |net| inner.choose_pools(net)).await?;
        }
        let link = format!("{}{}", self.link_prefix, letters(request.sandbox.as_str(), SANDBOX_LETTERS));
        let mappings: Vec<PortMapping> =
            request.port_mappings.iter().filter(|mapping| mapping.host_port != 0).cloned().collect();
        let lease = self.book().take(&request.sandbox, link, mappings)?;
        // A network namespace does not survive a power cut, so neither needs the lease.
        if let Err(error) = files::write(&self.path(&lease.sandbox), &lease, false) {
            self.book().remove(&lease.sandbox);
            return Err(error);
        }
        fail_point(failpoints::LEASE_RECORDED);
        Ok(lease)
    }

    fn needs_pools(&self) -> bool {
        let book = self.book();
        // Without pods the choice is made anew: the host's routes may have changed.
        book.pools.is_none() || book.is_empty()
    }

    fn choose_pools(&self, net: &HostNet) -> Result<(), CniError> {
        if !self.needs_pools() {
            return Ok(());
        }
        let routed = links::routed_prefixes(net)?;
        let own = self.book().base.clone().unwrap_or_default();
        let is_own = |prefix: &Prefix| {
            own.iter()
                .flat_map(|pools| [pools.gateway(true), pools.gateway(false)])
                .flatten()
                .any(|gateway| prefix.address() == gateway)
        };
        let routed: Vec<Prefix> = routed.into_iter().filter(|prefix| !is_own(prefix)).collect();
        let preferred = self.preferred.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let current = self.book().pools;
        let pools = pools::pick(&self.config, &self.instance, &preferred, current, &routed, sysctl::has_ipv6())?;
        if current != Some(pools) {
            tracing::info!(ipv4 = ?pools.ipv4.map(|pool| pool.to_string()), ipv6 = ?pools.ipv6.map(|pool| pool.to_string()), "chose the pools of the embedded network");
        }
        self.book().pools = Some(pools);
        Ok(())
    }

    /// Makes the host's part and the pod's.
    fn connect(&self, net: &HostNet, lease: &Lease, netns: &std::os::fd::OwnedFd) -> Result<Lease, CniError> {
        self.ensure_base(net, false)?;
        let mtu = self.mtu(net)?;
        let ipv6 = links::connect(net, lease, netns, mtu)?;
        fail_point(failpoints::LINK_MADE);
        let mut lease = lease.clone();
        if !ipv6 && lease.ipv6.is_some() {
            lease.ipv6 = None;
            files::write(&self.path(&lease.sandbox), &lease, false)?;
            let mut book = self.book();
            book.remove(&lease.sandbox);
            book.insert(lease.clone());
        }
        self.change_table(net, rules::elements(&lease).into_iter().map(Change::AddElement).collect())?;
        forget_flows(net, &lease);
        self.book().set_phase(&lease.sandbox, Phase::Connected);
        fail_point(failpoints::CONNECTED);
        Ok(lease)
    }

    /// MTU of new pods, looked up once for each making of the base: listing routes takes long when there are many pods.
    fn mtu(&self, net: &HostNet) -> Result<u32, CniError> {
        let known = self.config.mtu.or(self.book().mtu);
        let mtu = known.map_or_else(|| links::default_mtu(net), Ok)?;
        self.book().mtu = Some(mtu);
        Ok(mtu)
    }

    /// Makes table and gateway addresses, if they are not as they should be; with `anew` in any case.
    fn ensure_base(&self, net: &HostNet, anew: bool) -> Result<(), CniError> {
        let (wanted, made) = {
            let book = self.book();
            (book.wanted_pools(), book.base.clone())
        };
        if !anew && made.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let dropped: Vec<Pools> =
            made.unwrap_or_default().into_iter().filter(|pools| !wanted.contains(pools)).collect();
        files::write(&self.base_file, &[wanted.as_slice(), &dropped].concat(), false)?;
        fail_point(failpoints::HOST_RECORDED);
        sysctl::forward(wanted.iter().any(|pools| pools.ipv6.is_some()))?;
        links::add_gateways(net, &wanted)?;
        links::remove_gateways(net, &dropped)?;
        fail_point(failpoints::HOST_ADDRESSES);
        self.rewrite_table(net, &wanted)?;
        let mut book = self.book();
        book.base = Some(wanted);
        book.mtu = None;
        Ok(())
    }

    fn rewrite_table(&self, net: &HostNet, pools: &[Pools]) -> Result<(), CniError> {
        let changes = rules::replace_table(&self.link_prefix, pools, self.book().with_rules());
        net.nft.commit(&self.table, &changes).map_err(|error| kernel("writing nftables table", &*self.table, error))
    }

    /// Puts the table back that somebody else has flushed: pods would reach nothing outside, and nobody their host ports.
    fn restore_table(&self, net: &HostNet) -> Result<(), CniError> {
        let Some(pools) = self.book().base.clone() else { return Ok(()) };
        let rules =
            net.nft.rules(&self.table).map_err(|error| kernel("reading nftables table", &*self.table, error))?;
        if rules == rules::count(&self.link_prefix, &pools) {
            return Ok(());
        }
        tracing::warn!(table = %self.table, rules, "somebody has changed or flushed the nftables table; writing it anew");
        self.rewrite_table(net, &pools)
    }

    /// Adds or removes elements; where that does not fit what is there, the table is written anew from the leases.
    fn change_table(&self, net: &HostNet, changes: Vec<Change>) -> Result<(), CniError> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Err(error) = net.nft.commit(&self.table, &changes) {
            tracing::warn!(table = %self.table, %error, "writing the nftables table anew");
            let pools = self.book().wanted_pools();
            return self.rewrite_table(net, &pools);
        }
        Ok(())
    }

    /// Closes the host ports; returns whether the link is gone.
    fn disconnect(&self, net: &HostNet, sandbox: &SandboxId) -> Result<bool, CniError> {
        let Some((lease, phase)) = self.book().get(sandbox).cloned() else { return Ok(true) };
        self.book().set_phase(sandbox, Phase::Leaving);
        if phase != Phase::Leaving {
            let elements = rules::elements(&lease);
            if let Err(error) = self.change_table(net, elements.into_iter().map(Change::DeleteElement).collect()) {
                self.book().set_phase(sandbox, phase);
                return Err(error);
            }
            forget_flows(net, &lease);
            self.book().free_ports(sandbox);
            fail_point(failpoints::PORTS_CLOSED);
        }
        links::link_exists(&net.route, &lease.link).map(|exists| !exists)
    }

    /// Undoes a setup that failed; what can not be undone now is left to the reaper.
    async fn undo(self: &Arc<Self>, sandbox: &SandboxId) {
        let inner = Arc::clone(self);
        let id = sandbox.clone();
        let closed = self.host.run(move |net| inner.disconnect(net, &id)).await;
        let undone = match closed {
            Ok(_) => self.finish(sandbox).await,
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            tracing::warn!(%sandbox, error = %error, "the network of a pod that failed is not undone yet");
            self.book().set_phase(sandbox, Phase::Leaving);
            self.leaving.notify_one();
        }
    }

    /// Removes the link of a pod that left, and its lease.
    async fn finish(self: &Arc<Self>, sandbox: &SandboxId) -> Result<(), CniError> {
        let link = self.book().get(sandbox).map(|(lease, _)| lease.link.clone());
        if let Some(link) = link {
            self.host.run(move |net| links::delete(net, &link)).await?;
        }
        self.release(sandbox).await
    }

    /// Gives the addresses back; with the last lease goes the host's part. The link must be gone.
    async fn release(self: &Arc<Self>, sandbox: &SandboxId) -> Result<(), CniError> {
        fail_point(failpoints::LINK_GONE);
        files::remove(&self.path(sandbox))?;
        self.book().remove(sandbox);
        fail_point(failpoints::LEASE_GONE);
        if !self.book().is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(self);
        self.host.run(move |net| inner.remove_base(net)).await
    }

    fn remove_base(&self, net: &HostNet) -> Result<(), CniError> {
        let base = {
            let book = self.book();
            if book.is_empty() { book.base.clone() } else { None }
        };
        let Some(pools) = base else { return Ok(()) };
        net.nft
            .commit(&self.table, &rules::remove_table())
            .map_err(|error| kernel("removing nftables table", &*self.table, error))?;
        fail_point(failpoints::TABLE_GONE);
        links::remove_gateways(net, &pools)?;
        fail_point(failpoints::ADDRESSES_GONE);
        files::remove(&self.base_file)?;
        self.book().base = None;
        Ok(())
    }

    /// Removes links without a lease, then makes table and addresses as the leases say.
    fn tidy(&self, net: &HostNet) -> Result<(), CniError> {
        for link in links::links_with_prefix(net, &self.link_prefix)? {
            let keep = {
                let book = self.book();
                let holder = book.holder_of_link(&link).and_then(|holder| book.get(holder));
                holder.is_some_and(|(_, phase)| *phase != Phase::Leaving)
            };
            if !keep {
                tracing::info!(%link, "removing the link of a pod that is gone");
                links::delete(net, &link)?;
            }
        }
        if self.book().is_empty() {
            // A daemon that was killed after the last lease went leaves the host's part.
            self.remove_base(net)?;
            return net
                .nft
                .commit(&self.table, &rules::remove_table())
                .map_err(|error| kernel("removing nftables table", &*self.table, error));
        }
        self.ensure_base(net, true)
    }
}

/// Makes flows to the pod's UDP host ports begin anew: those of the port's last pod, or of none.
fn forget_flows(net: &HostNet, lease: &Lease) {
    let udp = lease.port_mappings.iter().filter(|mapping| mapping.protocol == Protocol::Udp);
    let ports: Vec<u16> = udp.map(|mapping| mapping.host_port).collect();
    if !ports.is_empty()
        && let Err(error) = net.conntrack.forget_udp(&ports)
    {
        tracing::warn!(sandbox = %lease.sandbox, %error, "old UDP flows to its host ports may go astray");
    }
}

/// The beginning of a text's hash, five bits a letter.
fn letters(text: &str, count: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().flat_map(|byte| (0..8).rev().map(move |at| usize::from(byte >> at & 1)));
    let mut bits = bits.peekable();
    let letter = |_| {
        let number = bits.by_ref().take(5).fold(0, |number, bit| number * 2 + bit);
        LETTERS.get(number).copied().map(char::from)
    };
    (0..count).filter_map(letter).collect()
}

#[cfg(test)]
mod released;
#[cfg(test)]
mod tests;
