//! Root file systems and mounts.

use podwright_runtime::{FailureKind, Namespaces, RootfsMethod, RootfsPlan, Stdio};
use serde_json::json;

use crate::fixture::{Fixture, follow, wait};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_writes_go_to_the_upper_directory", writes_go_to_the_upper_directory),
    ("root_many_layers_work_both_ways", many_layers_work_both_ways),
    ("root_one_readonly_layer_and_directories", one_readonly_layer_and_directories),
    ("root_directories_shown_as_one_are_readonly_both_ways", directories_shown_as_one_are_readonly_both_ways),
    ("root_binds_of_files_and_directories", binds_of_files_and_directories),
    ("root_recursive_readonly_covers_submounts", recursive_readonly_covers_submounts),
    ("root_propagation_is_as_asked", propagation_is_as_asked),
    ("root_a_terminal_does_not_become_the_hosts_console", a_terminal_does_not_become_the_hosts_console),
    ("root_what_a_mount_can_not_do_is_an_error", what_a_mount_can_not_do_is_an_error),
    ("root_paths_are_masked_and_readonly", paths_are_masked_and_readonly),
    ("root_readonly_rootfs", readonly_rootfs),
    ("root_cgroups_are_shown", cgroups_are_shown),
    ("root_host_mounts_stay_the_same", host_mounts_stay_the_same),
];

fn mountinfo() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

fn writes_go_to_the_upper_directory() {
    let mut fixture = Fixture::new();
    fixture.out("echo hi > /file; rm /etc/group");
    assert_eq!(std::fs::read_to_string(fixture.upper("file")).unwrap(), "hi\n");
    assert!(fixture.layer().join("etc/group").exists());
}

fn many_layers_work_both_ways() {
    for method in [RootfsMethod::Auto, RootfsMethod::Attached] {
        let mut fixture = Fixture::new();
        fixture.method = method;
        let mut layers: Vec<_> =
            (0..90).map(|n| fixture.top.path().join(format!("layer-with-a-longer-name-{n}"))).collect();
        for (n, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join("top"), n.to_string()).unwrap();
            std::fs::write(layer.join(format!("f{n}")), "").unwrap();
        }
        layers.push(fixture.layer());
        let writable = Some(fixture.top.path().join("rw"));
        fixture.plan = RootfsPlan::Layers { layers, writable };
        assert_eq!(fixture.out("ls / | grep -c '^f'; cat /top"), "90\n0", "{method:?}");
    }
}

fn one_readonly_layer_and_directories() {
    let mut fixture = Fixture::new();
    for directory in ["proc", "sys", "dev"] {
        std::fs::create_dir(fixture.layer().join(directory)).unwrap();
    }
    fixture.plan = RootfsPlan::Layers { layers: vec![fixture.layer()], writable: None };
    assert_ne!(fixture.sh("touch /x").code, 0);
    fixture.plan = RootfsPlan::Directory(fixture.layer());
    fixture.out("touch /x");
    assert!(fixture.layer().join("x").exists());
    fixture.plan = RootfsPlan::Layers { layers: vec![], writable: None };
    assert_eq!(fixture.run().unwrap_err().kind, FailureKind::Setup);
    fixture.plan = RootfsPlan::Layers { layers: vec!["/no/such/layer".into(), fixture.layer()], writable: None };
    assert!(fixture.run().unwrap_err().text.contains("/no/such/layer"));
}

