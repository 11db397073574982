//! Pods with a user namespace: root inside is nobody outside, and files are shown with the pod's ids.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use podwright_runtime::{
    CgroupEntry, IdMappings, Namespace, Namespaces, PodNamespaces, PodPlan, RootfsMethod, RootfsPlan, Starting,
    can_map_ids, make_namespaces, pid_namespace_of, spawn_pause,
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, Outcome, Pid, Sleeper, finish, follow, streams};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_users_root_inside_is_nobody_outside", root_inside_is_nobody_outside),
    ("root_users_layers_are_mapped_in_both_ways_of_mounting", layers_are_mapped_in_both_ways_of_mounting),
    ("root_users_namespaces_belong_to_the_pod", namespaces_belong_to_the_pod),
    ("root_users_the_container_is_complete", the_container_is_complete),
    ("root_users_the_hosts_network_can_be_kept", the_hosts_network_can_be_kept),
    ("root_users_process_ids_can_be_shared", process_ids_can_be_shared),
    ("root_users_exec_joins", exec_joins),
    ("root_users_terminals_work", terminals_work),
    ("root_users_volumes_are_mapped", volumes_are_mapped),
    ("root_users_what_can_not_be_mapped_is_told", what_can_not_be_mapped_is_told),
    ("root_users_a_container_that_fails_leaves_nothing", a_container_that_fails_leaves_nothing),
];

const FIRST: u32 = 300_000;
const LENGTH: u32 = 65_536;

fn range(host: u32) -> Vec<LinuxIdMapping> {
    vec![LinuxIdMappingBuilder::default().host_id(host).container_id(0_u32).size(LENGTH).build().unwrap()]
}

fn mappings(host: u32) -> IdMappings {
    IdMappings { uids: range(host), gids: range(host + 100_000) }
}

fn pod_with(network: bool) -> PodNamespaces {
    let sysctls = [("kernel.msgmax".to_owned(), "4243".to_owned())].into_iter().collect();
    let user = Some(mappings(FIRST));
    make_namespaces(&PodPlan { network, ipc: true, user, hostname: Some("pod-u".to_owned()), sysctls }).unwrap()
}

fn namespaces(pod: &PodNamespaces) -> Namespaces<'_> {
    Namespaces {
        network: pod.network.as_ref().map_or(Namespace::Host, |fd| Namespace::Join(fd.as_fd())),
        ipc: Namespace::Join(pod.ipc.as_ref().unwrap().as_fd()),
        uts: Namespace::Join(pod.uts.as_ref().unwrap().as_fd()),
        user: Some(pod.user.as_ref().unwrap().join()),
        ..Namespaces::default()
    }
}

fn fixture(pod: &PodNamespaces) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.user = Some(pod.user.as_ref().unwrap().root);
    fixture
}

fn start(fixture: &mut Fixture, pod: &PodNamespaces, script: &str) -> Result<Outcome, podwright_runtime::Failure> {
    fixture.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
    let output = tempfile::tempfile().unwrap();
    let mut starting = fixture.start(streams(&output), &namespaces(pod));
    let followed = follow(&mut starting)?;
    Ok(finish(&starting, output, followed))
}

fn out(fixture: &mut Fixture, pod: &PodNamespaces, script: &str) -> String {
    let outcome = start(fixture, pod, script).unwrap();
    assert_eq!(outcome.code, 0, "{script}: {outcome:?}");
    outcome.output.trim().to_owned()
}

fn sleeper(fixture: &mut Fixture, pod: &PodNamespaces) -> Sleeper {
    fixture.spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    let output = tempfile::tempfile().unwrap();
    let mut starting = fixture.start(streams(&output), &namespaces(pod));
    follow(&mut starting).unwrap();
    Sleeper(starting)
}

