use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::census::Census;

#[test]
fn root_a_host_is_a_world_of_its_own_and_leaves_nothing() {
    let host = TestHost::new().unwrap();
    let dir = host.dir().to_owned();
    assert_eq!(host.run(&["ip", "-br", "link"]).unwrap().lines().count(), 1);
    let listener = host.listen("127.0.0.1:7777").unwrap();
    host.in_network(|| Ok(TcpStream::connect("127.0.0.1:7777")?.write_all(b"x")?)).unwrap();
    let mut byte = [0];
    listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
    let mut lost = host.command("sleep").arg("1000").spawn().unwrap();
    drop(host);
    assert!(!lost.wait().unwrap().success());
    assert!(!dir.exists());
}

#[test]
fn root_the_census_sees_what_is_left() {
    let host = TestHost::new().unwrap();
    let before = Census::take(&host, &[host.dir()]).unwrap();
    before.same_as(&Census::take(&host, &[host.dir()]).unwrap()).unwrap();
    let mount = host.dir().join("m");
    fs::create_dir(&mount).unwrap();
    host.run(&["mount", "-t", "tmpfs", "none", &mount.display().to_string()]).unwrap();
    host.run(&["ip", "link", "add", "left0", "type", "veth", "peer", "name", "left1"]).unwrap();
    host.run(&["nft", "add", "table", "inet", "leftover"]).unwrap();
    host.run(&["touch", "/run/netns/leftover"]).unwrap();
    let mut child = host.command("sleep").arg("1000").spawn().unwrap();
    // What enters the host executes it a moment later.
    let name = format!("/proc/{}/comm", child.id());
    let end = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(&name).unwrap() != "sleep\n" {
        assert!(Instant::now() < end, "the command is not executed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let diff = before.diff(&Census::take(&host, &[host.dir()]).unwrap()).join("\n");
    child.kill().unwrap();
    child.wait().unwrap();
    for part in ["mount tmpfs", "link left0", "nft table inet leftover", "netns leftover", "process sleep", "file /"] {
        assert!(diff.contains(part), "{part} is not in:\n{diff}");
    }
}

#[test]
fn root_the_outside_is_reachable() {
    let host = TestHost::new().unwrap();
    let outside = Outside::of(&host).unwrap();
    let listener = host.listen("0.0.0.0:7778").unwrap();
    let connection = outside.in_network(|| Ok(TcpStream::connect((Outside::HOST, 7778))?)).unwrap();
    drop(connection);
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), Outside::ADDRESS);
}