fn directories_shown_as_one_are_readonly_both_ways() {
    for method in [RootfsMethod::Auto, RootfsMethod::Attached] {
        let mut fixture = Fixture::new();
        fixture.method = method;
        let (upper, lower) = (fixture.top.path().join("up:per"), fixture.top.path().join("lo\\wer"));
        for (directory, files) in [(&upper, ["both", "top"]), (&lower, ["both", "echo"])] {
            std::fs::create_dir(directory).unwrap();
            for file in files {
                std::fs::copy("/bin/busybox", directory.join(file)).unwrap();
            }
        }
        std::fs::write(upper.join("both"), "upper").unwrap();
        let escaped = |path: &std::path::Path| path.display().to_string().replace('\\', r"\\").replace(':', r"\:");
        let list = format!("lowerdir={}:{}", escaped(&upper), escaped(&lower));
        let before = mountinfo();
        fixture.mount(json!({"type": "overlay", "source": "overlay", "destination": "/data/image",
            "options": [list, "ro", "nosuid", "nodev"]}));
        assert_eq!(fixture.out("cd /data/image; ls; cat both"), "both\necho\ntop\nupper", "{method:?}");
        assert_ne!(fixture.sh("touch /data/image/x").code, 0, "{method:?}");
        assert_eq!(fixture.out("/data/image/echo runs"), "runs", "{method:?}");
        let shown = fixture.out("grep ' /data/image ' /proc/mounts");
        assert!(shown.contains("ro,nosuid,nodev"), "{shown}");
        assert_eq!(mountinfo(), before);
        fixture.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"] =
            json!(["lowerdir=/no/such/directory:/", "ro"]);
        let failure = fixture.run().unwrap_err();
        assert!(failure.text.contains("/data/image"), "{failure}");
    }
}

fn binds_of_files_and_directories() {
    let mut fixture = Fixture::new();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "content").unwrap();
    fixture.bind(&volume, "/deep/er/data", &["rw", "rprivate"]);
    fixture.bind(&volume, "/ro", &["ro", "noexec"]);
    fixture.bind(&volume.join("file"), "/etc/hosts", &["ro"]);
    fixture.bind(&volume.join("file"), "/dev/termination-log", &["rw"]);
    assert_eq!(fixture.out("cat /etc/hosts; echo more >> /deep/er/data/file"), "content");
    assert_eq!(std::fs::read_to_string(volume.join("file")).unwrap(), "contentmore\n");
    assert_ne!(fixture.sh("echo x > /etc/hosts").code, 0);
    assert_ne!(fixture.sh("touch /ro/x").code, 0);
    assert!(!volume.join("x").exists());
    assert!(fixture.out("grep ' /ro ' /proc/mounts").contains("ro,noexec"));
    fixture.bind(&volume, "relative", &[]);
    assert!(fixture.run().unwrap_err().text.contains("absolute"));
}

/// Mounts for a test, in a mount namespace that only it has.
fn private_tmpfs(at: &std::path::Path, propagation: rustix::mount::MountPropagationFlags) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    podwright_sys::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), None).unwrap();
    mount_change(at, propagation).unwrap();
}

