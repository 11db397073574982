//! Looking for what belongs to no lease, and removing it. Both on the network thread, which alone makes links and rules: nothing that is
//! being made is taken for a stray.

use std::sync::Arc;

use podwright_types::SandboxId;

use super::book::Phase;
use super::{Inner, links, rules};
use crate::error::CniError;
use crate::files;
use crate::host::{HostNet, kernel};
use crate::strays::Stray;

impl Inner {
    /// All leases but those of pods that are leaving, and what belongs to none. The caller knows which sandboxes there are, and reads
    /// that after this.
    pub(super) async fn strays(self: &Arc<Self>) -> Result<Vec<Stray>, CniError> {
        let inner = Arc::clone(self);
        let mut found = self.host.run(move |net| inner.unleased(net)).await?;
        found.extend(self.leases_to_check()?);
        Ok(found)
    }

    /// Removes one that the caller has found to be a stray. It is looked at again: meanwhile it may belong to a pod.
    pub(super) async fn remove_stray(self: &Arc<Self>, stray: &Stray) -> Result<(), CniError> {
        match stray {
            Stray::Lease { sandbox } if self.book().get(sandbox).is_some() => {
                let (inner, id) = (Arc::clone(self), sandbox.clone());
                self.host.run(move |net| inner.disconnect(net, &id)).await?;
                self.finish(sandbox).await
            }
            Stray::Lease { sandbox } => files::remove(&self.path(sandbox)),
            Stray::Link { name } => {
                let (inner, name) = (Arc::clone(self), name.clone());
                self.host
                    .run(move |net| match inner.book().holder_of_link(&name) {
                        Some(_) => Ok(()),
                        None => links::delete(net, &name),
                    })
                    .await
            }
            Stray::Rules { .. } => {
                let inner = Arc::clone(self);
                self.host.run(move |net| inner.clean_table(net)).await
            }
        }
    }

    fn leases_to_check(&self) -> Result<Vec<Stray>, CniError> {
        let on_disk = std::fs::read_dir(&self.dir).map_err(files::error("listing", &self.dir))?;
        let names = on_disk.flatten().filter_map(|entry| entry.path().file_stem()?.to_str()?.parse().ok());
        let book = self.book();
        let is_leaving = |sandbox: &SandboxId| book.get(sandbox).is_some_and(|(_, phase)| *phase == Phase::Leaving);
        let mut sandboxes: Vec<SandboxId> = names.chain(book.holders()).filter(|id| !is_leaving(id)).collect();
        sandboxes.sort();
        sandboxes.dedup();
        Ok(sandboxes.into_iter().map(|sandbox| Stray::Lease { sandbox }).collect())
    }

    fn unleased(&self, net: &HostNet) -> Result<Vec<Stray>, CniError> {
        let mut found = Vec::new();
        for name in links::links_with_prefix(net, &self.link_prefix)? {
            let is_ours = self.book().holder_of_link(&name).is_some();
            // The kernel takes links away by itself some time after their namespace.
            if !is_ours && links::link_exists(&net.route, &name)? {
                found.push(Stray::Link { name });
            }
        }
        if let Some(excess) = self.excess(net)? {
            found.push(Stray::Rules { table: self.table.clone(), excess });
        }
        Ok(found)
    }

    /// What the table has and should not. Missing rules are put back by the reaper and are no stray.
    fn excess(&self, net: &HostNet) -> Result<Option<String>, CniError> {
        let failed = |error| kernel("reading nftables table", &*self.table, error);
        let rules = net.nft.rules(&self.table).map_err(failed)?;
        let Some(pools) = self.book().base.clone() else {
            return Ok((rules > 0).then(|| format!("with {rules} rules, and there are no pods")));
        };
        let wanted = rules::count(&self.link_prefix, &pools);
        if rules > wanted {
            return Ok(Some(format!("{} rules", rules - wanted)));
        }
        if rules < wanted {
            return Ok(None);
        }
        let mut elements = 0;
        for set in rules::set_names() {
            elements += net.nft.elements(&self.table, set).map_err(failed)?;
        }
        let wanted: usize = self.book().with_rules().map(|lease| rules::elements(lease).len()).sum();
        Ok((elements > wanted).then(|| format!("{} elements of host ports", elements - wanted)))
    }

    fn clean_table(&self, net: &HostNet) -> Result<(), CniError> {
        let base = self.book().base.clone();
        match base {
            Some(pools) => self.rewrite_table(net, &pools),
            None => net
                .nft
                .commit(&self.table, &rules::remove_table())
                .map_err(|error| kernel("removing nftables table", &*self.table, error)),
        }
    }
}
