//! Shims that misbehave: each must cost an error and nothing else.

use std::os::fd::OwnedFd;

use prost::Message;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::{
    ContainerEnd, Done, ExecStarted, Failure, FailureKind, MAX_PACKET_BYTES, Packet, PauseEnd, Placing, Request, socket,
};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A shim made of a closure: gives bytes for each request, until it gives none.
fn shim(answer: impl Fn(Request, &OwnedFd) -> Option<Vec<Vec<u8>>> + Send + 'static) -> OwnedFd {
    let (ours, theirs) = pair();
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            let mut set = [rustix::event::PollFd::new(&theirs, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut set, None).unwrap();
            let Ok((length @ 1.., fds)) = socket::receive(&theirs, &mut buffer) else { return };
            drop(fds);
            let request = Request::decode(&buffer[..length]).unwrap();
            let Some(packets) = answer(request, &theirs) else { return };
            for packet in packets {
                socket::send(&theirs, &packet, &[]).unwrap();
            }
        }
    });
    ours
}

fn packet(id: u64, reply: Reply) -> Vec<u8> {
    Packet { id, reply: Some(reply) }.encode_to_vec()
}

/// The packets for a call other than `Hello`.
fn polite(answer: impl Fn(u64, Call) -> Option<Vec<Vec<u8>>> + Send + 'static) -> OwnedFd {
    shim(move |request, _| match request.call {
        Some(Call::Hello(_)) => Some(vec![packet(request.id, Reply::Hello(HelloReply::default()))]),
        Some(call) => answer(request.id, call),
        None => None,
    })
}

#[tokio::test]
async fn a_kill_does_not_wait_behind_calls_that_hang() {
    let socket = polite(|id, call| match call {
        Call::KillExec(_) => Some(vec![packet(id, Reply::Done(Done {}))]),
        _ => Some(Vec::new()),
    });
    let (client, _events) = Client::over(socket).await.unwrap();
    let hanging: Vec<_> = (0..500)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.reopen_log("c").await })
        })
        .collect();
    // They take all places at their first turn.
    tokio::task::yield_now().await;
    let killed = tokio::time::timeout(QUICK_DEADLINE / 2, client.kill_exec("c", "e"));
    killed.await.expect("no place for a kill").unwrap();
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_failure_is_told_as_it_is() {
    let failure = Failure { errno: 2, ..Failure::new(FailureKind::NotFound, "signal", "c", "not here") };
    let told = failure.clone();
    let socket = polite(move |id, _| Some(vec![packet(id, Reply::Failure(told.clone()))]));
    let (client, _events) = Client::over(socket).await.unwrap();
    let error = client.signal_container("c", 9, false).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Some(FailureKind::NotFound), "signal c: not here".into()));
}

#[tokio::test]
async fn events_and_strange_packets_do_not_disturb_a_call() {
    let socket = polite(|id, _| {
        let end = ContainerEnd { container: "c".into(), end: None };
        Some(vec![
            packet(0, Reply::ContainerEnd(end)),
            packet(id + 1000, Reply::Done(Done {})),
            // A packet that only a newer build knows.
            vec![0x08, 0x05, 0xc2, 0x3e, 0x01, 0x61],
            packet(0, Reply::PauseEnd(PauseEnd {})),
            packet(id, Reply::Done(Done {})),
        ])
    });
    let (client, mut events) = Client::over(socket).await.unwrap();
    client.reopen_log("c").await.unwrap();
    assert!(matches!(events.recv().await, Some(Event::ContainerExited(end)) if end.container == "c"));
    assert_eq!(events.recv().await, Some(Event::PauseExited));
}

#[tokio::test]
async fn an_answer_of_another_kind_is_a_protocol_error() {
    let socket = polite(|id, _| Some(vec![packet(id, Reply::ExecStarted(ExecStarted { pid: 1 }))]));
    let (client, _events) = Client::over(socket).await.unwrap();
    assert!(matches!(client.close_stdin("c").await, Err(ClientError::Protocol { .. })));
    assert!(matches!(client.state().await, Err(ClientError::Protocol { .. })));
}

#[tokio::test]
async fn the_end_of_the_connection_ends_every_call() {
    let socket = polite(|_, call| match call {
        Call::Shutdown(_) => None,
        _ => Some(Vec::new()),
    });
    let (client, mut events) = Client::over(socket).await.unwrap();
    let waiting = client.clone();
    let call = tokio::spawn(async move { waiting.reopen_log("c").await });
    client.shutdown().await.unwrap();
    assert!(matches!(call.await.unwrap(), Err(ClientError::Gone { .. })));
    assert_eq!(events.recv().await, Some(Event::Gone));
    assert_eq!(events.recv().await, None);
    assert!(matches!(client.state().await, Err(ClientError::Gone { .. })));
}

#[tokio::test]
async fn rubbish_ends_the_connection_with_its_reason() {
    let socket = polite(|_, _| Some(vec![b"\xff\xff\xff\xff".to_vec()]));
    let (client, mut events) = Client::over(socket).await.unwrap();
    let error = client.reopen_log("c").await.unwrap_err();
    assert!(error.to_string().contains("unreadable packet"), "{error}");
    assert_eq!(events.recv().await, Some(Event::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_silent_shim_costs_the_deadline_only() {
    let (ours, _theirs) = pair();
    assert!(matches!(Client::over(ours).await, Err(ClientError::TimedOut { .. })));
}

#[tokio::test]
async fn a_waiting_process_is_placed_and_released() {
    let started = std::sync::Arc::new(std::sync::Mutex::new(0));
    let socket = polite(move |id, call| match call {
        Call::StartContainer(_) => {
            *started.lock().unwrap() = id;
            Some(vec![packet(id, Reply::Placing(Placing { pid: 42 }))])
        }
        Call::Release(release) => {
            assert_eq!((release.container.as_str(), release.error.as_str()), ("c", ""));
            let start = *started.lock().unwrap();
            let begun = Started { pid: 42, ..Started::default() };
            Some(vec![packet(start, Reply::Started(begun)), packet(id, Reply::Done(Done {}))])
        }
        _ => None,
    });
    let (client, _events) = Client::over(socket).await.unwrap();
    let request = StartContainer { container: "c".into(), ..StartContainer::default() };
    let place = |pid| async move { if pid == 42 { Ok(()) } else { Err("another pid".to_owned()) } };
    assert_eq!(client.start_container(request, "{}", place).await.unwrap().pid, 42);
}
