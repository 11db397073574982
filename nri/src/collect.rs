//! What plugins ask for in answer to one request, put together: each field of a container is one plugin's. A later plugin may take
//! away what an earlier one set, and then set it anew; that alone changes an owner.

use std::collections::BTreeMap;

use crate::api::{
    CompoundFieldOwners, Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, FieldOwners, KeyValue,
    LinuxContainer, LinuxContainerAdjustment, LinuxCpu, LinuxMemory, LinuxResources, Mount, OwningPlugins,
};

/// Numbers of fields, as validators are told them.
mod field {
    pub(super) const ANNOTATIONS: i32 = 1;
    pub(super) const MOUNTS: i32 = 2;
    pub(super) const HOOKS: i32 = 3;
    pub(super) const DEVICES: i32 = 4;
    pub(super) const CDI: i32 = 5;
    pub(super) const ENV: i32 = 6;
    pub(super) const ARGS: i32 = 7;
    pub(super) const MEMORY: [i32; 8] = [8, 9, 10, 11, 12, 13, 14, 15];
    pub(super) const CPU: [i32; 7] = [16, 17, 18, 19, 20, 21, 22];
    pub(super) const PIDS: i32 = 23;
    pub(super) const HUGEPAGES: i32 = 24;
    pub(super) const BLOCKIO: i32 = 25;
    pub(super) const RDT: i32 = 26;
    pub(super) const UNIFIED: i32 = 27;
    pub(super) const CGROUPS_PATH: i32 = 28;
    pub(super) const OOM_SCORE: i32 = 29;
    pub(super) const RLIMITS: i32 = 30;
    pub(super) const IO_PRIORITY: i32 = 31;
    pub(super) const SECCOMP: i32 = 32;
    pub(super) const NAMESPACES: i32 = 33;
    pub(super) const SYSCTL: i32 = 34;
    pub(super) const NET_DEVICES: i32 = 35;
    pub(super) const SCHEDULER: i32 = 36;
    pub(super) const RDT_CLOS: i32 = 37;
    pub(super) const MEMORY_POLICY: i32 = 40;
}

/// Answers of plugins to one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// What is changed in the container that is being made.
    pub adjust: ContainerAdjustment,
    /// Limits of other containers.
    pub updates: Vec<ContainerUpdate>,
    /// Containers that have to go.
    pub evictions: Vec<ContainerEviction>,
    /// Which plugin set what.
    pub owners: OwningPlugins,
}

/// Two plugins want the same field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plugins {first} and {second} both set {what} of container {container}; only one may, so leave it out of one of them"
)]
pub(crate) struct Conflict {
    first: String,
    second: String,
    what: String,
    container: String,
}

impl FieldOwners {
    fn claim(&mut self, field: i32, key: Option<&str>, plugin: &str) -> Result<(), String> {
        let owner = match key {
            None => self.simple.entry(field).or_insert_with(|| plugin.to_owned()),
            Some(key) => {
                let of: &mut CompoundFieldOwners = self.compound.entry(field).or_default();
                of.owners.entry(key.to_owned()).or_insert_with(|| plugin.to_owned())
            }
        };
        if owner == plugin { Ok(()) } else { Err(owner.clone()) }
    }

    fn clear(&mut self, field: i32, key: &str) {
        if let Some(of) = self.compound.get_mut(&field) {
            of.owners.remove(key);
        }
    }
}

/// One plugin's claims on one container.
struct Claims<'a> {
    owners: &'a mut FieldOwners,
    plugin: &'a str,
    container: &'a str,
}

