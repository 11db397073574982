//! Edits applied to an OCI specification.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Process, Spec};

use crate::document::{DeviceNode, Edits};

/// What may be done with a device of which nothing else is said.
const ALL: &str = "rwm";

/// Changes a specification as a file says.
pub(crate) fn apply(edits: &Edits, spec: &mut Spec) -> Result<(), String> {
    if edits.intel_rdt.is_some() {
        return Err("it asks for Intel RDT (intelRdt), which is not supported here; use a device without".to_owned());
    }
    if let Some(device) = edits.net_devices.first() {
        let name = &device.host_interface_name;
        return Err(format!("it asks for the network device {name} (netDevices), which is not supported here"));
    }
    let mut process = spec.process().clone().unwrap_or_default();
    set_environment(&mut process, &edits.env);
    add_groups(&mut process, &edits.additional_gids);
    let mut linux = spec.linux().clone().unwrap_or_default();
    for node in &edits.device_nodes {
        add_device(&mut linux, &process, node)?;
    }
    spec.set_process(Some(process)).set_linux(Some(linux));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &edits.mounts {
        add_mount(&mut mounts, mount);
    }
    spec.set_mounts(Some(mounts));
    add_hooks(spec, edits);
    Ok(())
}

fn set_environment(process: &mut Process, variables: &[String]) {
    let mut all = process.env().clone().unwrap_or_default();
    for variable in variables {
        let name = |text: &str| text.split_once('=').map(|(name, _)| name.to_owned());
        all.retain(|old| name(old) != name(variable));
        all.push(variable.clone());
    }
    process.set_env(Some(all));
}

fn add_groups(process: &mut Process, groups: &[u32]) {
    let mut user = process.user().clone();
    let mut all = user.additional_gids().clone().unwrap_or_default();
    for group in groups.iter().filter(|group| **group != 0) {
        if !all.contains(group) {
            all.push(*group);
        }
    }
    if !all.is_empty() {
        user.set_additional_gids(Some(all));
        process.set_user(user);
    }
}

fn add_device(linux: &mut Linux, process: &Process, node: &DeviceNode) -> Result<(), String> {
    let device = device(process, node)?;
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|other| other.path() != device.path());
    if matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
        let mut rule = LinuxDeviceCgroup::default();
        let access = node.permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or(ALL);
        rule.set_allow(true)
            .set_typ(Some(device.typ()))
            .set_major(Some(device.major()))
            .set_minor(Some(device.minor()))
            .set_access(Some(access.to_owned()));
        let mut resources = linux.resources().clone().unwrap_or_default();
        let mut rules = resources.devices().clone().unwrap_or_default();
        rules.push(rule);
        resources.set_devices(Some(rules));
        linux.set_resources(Some(resources));
    }
    devices.push(device);
    linux.set_devices(Some(devices));
    Ok(())
}

fn device(process: &Process, node: &DeviceNode) -> Result<LinuxDevice, String> {
    let mut device = LinuxDevice::default();
    let said = node.kind.as_deref().filter(|kind| !kind.is_empty()).map(kind_of);
    let (kind, major, minor, mode) = match (said, node.major, node.minor) {
        (Some(LinuxDeviceType::P), ..) => (LinuxDeviceType::P, 0, 0, None),
        (Some(kind), Some(major), Some(minor)) => (kind, major, minor, None),
        _ => {
            let host = node.host_path.as_deref().unwrap_or(&node.path);
            let found = look(Path::new(host))?;
            let fits = said
                .is_none_or(|kind| kind == found.0 || (kind == LinuxDeviceType::U && found.0 == LinuxDeviceType::C))
                && node.major.is_none_or(|major| major == found.1)
                && node.minor.is_none_or(|minor| minor == found.2);
            if !fits {
                return Err(format!(
                    "{host} is another device on this node than the file says ({}:{})",
                    found.1, found.2
                ));
            }
            (found.0, found.1, found.2, Some(found.3))
        }
    };
    // A device of a user is that user's, unless the file says otherwise.
    let own = |id: u32| (id != 0).then_some(id);
    device
        .set_path(PathBuf::from(&node.path))
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(node.file_mode.or(mode))
        .set_uid(node.uid.or(own(process.user().uid())))
        .set_gid(node.gid.or(own(process.user().gid())));
    Ok(device)
}

fn kind_of(text: &str) -> LinuxDeviceType {
    match text {
        "b" => LinuxDeviceType::B,
        "p" => LinuxDeviceType::P,
        "u" => LinuxDeviceType::U,
        // The file was checked.
        _ => LinuxDeviceType::C,
    }
}

fn look(path: &Path) -> Result<(LinuxDeviceType, i64, i64, u32), String> {
    let meta = fs::metadata(path).map_err(|error| format!("the device {}: {error}", path.display()))?;
    let kind = meta.file_type();
    let kind = if kind.is_char_device() {
        LinuxDeviceType::C
    } else if kind.is_block_device() {
        LinuxDeviceType::B
    } else if kind.is_fifo() {
        LinuxDeviceType::P
    } else {
        return Err(format!("{} is no device on this node", path.display()));
    };
    let number = meta.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok((kind, i64::from(major), i64::from(minor), meta.mode() & 0o7777))
}

/// In the place of one at the same path; else before those that lie below it, which it would hide.
fn add_mount(mounts: &mut Vec<Mount>, edit: &crate::document::Mount) {
    let path = Path::new(&edit.container_path);
    mounts.retain(|mount| mount.destination() != path);
    let mut mount = Mount::default();
    let mut options = edit.options.clone();
    let kind = edit.kind.clone().filter(|kind| !kind.is_empty());
    if kind.is_none() && !options.iter().any(|option| option == "bind" || option == "rbind") {
        options.push("rbind".to_owned());
    }
    mount
        .set_destination(path.to_owned())
        .set_source(Some(PathBuf::from(&edit.host_path)))
        .set_typ(Some(kind.unwrap_or_else(|| "bind".to_owned())))
        .set_options(Some(options));
    let at = mounts.iter().position(|other| other.destination().starts_with(path)).unwrap_or(mounts.len());
    mounts.insert(at, mount);
}

#[allow(deprecated)]
fn add_hooks(spec: &mut Spec, edits: &Edits) {
    if edits.hooks.is_empty() {
        return;
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    for edit in &edits.hooks {
        let filled = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let mut hook = Hook::default();
        hook.set_path(PathBuf::from(&edit.path))
            .set_args(filled(&edit.args))
            .set_env(filled(&edit.env))
            .set_timeout(edit.timeout);
        let add = |stage: &Option<Vec<Hook>>| Some(stage.iter().flatten().cloned().chain([hook.clone()]).collect());
        match edit.hook_name.as_str() {
            "prestart" => {
                let all = add(hooks.prestart());
                hooks.set_prestart(all);
            }
            "createRuntime" => {
                let all = add(hooks.create_runtime());
                hooks.set_create_runtime(all);
            }
            "createContainer" => {
                let all = add(hooks.create_container());
                hooks.set_create_container(all);
            }
            "startContainer" => {
                let all = add(hooks.start_container());
                hooks.set_start_container(all);
            }
            "poststart" => {
                let all = add(hooks.poststart());
                hooks.set_poststart(all);
            }
            _ => {
                let all = add(hooks.poststop());
                hooks.set_poststop(all);
            }
        }
    }
    spec.set_hooks(Some(hooks));
}

#[cfg(test)]
mod tests;
