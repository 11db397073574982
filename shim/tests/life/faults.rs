//! Daemons that vanish, peers that talk rubbish, shims that are killed or started by hand.

use std::io;
use std::process::{Command, Stdio};

use podwright_shim_api::client::{Client, ClientError, no_placing};
use podwright_shim_api::launcher::{RunningShim, connect_socket};
use podwright_shim_api::{Event, FailureKind, Packet, PidChoice, PidPlan, Reply, Request, socket};
use prost::Message;
use rustix::process::{Resource, Rlimit};

use crate::world::{LONG, World, pod, shell, wait_for};

#[test]
fn started_by_hand_it_tells_what_to_do_instead() {
    for arguments in [&[][..], &["--help"], &["--sandbox", "s"], &["--sandbox", "../x"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_podwright-shim")).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8(output.stderr).unwrap().contains("started by podwrightd"));
    }
}

#[tokio::test]
async fn root_a_new_daemon_learns_all_that_happened() {
    let mut world = World::with_pod().await;
    world.run("ends", "sleep 0.3; exit 11").await;
    world.run("stays", "sleep 1000").await;
    // The daemon is gone without a word; meanwhile a container ends.
    let pid = world.client.hello().pid;
    let RunningShim { client, events } = world.launcher.connect(&world.sandbox).await.unwrap().unwrap();
    assert_eq!(client.hello().pid, pid);
    (world.client, world.events) = (client, events);
    let ended =
        |state: &podwright_shim_api::State| state.containers.iter().any(|c| c.container == "ends" && c.end.is_some());
    while !ended(&world.client.state().await.unwrap().0) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (state, netns) = world.client.state().await.unwrap();
    assert!(netns.is_some() && state.pod.is_some());
    assert_eq!(state.containers.iter().map(|c| c.container.as_str()).collect::<Vec<_>>(), ["ends", "stays"]);
    assert_eq!(state.containers[0].end.as_ref().unwrap().code, 11);
    assert_eq!(state.containers[1].end, None);
    // A launch for a sandbox whose shim lives finds that one.
    let again = world.launcher.launch(&world.sandbox, None).await.unwrap();
    assert_eq!(again.client.hello().pid, world.client.hello().pid);
    assert_eq!(world.launcher.list().unwrap(), [world.sandbox.clone()]);
    world.finish().await;
}

/// Sends bytes as one packet and waits for the answer, or the end.
fn say(stream: &std::os::fd::OwnedFd, packet: &[u8]) -> io::Result<Option<Packet>> {
    socket::send(stream, packet, &[])?;
    let mut set = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut set, None)?;
    let mut buffer = vec![0; podwright_shim_api::MAX_PACKET_BYTES];
    let (length, _) = socket::receive(stream, &mut buffer)?;
    Ok(if length == 0 { None } else { Packet::decode(&buffer[..length]).ok() })
}