impl Claims<'_> {
    fn simple(&mut self, field: i32, what: &str) -> Result<(), Conflict> {
        self.owners.claim(field, None, self.plugin).map_err(|first| self.conflict(first, what.to_owned()))
    }

    fn keyed(&mut self, field: i32, what: &str, key: &str) -> Result<(), Conflict> {
        let claimed = self.owners.claim(field, Some(key), self.plugin);
        claimed.map_err(|first| self.conflict(first, format!("{what} {key:?}")))
    }

    fn conflict(&self, first: String, what: String) -> Conflict {
        Conflict { first, second: self.plugin.to_owned(), what, container: self.container.to_owned() }
    }

    fn option<T>(&mut self, field: i32, what: &str, from: Option<T>, into: &mut Option<T>) -> Result<(), Conflict> {
        let Some(value) = from else { return Ok(()) };
        self.simple(field, what)?;
        *into = Some(value);
        Ok(())
    }

    fn text(&mut self, field: i32, what: &str, from: String, into: &mut String) -> Result<(), Conflict> {
        if from.is_empty() {
            return Ok(());
        }
        self.simple(field, what)?;
        *into = from;
        Ok(())
    }

    /// Lists whose items have a key: first what is taken away, then what is set.
    fn list<T>(
        &mut self,
        (field, what): (i32, &str),
        from: Vec<T>,
        into: &mut Vec<T>,
        key: impl Fn(&T) -> &str,
    ) -> Result<(), Conflict> {
        let (removals, additions): (Vec<T>, Vec<T>) = from.into_iter().partition(|item| key(item).starts_with('-'));
        for removal in removals {
            let name = key(&removal).trim_start_matches('-').to_owned();
            into.retain(|item| key(item).trim_start_matches('-') != name);
            self.owners.clear(field, &name);
            into.push(removal);
        }
        for item in additions {
            self.keyed(field, what, key(&item))?;
            into.retain(|other| key(other) != key(&item));
            into.push(item);
        }
        Ok(())
    }

    fn map<V>(
        &mut self,
        (field, what): (i32, &str),
        from: BTreeMap<String, V>,
        into: &mut BTreeMap<String, V>,
    ) -> Result<(), Conflict> {
        let (removals, additions): (BTreeMap<_, _>, BTreeMap<_, _>) =
            from.into_iter().partition(|(key, _)| key.starts_with('-'));
        for (removal, value) in removals {
            let name = removal.trim_start_matches('-');
            into.remove(name);
            self.owners.clear(field, name);
            into.insert(removal, value);
        }
        for (key, value) in additions {
            self.keyed(field, what, &key)?;
            into.insert(key, value);
        }
        Ok(())
    }

    fn resources(&mut self, from: LinuxResources, into: &mut LinuxResources) -> Result<(), Conflict> {
        if let Some(memory) = from.memory {
            self.memory(memory, into.memory.get_or_insert_default())?;
        }
        if let Some(cpu) = from.cpu {
            self.cpu(cpu, into.cpu.get_or_insert_default())?;
        }
        self.option(field::PIDS, "the limit of processes", from.pids, &mut into.pids)?;
        self.option(field::BLOCKIO, "the class of block I/O", from.blockio_class, &mut into.blockio_class)?;
        self.option(field::RDT, "the RDT class", from.rdt_class, &mut into.rdt_class)?;
        for limit in from.hugepage_limits {
            self.keyed(field::HUGEPAGES, "the limit of huge pages", &limit.page_size)?;
            into.hugepage_limits.retain(|other| other.page_size != limit.page_size);
            into.hugepage_limits.push(limit);
        }
        self.map((field::UNIFIED, "the cgroup file"), from.unified, &mut into.unified)
    }

    fn memory(&mut self, from: LinuxMemory, into: &mut LinuxMemory) -> Result<(), Conflict> {
        let [limit, reservation, swap, kernel, tcp, swappiness, oom, hierarchy] = field::MEMORY;
        self.option(limit, "the memory limit", from.limit, &mut into.limit)?;
        self.option(reservation, "the memory reservation", from.reservation, &mut into.reservation)?;
        self.option(swap, "the swap limit", from.swap, &mut into.swap)?;
        self.option(kernel, "the limit of kernel memory", from.kernel, &mut into.kernel)?;
        self.option(tcp, "the limit of TCP memory", from.kernel_tcp, &mut into.kernel_tcp)?;
        self.option(swappiness, "the swappiness", from.swappiness, &mut into.swappiness)?;
        self.option(oom, "the OOM killer", from.disable_oom_killer, &mut into.disable_oom_killer)?;
        self.option(hierarchy, "the memory hierarchy", from.use_hierarchy, &mut into.use_hierarchy)
    }

    fn cpu(&mut self, from: LinuxCpu, into: &mut LinuxCpu) -> Result<(), Conflict> {
        let [shares, quota, period, runtime, realtime, cpus, mems] = field::CPU;
        self.option(shares, "the CPU shares", from.shares, &mut into.shares)?;
        self.option(quota, "the CPU quota", from.quota, &mut into.quota)?;
        self.option(period, "the CPU period", from.period, &mut into.period)?;
        self.option(runtime, "the realtime runtime", from.realtime_runtime, &mut into.realtime_runtime)?;
        self.option(realtime, "the realtime period", from.realtime_period, &mut into.realtime_period)?;
        self.text(cpus, "the CPUs", from.cpus, &mut into.cpus)?;
        self.text(mems, "the memory nodes", from.mems, &mut into.mems)
    }
}

impl Collected {
    /// Takes one plugin's answer; `container` is the one that is being made, as the next plugin is to see it.
    pub(crate) fn take(
        &mut self,
        plugin: &str,
        container: &mut Container,
        adjust: Option<ContainerAdjustment>,
        updates: Vec<ContainerUpdate>,
        evictions: Vec<ContainerEviction>,
    ) -> Result<(), Conflict> {
        if let Some(adjust) = adjust {
            show(container, &adjust);
            self.adjust(plugin, &container.id, adjust)?;
        }
        updates.into_iter().try_for_each(|update| self.update(plugin, update))?;
        self.evictions.extend(evictions);
        Ok(())
    }