fn status(starting: &Starting, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", starting.pid().as_raw_nonzero())).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root_inside_is_nobody_outside() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    let script = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u; id -g; id -G; echo $$";
    let seen = out(&mut fixture, &pod, script);
    assert_eq!(
        seen.lines().map(str::trim).collect::<Vec<_>>(),
        ["0 300000 65536", "0 400000 65536", "0", "0", "0", "1"]
    );
    let sleeper = sleeper(&mut fixture, &pod);
    assert_eq!(status(&sleeper.0, "Uid:"), "300000 300000 300000 300000");
    assert_eq!(status(&sleeper.0, "Gid:"), "400000 400000 400000 400000");
    fixture.spec["process"]["user"] = json!({"uid": 0, "gid": 0, "username": "web", "additionalGids": [7]});
    assert_eq!(out(&mut fixture, &pod, "id -u; id -G"), "1000\n1001 7 2000");
}

fn layers_are_mapped_in_both_ways_of_mounting() {
    let pod = pod_with(true);
    for method in [RootfsMethod::Auto, RootfsMethod::Attached] {
        let mut fixture = fixture(&pod);
        fixture.method = method;
        std::os::unix::fs::chown(fixture.layer().join("etc/group"), Some(1000), Some(1001)).unwrap();
        let seen = out(&mut fixture, &pod, "stat -c %u:%g / /etc/passwd /etc/group /bin");
        assert_eq!(seen, "0:0\n0:0\n1000:1001\n0:0");
        // Written anew, changed, and made on the way.
        fixture.spec["process"]["cwd"] = json!("/made/for/it");
        out(
            &mut fixture,
            &pod,
            "touch /new; echo x >> /etc/group; chown web /etc/passwd; rm /bin/tty; rmdir /made/for/it",
        );
        let owner = |path: &str| {
            let seen = std::fs::symlink_metadata(fixture.upper(path)).unwrap();
            (seen.uid(), seen.gid())
        };
        assert_eq!(owner("new"), (FIRST, FIRST + 100_000));
        assert_eq!(owner("etc/group"), (FIRST + 1000, FIRST + 101_001));
        assert_eq!(owner("etc/passwd"), (FIRST + 1000, FIRST + 100_000));
        assert_eq!(owner("made"), (FIRST, FIRST + 100_000));
        // The image's own are as they were.
        assert_eq!(std::fs::metadata(fixture.layer().join("etc/passwd")).unwrap().uid(), 0);
    }
    // Roots that are not overlays.
    let mut fixture = fixture(&pod);
    for plan in
        [RootfsPlan::Layers { layers: vec![fixture.layer()], writable: None }, RootfsPlan::Directory(fixture.layer())]
    {
        for name in ["proc", "sys", "dev"] {
            std::fs::create_dir_all(fixture.layer().join(name)).unwrap();
        }
        fixture.plan = plan;
        assert_eq!(out(&mut fixture, &pod, "stat -c %u:%g / /etc/passwd"), "0:0\n0:0");
    }
}

fn namespaces_belong_to_the_pod() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    for set in ["bounding", "effective", "permitted"] {
        fixture.spec["process"]["capabilities"][set] = json!(["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SETUID"]);
    }
    fixture.spec["linux"]["readonlyPaths"] = json!([]);
    let script = "hostname; cat /proc/sys/kernel/msgmax
        echo '0 65535' > /proc/sys/net/ipv4/ping_group_range && cat /proc/sys/net/ipv4/ping_group_range
        ip link add name dummy0 type dummy 2>&1 || ip addr add 192.0.2.1/32 dev lo; hostname changed && hostname
        mkdir /p && mount -t proc proc /p && ls /p/1/status && umount /p && mount -t tmpfs none /p && echo mounted";
    let seen = out(&mut fixture, &pod, script);
    assert!(seen.starts_with("pod-u\n4243\n0\t65535\n"), "{seen}");
    assert!(seen.ends_with("changed\n/p/1/status\nmounted"), "{seen}");
    // What belongs to the host is out of reach, with all capabilities.
    let seen =
        out(&mut fixture, &pod, "echo 1 2>&1 > /proc/sys/kernel/panic; mknod /x c 1 3 2>&1; cat < /dev/null; true");
    assert_eq!(seen.matches("denied").count() + seen.matches("not permitted").count(), 2, "{seen}");
}

