use super::*;
use crate::model::{Mount, MountSource, NamespaceModes, UserSpec};

fn input(config: ContainerConfig) -> Input {
    Input {
        config: Arc::new(ContainerConfig {
            name: "c".into(),
            image: "busybox".into(),
            command: vec!["sh".into()],
            ..config
        }),
        sandbox: SandboxId::from_random([1; 32]),
        sandbox_config: Arc::new(SandboxConfig { name: "p".into(), ..SandboxConfig::default() }),
        image: ImageConfig::default(),
        image_volumes: vec![],
        sandbox_dir: "/pod".into(),
        shm_dir: "/shm".into(),
        cgroup_path: "/podwright/x/c".into(),
        hostname: "p".into(),
        apparmor_profile: None,
        selinux: true,
    }
}

fn spec(config: ContainerConfig) -> Spec {
    generate(&input(config)).unwrap()
}

fn mount(destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Host("/src".into()),
        readonly: true,
        recursive_readonly: false,
        propagation: Propagation::HostToContainer,
        selinux_relabel: false,
        uid_mappings: vec![],
        gid_mappings: vec![],
    }
}

fn destinations(spec: &Spec) -> Vec<String> {
    spec.mounts().iter().flatten().map(|m| m.destination().display().to_string()).collect()
}

#[test]
fn a_plain_container_has_the_usual_mounts() {
    let spec = spec(ContainerConfig::default());
    let usual = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
    ];
    assert_eq!(destinations(&spec), usual);
    assert!(spec.hostname().is_none());
}

#[test]
fn mounts_asked_for_replace_ours_and_parents_come_first() {
    let config = ContainerConfig {
        mounts: vec![mount("/data/deep/er"), mount("/etc/hosts/"), mount("/data")],
        ..ContainerConfig::default()
    };
    let spec = spec(config);
    let all = destinations(&spec);
    assert_eq!(all.iter().filter(|d| *d == "/etc/hosts").count(), 1);
    let place = |wanted: &str| all.iter().position(|d| d == wanted).unwrap();
    assert!(place("/data") < place("/data/deep/er"));
    let data = spec.mounts().as_ref().unwrap()[place("/data")].options().clone().unwrap();
    assert_eq!(data, ["rbind", "rslave", "ro"]);
    assert_eq!(spec.linux().as_ref().unwrap().rootfs_propagation().as_deref(), Some("rslave"));
}

fn image_volume(directories: &[&str]) -> (String, PathBuf, Vec<String>) {
    let source = MountSource::Image { image: "i".into(), sub_path: "".into() };
    let image = Mount { source, propagation: Propagation::Private, ..mount("/image") };
    let mut input = input(ContainerConfig { mounts: vec![mount("/data"), image], ..ContainerConfig::default() });
    input.image_volumes = vec![directories.iter().map(PathBuf::from).collect()];
    let spec = generate(&input).unwrap();
    let mount = spec.mounts().iter().flatten().find(|m| m.destination() == "/image").unwrap().clone();
    (mount.typ().clone().unwrap(), mount.source().clone().unwrap(), mount.options().clone().unwrap())
}

#[test]
fn an_image_volume_is_a_bind_or_an_overlay_and_readonly() {
    let (kind, source, options) = image_volume(&["/l/1/fs"]);
    assert_eq!((kind.as_str(), source.to_str().unwrap()), ("bind", "/l/1/fs"));
    assert_eq!(options, ["bind", "ro", "nosuid", "nodev", "rprivate"]);
    let (kind, _, options) = image_volume(&[r"/l/2/fs/a:b\c", "/l/1/fs"]);
    assert_eq!(kind, "overlay");
    assert_eq!(options, [r"lowerdir=/l/2/fs/a\:b\\c:/l/1/fs", "ro", "nosuid", "nodev", "rprivate"]);
    let (kind, _, options) = image_volume(&[]);
    assert!(kind == "tmpfs" && options.contains(&"ro".to_owned()), "{kind} {options:?}");
}

#[test]
fn mounting_over_dev_leaves_out_what_is_below_but_the_pods_memory() {
    let spec = spec(ContainerConfig { mounts: vec![mount("/dev")], ..ContainerConfig::default() });
    let all = destinations(&spec);
    assert_eq!(all.iter().filter(|d| d.starts_with("/dev")).collect::<Vec<_>>(), ["/dev", "/dev/shm"]);
}

#[test]
fn a_volume_does_not_hide_what_the_pod_gives() {
    let all = destinations(&spec(ContainerConfig { mounts: vec![mount("/etc")], ..ContainerConfig::default() }));
    let place = |wanted: &str| all.iter().position(|d| d == wanted).unwrap();
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        assert!(place("/etc") < place(file), "{all:?}");
    }
}

