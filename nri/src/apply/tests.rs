//! What adjustments make of a specification.

use super::*;

fn linux(linux: LinuxContainerAdjustment) -> ContainerAdjustment {
    ContainerAdjustment { linux: Some(linux), ..ContainerAdjustment::default() }
}

fn applied(adjust: &ContainerAdjustment) -> Result<Spec, String> {
    let mut spec = Spec::default();
    let own = |destination: &str| {
        let mut mount = oci::Mount::default();
        mount.set_destination(PathBuf::from(destination));
        mount
    };
    spec.set_mounts(Some(vec![own("/proc"), own("/dev"), own("/dev/pts"), own("/etc/hosts")]));
    apply(adjust, &mut spec).map_err(|error| error.to_string())?;
    Ok(spec)
}

#[test]
fn a_mount_hides_none_below_it() {
    let mount = |destination: &str| api::Mount { destination: destination.into(), ..api::Mount::default() };
    let mounts = vec![mount("/var/lib/deep"), mount("/etc"), mount("-/dev/pts")];
    let spec = applied(&ContainerAdjustment { mounts, ..ContainerAdjustment::default() }).unwrap();
    let order: Vec<String> =
        spec.mounts().iter().flatten().map(|mount| mount.destination().display().to_string()).collect();
    assert_eq!(order, ["/proc", "/dev", "/etc", "/etc/hosts", "/var/lib/deep"]);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let asked = |resources: api::LinuxResources| {
        applied(&linux(LinuxContainerAdjustment { resources: Some(resources), ..LinuxContainerAdjustment::default() }))
    };
    let memory = |memory: api::LinuxMemory| {
        asked(api::LinuxResources { memory: Some(memory), ..api::LinuxResources::default() })
    };
    let bytes = Some(api::OptionalInt64 { value: 1 });
    let hierarchy = |value| api::LinuxMemory { use_hierarchy: Some(api::OptionalBool { value }), ..Default::default() };
    let kernel = memory(api::LinuxMemory { kernel: bytes, ..api::LinuxMemory::default() });
    assert!(kernel.unwrap_err().contains("kernel memory"));
    let tcp = memory(api::LinuxMemory { kernel_tcp: bytes, ..api::LinuxMemory::default() });
    assert!(tcp.unwrap_err().contains("TCP memory"));
    assert!(memory(hierarchy(false)).unwrap_err().contains("hierarchy"));
    assert!(memory(hierarchy(true)).is_ok(), "it always is");
    let rule = asked(api::LinuxResources { devices: vec![Default::default()], ..api::LinuxResources::default() });
    assert!(rule.unwrap_err().contains("a device rule"));
}

#[test]
fn only_what_a_cgroup_knows_has_a_device_rule() {
    let device = |kind: &str| api::LinuxDevice {
        path: format!("/dev/{kind}"),
        r#type: kind.into(),
        major: 1,
        minor: 3,
        ..api::LinuxDevice::default()
    };
    let devices = vec![device("p"), device("c"), device("b")];
    let spec = applied(&linux(LinuxContainerAdjustment { devices, ..LinuxContainerAdjustment::default() })).unwrap();
    let linux = spec.linux().clone().unwrap();
    let made: Vec<_> = linux.devices().iter().flatten().map(|device| device.typ()).collect();
    assert_eq!(made, [oci::LinuxDeviceType::P, oci::LinuxDeviceType::C, oci::LinuxDeviceType::B]);
    let rules = linux.resources().clone().and_then(|resources| resources.devices().clone()).unwrap();
    let added: Vec<_> = rules.iter().filter(|rule| rule.major() == Some(1)).filter_map(|rule| rule.typ()).collect();
    assert_eq!(added, [oci::LinuxDeviceType::C, oci::LinuxDeviceType::B]);
}