fn the_container_is_complete() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    fixture.spec["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0},
    ]);
    let script = "mount | cut -d' ' -f3,5 | sort | tr '\\n' ';'";
    let seen = out(&mut fixture, &pod, script);
    for wanted in [
        "/ overlay",
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/dev/mqueue mqueue",
        "/sys sysfs",
        "/proc/sys proc",
    ] {
        assert!(seen.split(';').any(|mount| mount == wanted), "{wanted}: {seen}");
    }
    assert!(!seen.contains("/tmp"), "{seen}");
    let devices = "for d in null zero full random urandom; do dd if=/dev/$d of=/dev/null bs=1 count=1 2>/dev/null || test $d = null || exit 1; done
        dd if=/dev/mine bs=3 count=1 2>/dev/null | wc -c; echo x > /dev/null; ls -ld /dev/fd /dev/null | tr -s ' ' | cut -d' ' -f3,4
        touch /dev/own && rm /dev/own; mkdir /dev/pts/x 2>/dev/null; ls /sys/firmware | wc -l";
    assert_eq!(out(&mut fixture, &pod, devices), "3\nroot root\nroot root\n0");
    // The program's streams can be opened again, also by others than root.
    fixture.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let (read, write) = std::io::pipe().unwrap();
    let write = write.into();
    fixture.spec["process"]["args"] = json!(["/bin/sh", "-c", "echo again > /dev/stdout"]);
    let stdio = podwright_runtime::Stdio::Fds([None, Some(write), None]);
    let mut starting = fixture.start(stdio, &namespaces(&pod));
    follow(&mut starting).unwrap();
    assert_eq!(crate::fixture::wait(&starting), 0);
    let mut text = [0; 16];
    let length = rustix::io::read(&read, &mut text).unwrap();
    assert_eq!(&text[..length], b"again\n");
}

fn the_hosts_network_can_be_kept() {
    let pod = pod_with(false);
    let mut fixture = fixture(&pod);
    fixture.keep_network = true;
    let seen = out(&mut fixture, &pod, "readlink /proc/self/ns/net; ls -d /sys/class/net/lo; id -u");
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(seen, format!("{}\n/sys/class/net/lo\n0", host.display()));
}

fn process_ids_can_be_shared() {
    let pod = pod_with(true);
    let mut pause = spawn_pause(&pod, CgroupEntry::Inherit, Some(1), None).unwrap();
    follow(&mut pause).unwrap();
    let pause = Sleeper(pause);
    assert_eq!(status(&pause.0, "Uid:"), "300000 300000 300000 300000");
    let proc = format!("/proc/{}", pause.0.pid().as_raw_nonzero());
    assert_eq!(std::fs::read_dir(format!("{proc}/root/")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(format!("{proc}/mountinfo")).unwrap().lines().count(), 1);
    let mut fixture = fixture(&pod);
    fixture.pid = Pid::Join(pid_namespace_of(pause.0.pid()).unwrap());
    let neighbour = sleeper(&mut fixture, &pod);
    let listed =
        out(&mut fixture, &pod, "cat /proc/1/comm; cat /proc/*/comm | grep -c sleep; echo $$; stat -c %u /proc/1");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("pause", "1", "0"), "{listed}");
    assert_ne!(lines[2], "1");
    drop(neighbour);
}

fn exec_joins() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    let sleeper = sleeper(&mut fixture, &pod);
    let output = tempfile::tempfile().unwrap();
    let script = "id -u; for n in user pid mnt; do readlink /proc/self/ns/$n; done; touch /by-exec; mknod /n c 1 3 2>/dev/null || echo no";
    let mut exec = fixture.exec(sleeper.0.pidfd(), &["/bin/sh", "-c", script], streams(&output));
    let followed = follow(&mut exec).unwrap();
    let outcome = finish(&exec, output, followed);
    let proc = format!("/proc/{}/ns", sleeper.0.pid().as_raw_nonzero());
    let link = |name: &str| std::fs::read_link(format!("{proc}/{name}")).unwrap().display().to_string();
    assert_eq!(outcome.output, format!("0\n{}\n{}\n{}\nno\n", link("user"), link("pid"), link("mnt")));
    assert_eq!(std::fs::metadata(fixture.upper("by-exec")).unwrap().uid(), FIRST);
}