#[test]
fn nothing_of_ours_is_mounted_where_it_would_show_on_the_host() {
    let shared = |at| Mount { propagation: Propagation::Bidirectional, readonly: false, ..mount(at) };
    let config = ContainerConfig { mounts: vec![shared("/etc/"), shared("/dev")], ..ContainerConfig::default() };
    let all = destinations(&spec(config));
    assert!(!all.iter().any(|d| d.starts_with("/etc/") || d.starts_with("/dev/")), "{all:?}");
}

#[test]
fn the_user_is_left_to_be_looked_up() {
    let name = |user: UserSpec| {
        let security = SecurityConfig { user, supplemental_groups: vec![7], ..SecurityConfig::default() };
        let spec = spec(ContainerConfig { security, ..ContainerConfig::default() });
        let user = spec.process().as_ref().unwrap().user().clone();
        assert_eq!(user.additional_gids().as_deref(), Some([7].as_slice()));
        user.username().clone().unwrap()
    };
    assert_eq!(name(UserSpec::FromImage), "0");
    assert_eq!(name(UserSpec::Id { uid: 5, gid: None }), "5");
    assert_eq!(name(UserSpec::Id { uid: 5, gid: Some(6) }), "5:6");
    assert_eq!(name(UserSpec::Name { name: "www".into(), gid: Some(6) }), "www:6");
}

#[test]
fn privileged_means_unmasked_unfiltered_and_writable() {
    let security = SecurityConfig {
        privileged: true,
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        seccomp: Seccomp::RuntimeDefault,
        ..SecurityConfig::default()
    };
    assert_eq!(seccomp(&security), Seccomp::Unconfined);
    let spec = spec(ContainerConfig { security, ..ContainerConfig::default() });
    let linux = spec.linux().clone().unwrap();
    assert_eq!(linux.masked_paths().as_deref(), Some([].as_slice()));
    assert_eq!(linux.readonly_paths().as_deref(), Some([].as_slice()));
    assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
    let sys = spec.mounts().iter().flatten().find(|m| m.destination().as_os_str() == "/sys").unwrap().clone();
    assert!(sys.options().as_ref().unwrap().contains(&"rw".to_owned()));
}

#[test]
fn a_seccomp_profile_that_is_not_there_is_named() {
    let security =
        SecurityConfig { seccomp: Seccomp::Localhost("/nonexistent/p.json".into()), ..SecurityConfig::default() };
    let error = generate(&input(ContainerConfig { security, ..ContainerConfig::default() })).unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(text) if text.contains("/nonexistent/p.json")));
}

#[test]
fn annotations_are_only_ours() {
    let config = ContainerConfig {
        annotations: [("io.kubernetes.cri.sandbox-id".into(), "evil".into()), ("run.oci.x".into(), "evil".into())]
            .into(),
        ..ContainerConfig::default()
    };
    let written = spec(config).annotations().clone().unwrap();
    assert!(written.values().all(|value| value != "evil"));
    assert_eq!(written["io.kubernetes.cri.container-type"], "container");
}

#[test]
fn namespaces_follow_the_pod() {
    let plan = |modes: NamespaceModes, pid_mode: NamespaceMode| {
        let pod = SandboxConfig { namespaces: modes, ..SandboxConfig::default() };
        namespace_plan(&pod, &ContainerConfig { pid_mode, ..ContainerConfig::default() })
    };
    let own = plan(NamespaceModes::default(), NamespaceMode::Container);
    assert_eq!((own.network, own.pid), (NamespaceChoice::Pod, PidPlan::Own));
    let shared = NamespaceModes { pid: NamespaceMode::Pod, ..NamespaceModes::default() };
    assert_eq!(plan(shared, NamespaceMode::Pod).pid, PidPlan::Pod);
    let host =
        NamespaceModes { network: NamespaceMode::Node, ipc: NamespaceMode::Node, pid: NamespaceMode::Node, user: None };
    let host = plan(host, NamespaceMode::Node);
    assert_eq!(
        (host.network, host.uts, host.ipc, host.pid.clone()),
        (NamespaceChoice::Host, NamespaceChoice::Host, NamespaceChoice::Host, PidPlan::Host)
    );
    assert!(!namespaces(&host).iter().any(|n| n.typ() == LinuxNamespaceType::Network));
}

#[test]
fn other_limits_keep_the_device_rules() {
    let before = spec(ContainerConfig::default());
    let text = serde_json::to_string(&before).unwrap();
    let limits = Resources { cpu_shares: Some(99), ..Resources::default() };
    let after: Spec = serde_json::from_str(&with_resources(&text, &limits).unwrap()).unwrap();
    let rules = |spec: &Spec| spec.linux().as_ref().unwrap().resources().as_ref().unwrap().devices().clone();
    assert_eq!(rules(&before), rules(&after));
    assert!(serde_json::to_string(&after).unwrap().contains("\"shares\":99"));
}

#[test]
fn without_a_command_there_is_no_container() {
    let config = ContainerConfig { image: "busybox".into(), ..ContainerConfig::default() };
    assert!(process::args(&config, &ImageConfig::default()).is_err());
}
