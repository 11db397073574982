//! Tests of the conversions: what each absence means, and what is refused.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{AppArmor, GroupsPolicy, MountSource, NamespaceMode, Propagation, Seccomp, UserSpec};

use super::*;

fn sandbox_config() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name: "p".into(), namespace: "n".into(), uid: "u".into(), attempt: 1 }),
        ..Default::default()
    }
}

fn container_config() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn with_context(context: v1::LinuxContainerSecurityContext) -> v1::ContainerConfig {
    let linux = v1::LinuxContainerConfig { security_context: Some(context), ..Default::default() };
    v1::ContainerConfig { linux: Some(linux), ..container_config() }
}

fn sandbox_refusal(change: impl FnOnce(&mut v1::PodSandboxConfig)) -> String {
    let mut config = sandbox_config();
    change(&mut config);
    sandbox(config, String::new()).unwrap_err().to_string()
}

fn container_refusal(change: impl FnOnce(&mut v1::ContainerConfig)) -> String {
    let mut config = container_config();
    change(&mut config);
    container(config).unwrap_err().to_string()
}

#[test]
fn an_absent_linux_part_is_one_of_zeros() {
    let config = sandbox(sandbox_config(), String::new()).unwrap();
    assert_eq!(config.namespaces.pid, NamespaceMode::Pod);
    assert_eq!(config.namespaces.network, NamespaceMode::Pod);
    assert_eq!(config.security.seccomp, Seccomp::Unconfined);
    let config = container(container_config()).unwrap();
    assert_eq!(config.security.user, UserSpec::FromImage);
    assert_eq!(config.security.apparmor, AppArmor::RuntimeDefault);
    assert_eq!(config.resources.oom_score_adj, Some(0), "or it would have the shim's");
    assert_eq!(config.resources.memory_limit_bytes, None);
}

#[test]
fn sandbox_fields_that_cannot_be_are_named() {
    let refused = [
        (sandbox_refusal(|c| c.metadata = None), "metadata"),
        (sandbox_refusal(|c| c.metadata.as_mut().unwrap().uid.clear()), "metadata.uid"),
        (sandbox_refusal(|c| c.metadata.as_mut().unwrap().name = "a\0".into()), "metadata.name"),
        (sandbox_refusal(|c| c.hostname = "x".repeat(65)), "hostname"),
        (sandbox_refusal(|c| c.log_directory = "logs".into()), "log_directory"),
        (
            sandbox_refusal(|c| {
                c.labels.insert("k".into(), "x".repeat(10 << 20));
            }),
            "labels",
        ),
        (
            sandbox_refusal(|c| {
                c.dns_config = Some(v1::DnsConfig { servers: vec!["1.1.1.1\nfoo".into()], ..Default::default() });
            }),
            "dns_config.servers[0]",
        ),
        (
            sandbox_refusal(|c| c.port_mappings = vec![v1::PortMapping { host_port: 70_000, ..Default::default() }]),
            "port_mappings[0].host_port",
        ),
    ];
    for (text, field) in refused {
        assert!(text.starts_with(&format!("{field}: ")), "{field} is not named in {text:?}");
    }
}

fn sandbox_with_linux(linux: v1::LinuxPodSandboxConfig) -> Result<podwright_podsandbox::model::SandboxConfig, String> {
    let config = v1::PodSandboxConfig { linux: Some(linux), ..sandbox_config() };
    sandbox(config, String::new()).map_err(|bad| bad.to_string())
}

#[test]
fn sysctls_neither_climb_nor_inject() {
    for (key, value) in [("../../etc/x", "1"), ("", "1"), ("kernel.x", "1\nkernel.y=2"), ("kernel x", "1")] {
        let sysctls = [(key.to_owned(), value.to_owned())].into();
        let result = sandbox_with_linux(v1::LinuxPodSandboxConfig { sysctls, ..Default::default() });
        assert!(result.is_err(), "{key:?} = {value:?} was taken");
    }
    let sysctls = [("net/ipv4/conf/eth0.1/forwarding".to_owned(), "1".to_owned())].into();
    let config = sandbox_with_linux(v1::LinuxPodSandboxConfig { sysctls, ..Default::default() }).unwrap();
    assert!(config.sysctls.contains_key("net.ipv4.conf.eth0/1.forwarding"), "{:?}", config.sysctls);
}