fn terminals_work() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    fixture.spec["process"]["terminal"] = json!(true);
    fixture.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    fixture.spec["process"]["args"] = json!([
        "/bin/sh",
        "-c",
        "tty; stat -c %u:%g $(tty); echo x > /dev/tty; ls -l /dev/console | wc -l; sleep 1000"
    ]);
    let mut starting = fixture.start(podwright_runtime::Stdio::Terminal, &namespaces(&pod));
    let master = follow(&mut starting).unwrap().terminal.unwrap();
    let sleeper = Sleeper(starting);
    let mut text = String::new();
    while text.lines().count() < 4 {
        let mut some = [0; 256];
        let length = rustix::io::read(&master, &mut some).unwrap();
        text.push_str(std::str::from_utf8(&some[..length]).unwrap());
    }
    assert_eq!(text.replace('\r', ""), "/dev/pts/0\n1000:5\nx\n1\n");
    drop(sleeper);
}

fn mapped(source: &std::path::Path, at: &str, host: u32) -> Value {
    let of = |host: u32| json!([{"containerID": 0, "hostID": host, "size": LENGTH}]);
    json!({
        "type": "bind", "source": source, "destination": at, "options": ["rbind", "rprivate", "ridmap"],
        "uidMappings": of(host), "gidMappings": of(host + 100_000),
    })
}

fn volumes_are_mapped() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    let volume = fixture.top.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("of-root"), "").unwrap();
    std::os::unix::fs::chown(&volume, Some(1000), Some(0)).unwrap();
    let source = volume.clone();
    fixture.mount(mapped(&source, "/mapped", FIRST));
    fixture.bind(&source, "/plain", &[]);
    fixture.mount(mapped(&source, "/other", FIRST + 1000));
    // A mount point that has to be made in a mapped volume.
    fixture.mount(mapped(&source, "/mapped/below", FIRST));
    let seen = out(
        &mut fixture,
        &pod,
        "cd /mapped; stat -c %u . of-root; touch by-root; stat -c %u /plain /other/of-root; touch /plain/x 2>&1; true",
    );
    let lines: Vec<&str> = seen.lines().collect();
    // The kernel shows as 65534 what the namespace does not know; 1000 below is unknown too.
    assert_eq!(lines[..4], ["1000", "0", "65534", "1000"], "{seen}");
    assert!(lines[4].contains("denied"), "{seen}");
    assert_eq!(std::fs::metadata(volume.join("by-root")).unwrap().uid(), 0);
    assert_eq!(std::fs::metadata(volume.join("below")).unwrap().uid(), 0);
}

fn what_can_not_be_mapped_is_told() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    fixture.mount(mapped(std::path::Path::new("/proc"), "/bad", FIRST));
    let failure = start(&mut fixture, &pod, "true").unwrap_err();
    assert!(failure.text.contains("/bad") && failure.text.contains("can not map ids"), "{failure}");

    let mut fixture = self::fixture(&pod);
    let mut half = mapped(std::path::Path::new("/tmp"), "/half", FIRST);
    half["gidMappings"] = json!([]);
    fixture.mount(half);
    let failure = start(&mut fixture, &pod, "true").unwrap_err();
    assert!(failure.text.contains("/half") && failure.text.contains("both"), "{failure}");

    can_map_ids(std::path::Path::new("/tmp")).unwrap();
    assert!(can_map_ids(std::path::Path::new("/proc")).unwrap_err().text.contains("can not map ids"));

    let none = IdMappings { uids: Vec::new(), gids: Vec::new() };
    let refused = make_namespaces(&PodPlan { user: Some(none), ..PodPlan::default() });
    assert!(refused.is_err());
}

fn a_container_that_fails_leaves_nothing() {
    let pod = pod_with(true);
    let mut fixture = fixture(&pod);
    let cgroup = fixture.with_cgroup("users");
    fixture.spec["process"]["args"] = json!(["/no/such/program"]);
    let output = tempfile::tempfile().unwrap();
    let mut starting = fixture.start(streams(&output), &namespaces(&pod));
    let failure = follow(&mut starting).unwrap_err();
    assert!(failure.text.contains("/no/such/program"), "{failure}");
    while !cgroup.processes().unwrap().is_empty() {
        std::thread::yield_now();
    }
    // The first child is reaped by whoever reaps; nobody else is left.
    while rustix::process::wait(rustix::process::WaitOptions::empty()).is_ok() {}
}