fn kind(packet: Option<Packet>) -> FailureKind {
    match packet.and_then(|packet| packet.reply) {
        Some(Reply::Failure(failure)) => failure.kind(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn root_rubbish_ends_its_connection_and_nothing_else() {
    let world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let path = world.launcher.socket_path(&world.sandbox);
    let connect = || connect_socket(&path).unwrap();
    assert!(say(&connect(), b"\xff\xff\xff\xff rubbish").unwrap().is_none());
    let request = |call| Request { id: 5, call }.encode_to_vec();
    let stranger = connect();
    let state = podwright_shim_api::Call::GetState(Default::default());
    assert_eq!(kind(say(&stranger, &request(Some(state))).unwrap()), FailureKind::Invalid);
    // A call from the future is answered, and the connection goes on.
    let hello = podwright_shim_api::Call::Hello(Default::default());
    assert_eq!(kind(say(&stranger, &[0x08, 0x05, 0xc2, 0x3e, 0x01, 0x61]).unwrap()), FailureKind::Unsupported);
    assert!(matches!(say(&stranger, &request(Some(hello))).unwrap().unwrap().reply, Some(Reply::Hello(_))));
    // Descriptors that nobody asked for are closed.
    let descriptors = format!("/proc/{}/fd", world.client.hello().pid);
    let before = std::fs::read_dir(&descriptors).unwrap().count();
    let null = std::fs::File::open("/dev/null").unwrap();
    let fds = [std::os::fd::AsFd::as_fd(&null); 8];
    socket::send(&stranger, &request(None), &fds).unwrap();
    assert_eq!(kind(say(&stranger, &request(None)).unwrap()), FailureKind::Unsupported);
    wait_for("they are closed", || std::fs::read_dir(&descriptors).unwrap().count() <= before).await;
    assert_eq!(world.client.state().await.unwrap().0.containers.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn root_a_daemon_that_does_not_read_is_cut_off() {
    let mut world = World::with_pod().await;
    let deaf = connect_socket(&world.launcher.socket_path(&world.sandbox)).unwrap();
    let hello = Request { id: 1, call: Some(podwright_shim_api::Call::Hello(Default::default())) }.encode_to_vec();
    let mut sent = 0;
    // Until the shim hangs up: its answers pile up, for nobody takes them.
    wait_for("the shim hangs up", || {
        loop {
            match socket::send(&deaf, &hello, &[]) {
                Ok(()) => sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    })
    .await;
    assert!(sent > 100);
    world.run("c", "exit 2").await;
    assert_eq!(world.end_of("c").await.code, 2);
    world.finish().await;
}

#[tokio::test]
async fn root_a_killed_shim_is_seen_at_once_and_its_remains_can_go() {
    let mut world = World::with_pod().await;
    world.run("c", "sleep 1000").await;
    let pid = nix::unistd::Pid::from_raw(world.client.hello().pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    world.client.state().await.expect("it ignores SIGTERM");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let event = tokio::time::timeout(LONG, world.events.recv()).await.unwrap();
    assert_eq!(event, Some(Event::Gone));
    assert!(matches!(world.client.state().await, Err(ClientError::Gone { .. })));
    assert!(world.launcher.connect(&world.sandbox).await.unwrap().is_none());
    assert!(Client::connect(&world.launcher.socket_path(&world.sandbox)).await.unwrap_err().is_absent());
    world.launcher.remove_remains(&world.sandbox).unwrap();
    world.launcher.remove_remains(&world.sandbox).unwrap();
    assert!(!world.launcher.socket_path(&world.sandbox).exists());
    let path = format!("/proc/{pid}/status");
    wait_for("the daemon reaps it", || !std::path::Path::new(&path).exists()).await;
}

#[tokio::test]
async fn root_the_shim_holds_nothing_it_does_not_need() {
    let world = World::with_pod().await;
    let pid = world.client.hello().pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Name:\tpodwright-shim") && status.contains("Threads:\t1"), "{status}");
    let fds = || -> Vec<String> {
        let directory = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets = directory.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        targets.map(|target| target.display().to_string()).collect()
    };
    // Streams, listener, directory, epoll, signals, a spare one, one connection, three namespaces. A copy goes with each answer.
    wait_for("few are open", || fds().len() == 12).await;
    assert!(!fds().iter().any(|fd| fd.contains("inotify")));
    assert!(std::fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), std::path::Path::new("/"));
    // The binary cannot be written to, not even by root.
    let written = std::fs::File::options().write(true).open(format!("/proc/{pid}/exe"));
    assert!(written.is_err(), "{written:?}");
    world.finish().await;
}

#[tokio::test]
async fn root_a_long_state_directory_has_sockets_too() {
    let world = World::with_pod().await;
    let long = world.path(&"long-".repeat(40));
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_podwright-shim"));
    let launcher = podwright_shim_api::launcher::Launcher::new(binary, &long).unwrap();
    let running = launcher.launch(&world.sandbox, None).await.unwrap();
    assert!(launcher.socket_path(&world.sandbox).as_os_str().len() > 108);
    let (client, _events) = Client::connect(&launcher.socket_path(&world.sandbox)).await.unwrap();
    assert_eq!(client.hello().pid, running.client.hello().pid);
    client.shutdown().await.unwrap();
    assert!(launcher.list().unwrap().is_empty());
    world.finish().await;
}

#[tokio::test]
async fn root_containers_do_not_get_the_daemons_limit_of_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let mut world = World::new().await;
    world.client.shutdown().await.unwrap();
    let launcher = world.launcher.clone().with_open_files(Some(777));
    let cgroup = format!("{}/shim", world.cgroup);
    let RunningShim { client, events } = launcher.launch(&world.sandbox, Some(&cgroup)).await.unwrap();
    (world.client, world.events) = (client, events);
    world.client.create_pod(pod(), None, no_placing).await.unwrap();
    world.run("c", "ulimit -n").await;
    world.end_of("c").await;
    assert_eq!(world.log_texts("c"), ["stdout F 777"]);
    world.finish().await;
}

#[tokio::test]
async fn root_a_shim_that_can_not_begin_says_why() {
    let world = World::new().await;
    let other = podwright_types::SandboxId::from_random([7; 32]);
    let error = world.launcher.launch(&other, Some("no-cgroup-path")).await.unwrap_err();
    assert!(error.to_string().contains("join the shim's cgroup"), "{error}");
    assert!(!world.launcher.socket_path(&other).exists());
    world.finish().await;
}

#[tokio::test]
async fn root_a_shim_without_free_descriptors_refuses_and_goes_on() {
    let mut world = World::with_pod().await;
    let shim = world.client.hello().pid;
    let open = || -> Vec<u64> {
        let directory = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap();
        directory.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    // The copy that went with the answer is closed.
    wait_for("few are open", || open().len() == 12).await;
    let open = open();
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    let pid = rustix::process::Pid::from_raw(shim);
    let limit = |current| rustix::process::Rlimit { current: Some(current), maximum: Some(1024) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit(free)).unwrap();
    let refused = Client::connect(&world.launcher.socket_path(&world.sandbox)).await.map(drop).unwrap_err();
    assert!(!matches!(refused, ClientError::TimedOut { .. }), "{refused}");
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit(1024)).unwrap();
    world.run("c", "exit 3").await;
    assert_eq!(world.end_of("c").await.code, 3);
    world.finish().await;
}

/// The number that the next descriptor of a process would get.
fn first_free_descriptor(pid: i32) -> u64 {
    (0..).find(|number| !std::path::Path::new(&format!("/proc/{pid}/fd/{number}")).exists()).unwrap()
}

#[tokio::test]
async fn root_without_descriptors_nobody_is_called_ended_who_lives() {
    let mut world = World::with_pod().await;
    let mut request = world.request("h");
    if let Some(namespaces) = &mut request.namespaces {
        namespaces.pid = Some(PidPlan { choice: PidChoice::Host.into(), target: String::new() });
    }
    // Its child outlives the first process, and only the list of the cgroup shows that.
    world.start(request, &shell("sleep 1000 & wait")).await.unwrap();
    let shim = world.client.hello().pid;
    let process = rustix::process::Pid::from_raw(shim).unwrap();
    let before = rustix::process::getrlimit(Resource::Nofile);
    let limit = |current| Rlimit { current: Some(current), ..before };
    let set = |current| rustix::process::prlimit(Some(process), Resource::Nofile, limit(current)).unwrap();
    set(first_free_descriptor(shim));
    world.client.signal_container("h", 9, false).await.unwrap();
    let early = tokio::time::timeout(std::time::Duration::from_millis(500), world.events.recv()).await;
    set(before.current.unwrap_or(1024));
    assert!(early.is_err(), "{early:?}");
    assert_eq!(world.end_of("h").await.code, 137);
    let cgroup = podwright_cgroups::Hierarchy::detect().unwrap().cgroup(&format!("{}/h", world.cgroup)).unwrap();
    assert_eq!(cgroup.processes().unwrap(), []);
    world.finish().await;
}