fn with_userns(userns: v1::UserNamespace) -> Result<podwright_podsandbox::model::SandboxConfig, String> {
    let options = v1::NamespaceOption { userns_options: Some(userns), ..Default::default() };
    let context = v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    sandbox_with_linux(v1::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() })
}

#[test]
fn a_user_namespace_has_one_mapping_of_each_that_begins_at_zero() {
    let mapping = v1::IdMapping { host_id: 65_536, container_id: 0, length: 65_536 };
    let pod = v1::NamespaceMode::Pod.into();
    let ok = v1::UserNamespace { mode: pod, uids: vec![mapping], gids: vec![mapping] };
    assert!(with_userns(ok.clone()).unwrap().namespaces.user.is_some());
    let node = v1::UserNamespace { mode: v1::NamespaceMode::Node.into(), ..Default::default() };
    assert_eq!(with_userns(node).unwrap().namespaces.user, None);
    let shifted = v1::IdMapping { container_id: 1, ..mapping };
    let beyond = v1::IdMapping { host_id: u32::MAX, ..mapping };
    for bad in [
        v1::UserNamespace { uids: vec![mapping, mapping], ..ok.clone() },
        v1::UserNamespace { gids: Vec::new(), ..ok.clone() },
        v1::UserNamespace { uids: vec![shifted], ..ok.clone() },
        v1::UserNamespace { uids: vec![beyond], ..ok.clone() },
        v1::UserNamespace { mode: v1::NamespaceMode::Container.into(), ..ok.clone() },
        v1::UserNamespace { mode: v1::NamespaceMode::Target.into(), ..ok.clone() },
        v1::UserNamespace { mode: v1::NamespaceMode::Node.into(), ..ok },
    ] {
        assert!(with_userns(bad.clone()).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn container_fields_that_cannot_be_are_named() {
    let env = |key: &str, value: &[u8]| vec![v1::KeyValue { key: key.into(), value: value.to_vec() }];
    let refused = [
        (container_refusal(|c| c.metadata = None), "metadata"),
        (container_refusal(|c| c.image = None), "image"),
        (container_refusal(|c| c.image.as_mut().unwrap().image.clear()), "image.image"),
        (container_refusal(|c| c.args = vec![String::new(), "\0".into()]), "args[1]"),
        (container_refusal(|c| c.working_dir = "tmp".into()), "working_dir"),
        (container_refusal(|c| c.log_path = "../../etc/cron.d/x".into()), "log_path"),
        (container_refusal(|c| c.envs = env("A=B", b"")), "envs[0].key"),
        (container_refusal(|c| c.envs = env("A", b"s3cret\0")), "envs[0].value"),
        (container_refusal(|c| c.stop_signal = 99), "stop_signal"),
        (container_refusal(|c| c.devices = vec![v1::Device::default()]), "devices[0].host_path"),
    ];
    for (text, field) in refused {
        assert!(text.starts_with(&format!("{field}: ")), "{field} is not named in {text:?}");
        assert!(!text.contains("s3cret"), "{text:?} tells a value");
    }
}

#[test]
fn values_of_variables_are_bytes() {
    let envs = vec![v1::KeyValue { key: "A".into(), value: vec![0xff, 0xfe] }];
    let config = container(v1::ContainerConfig { envs, ..container_config() }).unwrap();
    assert_eq!(config.environment, [("A".to_owned(), vec![0xff, 0xfe])]);
}

#[test]
fn users_are_numbers_or_names_but_not_both() {
    let number = |value| Some(v1::Int64Value { value });
    let user = |context| container(with_context(context)).map(|config| config.security.user);
    let context = v1::LinuxContainerSecurityContext::default();
    let by_id = v1::LinuxContainerSecurityContext { run_as_user: number(1000), ..context.clone() };
    assert_eq!(user(by_id.clone()), Ok(UserSpec::Id { uid: 1000, gid: None }));
    let by_name =
        v1::LinuxContainerSecurityContext { run_as_username: "www".into(), run_as_group: number(7), ..context.clone() };
    assert_eq!(user(by_name), Ok(UserSpec::Name { name: "www".into(), gid: Some(7) }));
    for bad in [
        v1::LinuxContainerSecurityContext { run_as_username: "www".into(), ..by_id },
        v1::LinuxContainerSecurityContext { run_as_group: number(7), ..context.clone() },
        v1::LinuxContainerSecurityContext { run_as_user: number(-1), ..context.clone() },
        v1::LinuxContainerSecurityContext { run_as_user: number(1 << 32), ..context.clone() },
        v1::LinuxContainerSecurityContext { run_as_username: "www:0".into(), ..context.clone() },
        v1::LinuxContainerSecurityContext { supplemental_groups: vec![-5], ..context },
    ] {
        assert!(user(bad.clone()).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn profiles_are_read_from_the_new_field_and_else_from_the_old_one() {
    #[allow(deprecated)]
    let profiles = |new: Option<v1::SecurityProfile>, old: &str, privileged| {
        let context = v1::LinuxContainerSecurityContext {
            seccomp: new,
            seccomp_profile_path: old.into(),
            privileged,
            ..Default::default()
        };
        container(with_context(context)).map(|config| config.security.seccomp)
    };
    let localhost = v1::SecurityProfile {
        profile_type: v1::security_profile::ProfileType::Localhost.into(),
        localhost_ref: "/profiles/x.json".into(),
    };
    let default = v1::SecurityProfile::default();
    assert_eq!(profiles(Some(default.clone()), "unconfined", false), Ok(Seccomp::RuntimeDefault));
    assert_eq!(profiles(None, "", false), Ok(Seccomp::Unconfined));
    assert_eq!(profiles(None, "runtime/default", false), Ok(Seccomp::RuntimeDefault));
    assert_eq!(profiles(None, "localhost//p.json", false), Ok(Seccomp::Localhost("/p.json".into())));
    assert_eq!(profiles(Some(localhost), "", false), Ok(Seccomp::Localhost("/profiles/x.json".into())));
    assert_eq!(profiles(Some(default), "", true), Ok(Seccomp::Unconfined), "privileged has none");
    assert!(profiles(None, "localhost/relative.json", false).is_err());
}

#[test]
fn recursive_read_only_is_whole_or_refused() {
    let mount = |change: fn(&mut v1::Mount)| {
        let mut mount = v1::Mount {
            container_path: "/c".into(),
            host_path: "/h".into(),
            readonly: true,
            recursive_read_only: true,
            ..Default::default()
        };
        change(&mut mount);
        container(v1::ContainerConfig { mounts: vec![mount], ..container_config() })
    };
    assert!(mount(|_| ()).unwrap().mounts[0].recursive_readonly);
    assert!(mount(|m| m.readonly = false).is_err());
    assert!(mount(|m| m.propagation = v1::MountPropagation::PropagationHostToContainer.into()).is_err());
    assert!(mount(|m| m.mount_options = vec!["nosuid".into()]).is_err());
    assert!(mount(|m| m.host_path.clear()).is_err());
    assert!(mount(|m| m.container_path = "c".into()).is_err());
}

#[test]
fn image_mounts_stay_below_their_image() {
    let mount = |sub_path: &str| {
        let image = v1::ImageSpec { image: "sha256:1".into(), ..Default::default() };
        let mount = v1::Mount {
            container_path: "/c".into(),
            image: Some(image),
            image_sub_path: sub_path.into(),
            ..Default::default()
        };
        container(v1::ContainerConfig { mounts: vec![mount], ..container_config() })
    };
    let converted = mount("a/b").unwrap().mounts.remove(0);
    assert_eq!(converted.source, MountSource::Image { image: "sha256:1".into(), sub_path: "a/b".into() });
    assert_eq!(converted.propagation, Propagation::Private);
    assert!(mount("../x").is_err());
    assert!(mount("/x").is_err());
}

#[test]
fn the_sub_path_of_a_mount_of_the_host_is_part_of_its_path_already() {
    let mount = v1::Mount {
        host_path: "/h/sub".into(),
        container_path: "/c".into(),
        image_sub_path: "sub".into(),
        ..Default::default()
    };
    let converted = container(v1::ContainerConfig { mounts: vec![mount], ..container_config() }).unwrap();
    assert_eq!(converted.mounts[0].source, MountSource::Host("/h/sub".into()));
}

#[test]
fn an_update_leaves_what_is_zero() {
    let linux = v1::LinuxContainerResources { cpu_shares: 5, ..Default::default() };
    let changed = changed_resources(linux).unwrap();
    assert_eq!((changed.cpu_shares, changed.oom_score_adj, changed.memory_limit_bytes), (Some(5), None, None));
    for bad in [
        v1::LinuxContainerResources { cpu_shares: -1, ..Default::default() },
        v1::LinuxContainerResources { memory_limit_in_bytes: -2, ..Default::default() },
        v1::LinuxContainerResources { oom_score_adj: 1001, ..Default::default() },
        v1::LinuxContainerResources { cpuset_cpus: "0;rm".into(), ..Default::default() },
        v1::LinuxContainerResources { unified: [("../memory.max".into(), "1".into())].into(), ..Default::default() },
        v1::LinuxContainerResources {
            hugepage_limits: vec![v1::HugepageLimit { page_size: "../2MB".into(), limit: 1 }],
            ..Default::default()
        },
    ] {
        assert!(changed_resources(bad.clone()).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn strict_groups_are_kept() {
    let policy = v1::SupplementalGroupsPolicy::Strict.into();
    let context = v1::LinuxContainerSecurityContext { supplemental_groups_policy: policy, ..Default::default() };
    assert_eq!(container(with_context(context)).unwrap().security.groups_policy, GroupsPolicy::Strict);
}

#[test]
fn signals_are_told_by_name_and_not_by_number() {
    let linux = |signal: v1::Signal| signal::to_linux("s", signal.into()).unwrap();
    assert_eq!(linux(v1::Signal::RuntimeDefault), None);
    assert_eq!(linux(v1::Signal::Sigkill), Some(9));
    assert_eq!(linux(v1::Signal::Sigterm), Some(15));
    assert_eq!(linux(v1::Signal::Sigrtmin), Some(34));
    assert_eq!(linux(v1::Signal::Sigrtminplus15), Some(49));
    assert_eq!(linux(v1::Signal::Sigrtmaxminus14), Some(50));
    assert_eq!(linux(v1::Signal::Sigrtmax), Some(64));
    for value in 1..=65 {
        let number = signal::to_linux("s", value).unwrap().unwrap();
        let back = from_linux(number);
        assert_eq!(linux(back), Some(number), "signal {value} of the API");
    }
    assert_eq!(
        (from_linux(6), from_linux(17), from_linux(29)),
        (v1::Signal::Sigabrt, v1::Signal::Sigchld, v1::Signal::Sigio)
    );
    assert_eq!(from_linux(0), v1::Signal::RuntimeDefault);
}

#[test]
fn a_cgroup_parent_does_not_climb() {
    let parent =
        |text: &str| sandbox_with_linux(v1::LinuxPodSandboxConfig { cgroup_parent: text.into(), ..Default::default() });
    assert!(parent("/kubepods/../../x").is_err());
    assert_eq!(parent("kubepods-besteffort.slice").unwrap().cgroup_parent, "kubepods-besteffort.slice");
}
