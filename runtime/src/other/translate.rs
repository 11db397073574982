//! The specification of a container in words that every OCI runtime knows. What is prepared already is bound; limits are in the cgroup
//! already, so that a runtime that knows fewer of them than the kernel does not fail.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, LinuxResources, LinuxSeccomp, Mount, Process, Root, Spec};

use crate::message::User;

/// What the specification says of itself: older runtimes refuse versions that they do not know.
const OCI_VERSION: &str = "1.0.2";
/// Annotations that some runtimes read as "there is a sandbox container already".
const SANDBOX_ANNOTATIONS: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"];
/// Options that a bind mount keeps; all else about it is done.
const PLAIN_OPTIONS: [&str; 20] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "noatime",
    "relatime",
    "strictatime",
    "nodiratime",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

/// Whether the source of a mount is opened and put together by us.
pub(super) fn is_prepared(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    let binds = options.iter().any(|option| option == "bind" || option == "rbind");
    binds || matches!(mount.typ().as_deref().unwrap_or("bind"), "bind" | "rbind" | "none" | "" | "overlay")
}

/// The same mount, from what was prepared.
pub(super) fn bind(mount: &Mount, from: PathBuf) -> Mount {
    let mut options = vec!["rbind".to_owned()];
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            // Below the top it is done already.
            "rro" => options.push("ro".to_owned()),
            kept if PLAIN_OPTIONS.contains(&kept) => options.push(option.clone()),
            _ => {}
        }
    }
    let mut bound = Mount::default();
    bound
        .set_destination(mount.destination().clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(from))
        .set_options(Some(options));
    bound
}

/// A namespace, new or to be joined.
pub(super) fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

/// The user in numbers.
pub(super) fn process(process: &mut Process, found: &User) {
    let mut user = process.user().clone();
    let groups = (!found.groups.is_empty()).then(|| found.groups.clone());
    user.set_uid(found.uid).set_gid(found.gid).set_additional_gids(groups).set_username(None);
    process.set_user(user);
}

/// All but mounts and process.
pub(super) fn specification(
    spec: &mut Spec,
    namespaces: Vec<LinuxNamespace>,
    filter: Option<LinuxSeccomp>,
    cgroup: &str,
) {
    let readonly = spec.root().as_ref().and_then(Root::readonly);
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(readonly);
    let mut linux = spec.linux().clone().unwrap_or_default();
    let devices = linux.resources().as_ref().and_then(|resources| resources.devices().clone());
    let mut resources = LinuxResources::default();
    resources.set_devices(devices);
    linux.set_namespaces(Some(namespaces)).set_seccomp(filter).set_resources(Some(resources));
    // Never in systemd's words: its scope is made by the daemon.
    linux.set_cgroups_path(Some(PathBuf::from(cgroup)));
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    SANDBOX_ANNOTATIONS.iter().for_each(|name| {
        annotations.remove(*name);
    });
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root)).set_linux(Some(linux)).set_annotations(Some(annotations));
}

/// For the fuzz target: reads a specification and puts it into plain words.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(mut spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let mounts = spec.mounts().clone().unwrap_or_default();
    let mounts = mounts.into_iter().map(|m| if is_prepared(&m) { bind(&m, "/prepared".into()) } else { m });
    let mounts: Vec<Mount> = mounts.collect();
    let is_plain = |option: &String| option == "rbind" || PLAIN_OPTIONS.contains(&option.as_str());
    let bound = mounts.iter().filter(|mount| is_prepared(mount));
    assert!(bound.flat_map(|mount| mount.options().iter().flatten()).all(is_plain), "an option that only we know");
    spec.set_mounts(Some(mounts));
    specification(&mut spec, vec![namespace(LinuxNamespaceType::Mount, None)], None, "/cgroup");
    let annotations = spec.annotations().clone().unwrap_or_default();
    assert!(SANDBOX_ANNOTATIONS.iter().all(|name| !annotations.contains_key(*name)), "a sandbox that is not there");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        let mut mount = Mount::default();
        mount
            .set_destination("/at".into())
            .set_typ(Some(kind.to_owned()))
            .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
        mount
    }

    #[test]
    fn what_is_prepared_is_bound_in_plain_words() {
        assert!(is_prepared(&mount("bind", &[])) && is_prepared(&mount("overlay", &["lowerdir=/a:/b"])));
        assert!(!is_prepared(&mount("proc", &["nosuid"])) && !is_prepared(&mount("tmpfs", &[])));
        let bound = bind(&mount("overlay", &["ro", "nosuid", "lowerdir=/a:/b", "Z"]), "/from".into());
        assert_eq!(bound.options().as_deref().unwrap(), ["rbind", "ro", "nosuid"]);
        let bound = bind(&mount("bind", &["rbind", "rslave", "rro", "ridmap"]), "/from".into());
        assert_eq!(bound.options().as_deref().unwrap(), ["rbind", "rslave", "ro"]);
    }

    #[test]
    fn limits_stay_with_the_cgroup_and_devices_go_along() {
        let json = r#"{"ociVersion": "1.1.0", "linux": {"cgroupsPath": "a:b:c", "resources": {"memory": {"limit": 5},
            "devices": [{"allow": false, "access": "rwm"}]}}, "annotations": {"io.kubernetes.cri.sandbox-id": "s", "mine": "1"}}"#;
        let mut spec: Spec = serde_json::from_str(json).unwrap();
        specification(&mut spec, vec![namespace(LinuxNamespaceType::Mount, None)], None, "/a/b");
        let linux = spec.linux().clone().unwrap();
        let resources = linux.resources().clone().unwrap();
        assert!(resources.memory().is_none() && resources.devices().as_ref().is_some_and(|list| list.len() == 1));
        assert_eq!(linux.cgroups_path().as_deref(), Some(std::path::Path::new("/a/b")));
        assert_eq!(spec.annotations().clone().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
    }
}