fn recursive_readonly_covers_submounts() {
    let mut fixture = Fixture::new();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    private_tmpfs(&volume, rustix::mount::MountPropagationFlags::PRIVATE);
    std::fs::create_dir(volume.join("sub")).unwrap();
    rustix::mount::mount("tmpfs", volume.join("sub"), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    fixture.bind(&volume, "/plain", &["ro"]);
    fixture.bind(&volume, "/all", &["rro"]);
    assert_eq!(fixture.out("touch /plain/x || echo top; touch /plain/sub/x && echo sub").lines().last(), Some("sub"));
    assert_ne!(fixture.sh("touch /all/sub/x2").code, 0);
}

fn propagation_is_as_asked() {
    let mut fixture = Fixture::new();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    private_tmpfs(&volume, rustix::mount::MountPropagationFlags::SHARED);
    fixture.bind(&volume, "/private", &[]);
    fixture.bind(&volume, "/slave", &["rslave"]);
    fixture.bind(&volume, "/shared", &["rshared"]);
    let optional = |path: &str| format!("awk '$5==\"{path}\" {{print $7}}' /proc/self/mountinfo | tr -d '0-9'");
    assert_eq!(fixture.out(&optional("/private")), "-");
    assert_eq!(fixture.out(&optional("/slave")), "master:");
    assert_eq!(fixture.out(&optional("/shared")), "shared:");
    // And it works: a mount of the container shows up outside, and one from outside inside.
    let capabilities = json!(["CAP_SYS_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        fixture.spec["process"]["capabilities"][set] = capabilities.clone();
    }
    fixture.out("mkdir -p /shared/in && mount -t tmpfs none /shared/in && test -d /slave/in");
    assert!(mountinfo().contains("/volume/in "));
}

fn a_terminal_does_not_become_the_hosts_console() {
    let mut fixture = Fixture::new();
    let dev = fixture.top.path().join("dev");
    std::fs::create_dir(&dev).unwrap();
    private_tmpfs(&dev, rustix::mount::MountPropagationFlags::SHARED);
    std::fs::create_dir(dev.join("pts")).unwrap();
    let options = Some(c"newinstance,ptmxmode=0666");
    rustix::mount::mount("devpts", dev.join("pts"), "devpts", rustix::mount::MountFlags::empty(), options).unwrap();
    fixture.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fixture.bind(&dev, "/dev", &["rbind", "rshared"]);
    fixture.spec["process"]["args"] = json!(["/bin/sh", "-c", "tty"]);
    let before = mountinfo();
    let mut starting = fixture.start(Stdio::Terminal, &Namespaces::default());
    let master = follow(&mut starting).unwrap().terminal.unwrap();
    assert_eq!(wait(&starting), 0);
    drop(master);
    assert_eq!(mountinfo(), before);
    assert!(!dev.join("console").exists());
}

fn what_a_mount_can_not_do_is_an_error() {
    let mut fixture = Fixture::new();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    private_tmpfs(&volume, rustix::mount::MountPropagationFlags::PRIVATE);
    for (word, told) in [
        ("rshared", "not shared"),
        ("rslave", "not shared"),
        ("ridmap", "needs mappings"),
        ("size=5", "\"size=5\" is no option"),
    ] {
        fixture.bind(&volume, "/data", &[word]);
        let failure = fixture.run().unwrap_err();
        assert!(failure.text.contains(told) && failure.text.contains("/"), "{word}: {failure}");
        fixture.spec["mounts"].as_array_mut().unwrap().pop();
    }
}

fn paths_are_masked_and_readonly() {
    let mut fixture = Fixture::new();
    std::fs::write(fixture.layer().join("etc/motd"), "secret").unwrap();
    fixture.spec["linux"]["maskedPaths"] = json!(["/proc/version", "/sys/kernel", "/etc/motd", "/proc/no-such"]);
    assert_eq!(fixture.out("cat /proc/version /etc/motd; ls /sys/kernel"), "");
    assert_ne!(fixture.sh("touch /sys/kernel/x").code, 0);
    assert_ne!(fixture.sh("echo 1 > /proc/sys/kernel/core_pattern").code, 0);
    assert_ne!(fixture.sh("echo x > /proc/sysrq-trigger").code, 0);
    assert_eq!(fixture.out("stat -c %t:%T /proc/version"), "1:3");
}

fn readonly_rootfs() {
    let mut fixture = Fixture::new();
    fixture.spec["root"]["readonly"] = json!(true);
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    fixture.bind(&volume, "/data", &["rw"]);
    assert_ne!(fixture.sh("touch /x").code, 0);
    fixture.out("touch /data/x /dev/x");
}

fn cgroups_are_shown() {
    let mut fixture = Fixture::new();
    let cgroup = fixture.with_cgroup("shown");
    let listed = fixture.out("ls /sys/fs/cgroup");
    match cgroup.hierarchy().is_v2() {
        true => assert!(listed.contains("cgroup.procs"), "{listed}"),
        false => {
            assert!(listed.contains("memory") && listed.contains("pids"), "{listed}");
            // How many there are is a matter of when the shell forks what.
            let listed = fixture.out("cat /sys/fs/cgroup/pids/cgroup.procs");
            assert!(listed.lines().any(|pid| pid == "1"), "{listed}");
        }
    }
    assert_ne!(fixture.sh("mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x").code, 0);
    assert!(fixture.out("cat /proc/self/cgroup").lines().all(|line| line.ends_with(":/") || line.starts_with("0::")));
}

fn host_mounts_stay_the_same() {
    let before = mountinfo();
    let mut fixture = Fixture::new();
    let sleeper = fixture.sleeper();
    assert_eq!(mountinfo(), before);
    drop(sleeper);
    fixture.method = RootfsMethod::Attached;
    let sleeper = fixture.sleeper();
    assert_eq!(mountinfo(), before);
    drop(sleeper);
    assert_eq!(mountinfo(), before);
}