    fn adjust(&mut self, plugin: &str, container: &str, from: ContainerAdjustment) -> Result<(), Conflict> {
        let owners = self.owners.owners.entry(container.to_owned()).or_default();
        let mut claims = Claims { owners, plugin, container };
        let into = &mut self.adjust;
        claims.map((field::ANNOTATIONS, "the annotation"), from.annotations, &mut into.annotations)?;
        claims.list((field::MOUNTS, "the mount"), from.mounts, &mut into.mounts, |m: &Mount| &m.destination)?;
        claims.list((field::ENV, "the variable"), from.env, &mut into.env, |v: &KeyValue| &v.key)?;
        claims.list((field::RLIMITS, "the limit"), from.rlimits, &mut into.rlimits, |limit| &limit.r#type)?;
        claims.list((field::CDI, "the CDI device"), from.cdi_devices, &mut into.cdi_devices, |device| &device.name)?;
        if let Some(hooks) = from.hooks {
            // Hooks of all plugins are run.
            let _ = claims.owners.claim(field::HOOKS, None, plugin);
            let all = into.hooks.get_or_insert_default();
            all.prestart.extend(hooks.prestart);
            all.create_runtime.extend(hooks.create_runtime);
            all.create_container.extend(hooks.create_container);
            all.start_container.extend(hooks.start_container);
            all.poststart.extend(hooks.poststart);
            all.poststop.extend(hooks.poststop);
        }
        let mut args = from.args;
        if args.first().is_some_and(String::is_empty) {
            // It says that it replaces what another set.
            args.remove(0);
            claims.owners.simple.remove(&field::ARGS);
        }
        if !args.is_empty() {
            claims.simple(field::ARGS, "the arguments")?;
            into.args = args;
        }
        match from.linux {
            Some(linux) => adjust_linux(&mut claims, linux, into.linux.get_or_insert_default()),
            None => Ok(()),
        }
    }

    /// Limits of another container.
    pub(crate) fn update(&mut self, plugin: &str, update: ContainerUpdate) -> Result<(), Conflict> {
        let owners = self.owners.owners.entry(update.container_id.clone()).or_default();
        let mut claims = Claims { owners, plugin, container: &update.container_id };
        let at = match self.updates.iter().position(|other| other.container_id == update.container_id) {
            Some(at) => at,
            None => {
                let container_id = update.container_id.clone();
                self.updates.push(ContainerUpdate { container_id, linux: None, ignore_failure: true });
                self.updates.len() - 1
            }
        };
        let Some(into) = self.updates.get_mut(at) else { return Ok(()) };
        into.ignore_failure &= update.ignore_failure;
        match update.linux.and_then(|linux| linux.resources) {
            Some(resources) => {
                let into = into.linux.get_or_insert_default().resources.get_or_insert_default();
                claims.resources(resources, into)
            }
            None => Ok(()),
        }
    }
}

fn adjust_linux(
    claims: &mut Claims<'_>,
    from: LinuxContainerAdjustment,
    into: &mut LinuxContainerAdjustment,
) -> Result<(), Conflict> {
    claims.list((field::DEVICES, "the device"), from.devices, &mut into.devices, |device| &device.path)?;
    if let Some(resources) = from.resources {
        claims.resources(resources, into.resources.get_or_insert_default())?;
    }
    claims.text(field::CGROUPS_PATH, "the cgroup", from.cgroups_path, &mut into.cgroups_path)?;
    claims.option(field::OOM_SCORE, "the OOM score", from.oom_score_adj, &mut into.oom_score_adj)?;
    claims.option(field::IO_PRIORITY, "the I/O priority", from.io_priority, &mut into.io_priority)?;
    claims.option(field::SECCOMP, "the seccomp policy", from.seccomp_policy, &mut into.seccomp_policy)?;
    claims.list((field::NAMESPACES, "the namespace"), from.namespaces, &mut into.namespaces, |ns| &ns.r#type)?;
    claims.map((field::SYSCTL, "the sysctl"), from.sysctl, &mut into.sysctl)?;
    claims.map((field::NET_DEVICES, "the network device"), from.net_devices, &mut into.net_devices)?;
    claims.option(field::SCHEDULER, "the scheduler", from.scheduler, &mut into.scheduler)?;
    claims.option(field::RDT_CLOS, "RDT", from.rdt, &mut into.rdt)?;
    claims.option(field::MEMORY_POLICY, "the memory policy", from.memory_policy, &mut into.memory_policy)
}

/// The container as the next plugin sees it.
fn show(container: &mut Container, adjust: &ContainerAdjustment) {
    for (key, value) in &adjust.annotations {
        match key.strip_prefix('-') {
            Some(key) => drop(container.annotations.remove(key)),
            None => drop(container.annotations.insert(key.clone(), value.clone())),
        }
    }
    for mount in &adjust.mounts {
        let destination = mount.destination.trim_start_matches('-');
        container.mounts.retain(|other| other.destination != destination);
        if destination == mount.destination {
            container.mounts.push(mount.clone());
        }
    }
    for variable in &adjust.env {
        let name = variable.key.trim_start_matches('-');
        container.env.retain(|other| other.split_once('=').map(|(key, _)| key) != Some(name));
        if name == variable.key {
            container.env.push(format!("{name}={}", variable.value));
        }
    }
    let args: Vec<String> = adjust.args.iter().skip_while(|argument| argument.is_empty()).cloned().collect();
    if !args.is_empty() {
        container.args = args;
    }
    container.cdi_devices.extend(adjust.cdi_devices.iter().cloned());
    container.rlimits.retain(|limit| adjust.rlimits.iter().all(|new| new.r#type != limit.r#type));
    container.rlimits.extend(adjust.rlimits.iter().cloned());
    if let Some(linux) = &adjust.linux {
        show_linux(container.linux.get_or_insert_default(), linux);
    }
}

fn show_linux(container: &mut LinuxContainer, adjust: &LinuxContainerAdjustment) {
    for device in &adjust.devices {
        let path = device.path.trim_start_matches('-');
        container.devices.retain(|other| other.path != path);
        if path == device.path {
            container.devices.push(device.clone());
        }
    }
    if let Some(resources) = &adjust.resources {
        let mut owners = FieldOwners::default();
        let mut claims = Claims { owners: &mut owners, plugin: "", container: "" };
        // One plugin alone can not be in conflict.
        let _ = claims.resources(resources.clone(), container.resources.get_or_insert_default());
    }
    for (key, value) in &adjust.sysctl {
        match key.strip_prefix('-') {
            Some(key) => drop(container.sysctl.remove(key)),
            None => drop(container.sysctl.insert(key.clone(), value.clone())),
        }
    }
    if adjust.oom_score_adj.is_some() {
        container.oom_score_adj = adjust.oom_score_adj;
    }
    if !adjust.cgroups_path.is_empty() {
        container.cgroups_path.clone_from(&adjust.cgroups_path);
    }
    if adjust.seccomp_policy.is_some() {
        container.seccomp_policy.clone_from(&adjust.seccomp_policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{LinuxContainerUpdate, OptionalInt64};

    fn variable(key: &str, value: &str) -> ContainerAdjustment {
        let env = vec![KeyValue { key: key.into(), value: value.into() }];
        ContainerAdjustment { env, ..ContainerAdjustment::default() }
    }

    fn memory(bytes: i64) -> LinuxResources {
        let memory = LinuxMemory { limit: Some(OptionalInt64 { value: bytes }), ..LinuxMemory::default() };
        LinuxResources { memory: Some(memory), ..LinuxResources::default() }
    }

    fn take(
        collected: &mut Collected,
        container: &mut Container,
        plugin: &str,
        adjust: ContainerAdjustment,
    ) -> Result<(), Conflict> {
        collected.take(plugin, container, Some(adjust), Vec::new(), Vec::new())
    }

    #[test]
    fn a_field_is_one_plugins() {
        let (mut all, mut container) = (Collected::default(), Container { id: "c".into(), ..Container::default() });
        take(&mut all, &mut container, "01-a", variable("A", "1")).unwrap();
        take(&mut all, &mut container, "02-b", variable("B", "2")).unwrap();
        let error = take(&mut all.clone(), &mut container.clone(), "03-c", variable("A", "3")).unwrap_err().to_string();
        assert!(error.contains("01-a and 03-c both set the variable \"A\" of container c"), "{error}");
        // Unless it is taken away first.
        let mut both = variable("-A", "");
        both.env.extend(variable("A", "3").env);
        take(&mut all, &mut container, "03-c", both).unwrap();
        assert_eq!(container.env, ["B=2", "A=3"], "the next plugin sees it");
        assert_eq!(all.owners.owners["c"].compound[&6].owners["A"], "03-c");
    }

    #[test]
    fn limits_of_one_container_are_put_together() {
        let mut all = Collected::default();
        let update = |resources, ignore_failure| ContainerUpdate {
            container_id: "other".into(),
            linux: Some(LinuxContainerUpdate { resources: Some(resources) }),
            ignore_failure,
        };
        all.update("a", update(memory(5), true)).unwrap();
        let cpu = LinuxCpu { cpus: "0".into(), ..LinuxCpu::default() };
        all.update("b", update(LinuxResources { cpu: Some(cpu), ..LinuxResources::default() }, false)).unwrap();
        assert_eq!((all.updates.len(), all.updates[0].ignore_failure), (1, false));
        assert!(all.update("b", update(memory(6), false)).is_err());
    }
}
