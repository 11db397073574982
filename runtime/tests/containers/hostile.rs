//! Images that try to lead out of their root. After each the host is compared with before.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::fixture::Fixture;
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_dev_is_a_symlink", dev_is_a_symlink),
    ("root_proc_is_a_symlink", proc_is_a_symlink),
    ("root_etc_is_a_symlink", etc_is_a_symlink),
    ("root_a_mount_point_is_a_symlink", a_mount_point_is_a_symlink),
    ("root_passwd_is_hostile", passwd_is_hostile),
    ("root_working_directory_of_the_host", working_directory_of_the_host),
    ("root_a_device_path_is_a_symlink", a_device_path_is_a_symlink),
];

/// A directory of the host beside the image, which must stay empty.
fn host(fixture: &Fixture) -> std::path::PathBuf {
    let path = fixture.top.path().join("host");
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn assert_untouched(path: &Path) {
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "{} was touched", path.display());
}

fn dev_is_a_symlink() {
    for target in ["/", "../../../../..", "/etc"] {
        let fixture = Fixture::new();
        symlink(target, fixture.layer().join("dev")).unwrap();
        let failure = fixture.run().unwrap_err();
        assert!(failure.text.contains("/dev") && failure.text.contains("symlink"), "{failure}");
        assert!(!fixture.upper("null").exists());
    }
}

fn proc_is_a_symlink() {
    let fixture = Fixture::new();
    symlink("/etc", fixture.layer().join("proc")).unwrap();
    let failure = fixture.run().unwrap_err();
    assert!(failure.text.contains("/proc") && failure.text.contains("symlink"), "{failure}");
}

fn etc_is_a_symlink() {
    let mut fixture = Fixture::new();
    let host = host(&fixture);
    std::fs::remove_dir_all(fixture.layer().join("etc")).unwrap();
    symlink(format!("../../../../../../../..{}", host.display()), fixture.layer().join("etc")).unwrap();
    let file = fixture.top.path().join("hosts");
    std::fs::write(&file, "mine").unwrap();
    fixture.bind(&file, "/etc/hosts", &["ro"]);
    assert_eq!(fixture.out("cat /etc/hosts"), "mine");
    assert_untouched(&host);
}

fn a_mount_point_is_a_symlink() {
    let mut fixture = Fixture::new();
    let host = host(&fixture);
    symlink(&host, fixture.layer().join("data")).unwrap();
    symlink("/proc/1/root", fixture.layer().join("magic")).unwrap();
    symlink(host.join("file"), fixture.layer().join("file")).unwrap();
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("f"), "volume").unwrap();
    fixture.bind(&volume, "/data/sub", &[]);
    fixture.bind(&volume.join("f"), "/file", &[]);
    assert_eq!(fixture.out("cat /data/sub/f /file"), "volumevolume");
    assert_untouched(&host);
    fixture.bind(&volume, "/magic/x", &[]);
    assert!(fixture.run().is_err());
    assert_untouched(&host);
}

fn passwd_is_hostile() {
    let mut fixture = Fixture::new();
    let passwd = fixture.layer().join("etc/passwd");
    fixture.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "username": "web"});
    std::fs::remove_file(&passwd).unwrap();
    symlink("/proc/self/fd/0", &passwd).unwrap();
    assert!(fixture.run().is_err());
    std::fs::remove_file(&passwd).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(fixture.run().unwrap_err().text.contains("regular"));
    std::fs::remove_file(&passwd).unwrap();
    let huge = std::fs::File::create(&passwd).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(fixture.run().unwrap_err().text.contains("larger"));
}

fn working_directory_of_the_host() {
    let mut fixture = Fixture::new();
    for n in 3..12 {
        fixture.spec["process"]["cwd"] = json!(format!("/proc/self/fd/{n}"));
        assert!(fixture.run().is_err());
    }
    fixture.spec["process"]["cwd"] = json!("/../../..");
    assert_eq!(fixture.out("pwd; ls"), "/\nbin\ndev\netc\nproc\nsys");
}

fn a_device_path_is_a_symlink() {
    let mut fixture = Fixture::new();
    let host = host(&fixture);
    symlink(&host, fixture.layer().join("out")).unwrap();
    fixture.spec["linux"]["devices"] = json!([{"path": "/out/null", "type": "c", "major": 1, "minor": 3}]);
    fixture.run().unwrap();
    assert_untouched(&host);
}
