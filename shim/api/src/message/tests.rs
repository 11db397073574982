//! Version 1 must stay readable for ever, and rubbish must stay harmless.

use super::*;
use proptest::prelude::*;
use prost::Message;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn placement() -> CgroupPlacement {
    CgroupPlacement { path: "/a/b".into(), deferred: true }
}

/// One of each call, with every field set.
fn calls() -> Vec<Call> {
    let mapping = IdMapping { host_id: 100_000, container_id: 1, length: 65_536 };
    let user = UserNamespace { uids: vec![mapping.clone()], gids: vec![mapping] };
    let size = TerminalSize { columns: 80, rows: 24 };
    vec![
        Call::Hello(Hello { version: 1, features: vec!["f".into()] }),
        Call::GetState(GetState { after: "c".into(), ..GetState::default() }),
        Call::CreatePod(CreatePod {
            hostname: Some("h".into()),
            network: true,
            ipc: true,
            pid: true,
            user: Some(user),
            sysctls: [("net.a".into(), "1".into())].into(),
            shm: Some(Shm { path: b"/s".into(), bytes: 64 }),
            pause_cgroup: Some(placement()),
            // Younger than the samples.
            mount_label: None,
            netns_given: false,
        }),
        Call::StartContainer(StartContainer {
            container: "c".into(),
            layers: vec![b"/l2".into(), b"/l1".into()],
            writable: Some(b"/rw".into()),
            log_path: Some(b"/log".into()),
            stdin: true,
            stdin_once: true,
            cgroup: Some(placement()),
            namespaces: Some(NamespacePlan {
                network: NamespaceChoice::Host.into(),
                ipc: NamespaceChoice::Host.into(),
                uts: NamespaceChoice::Host.into(),
                pid: Some(PidPlan { choice: PidChoice::Target.into(), target: "t".into() }),
                user: NamespaceChoice::Host.into(),
                cgroup: NamespaceChoice::New.into(),
            }),
            groups_policy: GroupsPolicy::Strict.into(),
            seccomp: Some(Seccomp::Localhost(b"/p".into())),
            // Younger than the samples.
            bundle: None,
            restore: None,
            runtime: None,
        }),
        Call::Exec(Exec {
            container: "c".into(),
            exec: "e".into(),
            has_stdin: true,
            has_stdout: true,
            has_stderr: true,
            seccomp: Some(Seccomp::RuntimeDefault(true)),
        }),
        Call::SignalContainer(SignalContainer { container: "c".into(), signal: 15, all: true }),
        Call::KillExec(KillExec { container: "c".into(), exec: "e".into() }),
        Call::ReopenLog(ReopenLog { container: "c".into() }),
        Call::DeleteContainer(DeleteContainer { container: "c".into() }),
        Call::Shutdown(Shutdown {}),
        Call::Release(Release { container: "c".into(), error: "x".into() }),
        Call::Resize(Resize { container: "c".into(), exec: "e".into(), size: Some(size) }),
        Call::CloseStdin(CloseStdin { container: "c".into() }),
        Call::Attach(Attach { container: "c".into(), has_stdin: true, has_stdout: true, has_stderr: true }),
        Call::UpdateContainer(UpdateContainer { container: "c".into() }),
    ]
}

/// One of each answer and event, with every field set.
fn replies() -> Vec<Reply> {
    let started = Started { pid: 7, started_at_nanos: 8, uid: 1, gid: 2, groups: vec![2, 3] };
    let end = ProcessEnd { code: 137, at_nanos: 9, oom_killed: true };
    let pod = PodCreated { pause_pid: 6, has_netns: true, pause_ended: true };
    vec![
        Reply::Hello(HelloReply { version: 1, features: vec!["f".into()], pid: 5, sandbox: "s".into() }),
        Reply::State(StateReply {
            pid: 5,
            pod: Some(pod.clone()),
            containers: vec![ContainerReport {
                container: "c".into(),
                started: Some(started.clone()),
                end: Some(end.clone()),
            }],
            execs: vec![ExecReport { container: "c".into(), exec: "e".into(), pid: 8 }],
            more: true,
            // Came after the samples.
            more_execs: false,
        }),
        Reply::PodCreated(pod),
        Reply::Started(started),
        Reply::ExecStarted(ExecStarted { pid: 7 }),
        Reply::Done(Done {}),
        Reply::Failure(Failure { step: "s".into(), object: "o".into(), message: "m".into(), errno: 2, kind: 5 }),
        Reply::Placing(Placing { pid: 7 }),
        Reply::ContainerEnd(ContainerEnd { container: "c".into(), end: Some(end.clone()) }),
        Reply::ExecEnd(ExecEnd { container: "c".into(), exec: "e".into(), end: Some(end) }),
        Reply::PauseEnd(PauseEnd {}),
    ]
}

/// Never change a line: shims of version 1 live on while daemons come and go.
const CALLS_OF_VERSION_1: &str = include_str!("version1/calls.hex");
/// As above.
const REPLIES_OF_VERSION_1: &str = include_str!("version1/replies.hex");

#[test]
fn calls_of_version_1_are_still_understood() {
    let samples: Vec<&str> = CALLS_OF_VERSION_1.lines().collect();
    assert_eq!(samples.len(), calls().len());
    for (sample, call) in samples.iter().zip(calls()) {
        let request = Request { id: 300, call: Some(call) };
        assert_eq!(hex(&request.encode_to_vec()), *sample, "{request:?}");
        assert_eq!(Request::decode(bytes(sample).as_slice()).unwrap(), request);
    }
}

#[test]
fn replies_of_version_1_are_still_understood() {
    let samples: Vec<&str> = REPLIES_OF_VERSION_1.lines().collect();
    assert_eq!(samples.len(), replies().len());
    for (sample, reply) in samples.iter().zip(replies()) {
        let packet = Packet { id: 300, reply: Some(reply) };
        assert_eq!(hex(&packet.encode_to_vec()), *sample, "{packet:?}");
        assert_eq!(Packet::decode(bytes(sample).as_slice()).unwrap(), packet);
    }
}

#[test]
fn what_a_newer_peer_adds_is_skipped() {
    // Field 99 in a known call; and call 1000 alone.
    let known = Request { id: 1, call: Some(Call::KillExec(KillExec { container: "c".into(), exec: "e".into() })) };
    let mut newer = known.encode_to_vec();
    newer.extend(bytes("9a0603616263"));
    assert_eq!(Request::decode(newer.as_slice()).unwrap(), known);
    assert_eq!(Request::decode(bytes("0801c23e0161").as_slice()).unwrap(), Request { id: 1, call: None });
}

#[test]
fn every_call_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = calls().iter().map(Call::name).collect();
    assert_eq!(names.len(), calls().len());
}

proptest! {
    #[test]
    fn rubbish_is_an_error_and_no_panic(rubbish in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Request::decode(rubbish.as_slice());
        let _ = Packet::decode(rubbish.as_slice());
    }

    #[test]
    fn damaged_messages_are_an_error_or_another_message(index in 0usize..15, at in any::<prop::sample::Index>(), byte: u8) {
        let mut packet = Request { id: 300, call: calls().into_iter().nth(index) }.encode_to_vec();
        let at = at.index(packet.len());
        packet[at] = byte;
        if let Ok(request) = Request::decode(packet.as_slice()) {
            prop_assert!(Request::decode(request.encode_to_vec().as_slice()).is_ok());
        }
        let _ = Request::decode(&packet[..at]);
    }
}
