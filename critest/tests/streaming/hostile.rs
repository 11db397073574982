//! Clients that mean no good: an error for that one request, and nothing left behind.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use podwright_critest::{World, shell, with_world};

use podwright_critest::streaming::{Raw, echo_in_pod_of, parts};

/// Time for what is about to happen.
const SOON: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Attaches that are broken off.
const ABORTED: usize = 10_000;
/// Descriptors that may come and go while one looks.
const SLACK: usize = 8;

async fn exec_url(world: &mut World, id: &str, command: &[&str]) -> Result<String> {
    let cmd = command.iter().map(|word| (*word).to_owned()).collect();
    let request = ExecRequest { container_id: id.into(), cmd, stdin: true, stdout: true, stderr: true, tty: false };
    Ok(world.runtime.exec(request).await?.into_inner().url)
}

async fn attach_url(world: &mut World, id: &str) -> Result<String> {
    let request = AttachRequest { container_id: id.into(), stdin: true, stdout: true, stderr: true, tty: false };
    Ok(world.runtime.attach(request).await?.into_inner().url)
}

async fn forward_url(world: &mut World, pod: &str) -> Result<String> {
    let request = PortForwardRequest { pod_sandbox_id: pod.into(), port: vec![] };
    Ok(world.runtime.port_forward(request).await?.into_inner().url)
}

/// Opens what an exec with stdin, stdout and stderr has: 1 error, 3 stdin, 5 stdout, 7 stderr.
fn open_all(raw: &mut Raw) -> Result<()> {
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        raw.open(stream, &[("streamtype", kind)])?;
    }
    Ok(())
}

/// Descriptors of the daemon, and of the shims of its host with their writers.
fn descriptors(world: &World) -> Result<(usize, usize)> {
    let count = |pid: &str| std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0);
    let daemon = count(&world.daemon.pid().context("the daemon is gone")?.to_string());
    // A shim is told the sandbox, and its children have its command line.
    let sockets = std::fs::read_dir(world.daemon.path("state/shims"))?;
    let ids: Vec<String> =
        sockets.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".sock")?.to_owned())).collect();
    let (mut shims, mut seen) = (0, 0);
    for entry in std::fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_string_lossy().into_owned();
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains("podwright-shim") && ids.iter().any(|id| command.contains(id.as_str())) {
            shims += count(&pid);
            seen += 1;
        }
    }
    ensure!(seen >= ids.len(), "{} sockets of shims, and {seen} processes", ids.len());
    Ok((daemon, shims))
}

/// Waits until no more descriptors are held than before.
async fn back_to(world: &World, before: (usize, usize)) -> Result<()> {
    let end = Instant::now() + SOON;
    loop {
        let now = descriptors(world)?;
        if now.0 <= before.0 + SLACK && now.1 <= before.1 + SLACK {
            return Ok(());
        }
        ensure!(Instant::now() < end, "descriptors of daemon and shims: {before:?} before, {now:?} after");
        tokio::time::sleep(LOOK).await;
    }
}

/// The head of the answer to a plain GET.
fn status(world: &World, address: &str, path: &str) -> Result<String> {
    Raw::connect(world.daemon.host(), address)?.ask(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

#[test]
fn root_tokens_are_good_once_and_for_what_they_were_given() {
    with_world(async |world| {
        let pod = world.run_pod_named("tokens").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let url = exec_url(world, &id, &["true"]).await?;
        let (address, path) = parts(&url)?;
        for unknown in ["/", "/exec/", "/exec/0123456789abcdef", "/nothing/x", "/exec/x/y", "/exec/..%2f..", "//"] {
            let head = status(world, address, unknown)?;
            ensure!(head.starts_with("HTTP/1.1 404 "), "{unknown}: {head}");
        }
        // Used up by a request that asks for no upgrade, too.
        ensure!(status(world, address, path)?.starts_with("HTTP/1.1 400 "), "the token is known");
        ensure!(status(world, address, path)?.starts_with("HTTP/1.1 404 "), "once");

        let url = exec_url(world, &id, &["true"]).await?;
        let elsewhere = parts(&url)?.1.replace("/exec/", "/attach/");
        ensure!(status(world, address, &elsewhere)?.starts_with("HTTP/1.1 404 "), "not for an attach");
        let delete = format!("DELETE {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        ensure!(Raw::connect(world.daemon.host(), address)?.ask(&delete)?.starts_with("HTTP/1.1 405 "), "no DELETE");
        Ok(())
    });
}

#[test]
fn root_the_thousand_and_first_token_is_refused() {
    with_world(async |world| {
        let pod = world.run_pod_named("many").await?;
        for _ in 0..1000 {
            forward_url(world, &pod.id).await?;
        }
        let request = PortForwardRequest { pod_sandbox_id: pod.id.clone(), port: vec![] };
        let refused = world.runtime.port_forward(request).await.err().context("one too many")?;
        ensure!(refused.code() == tonic::Code::ResourceExhausted, "{refused}");
        Ok(())
    });
}

#[test]
fn root_rubbish_ends_its_own_connection_only() {
    with_world(async |world| {
        let pod = world.run_pod_named("rubbish").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let good = exec_url(world, &id, &["cat"]).await?;
        let mut good = Raw::spdy(world.daemon.host(), &good, "v4.channel.k8s.io")?;
        open_all(&mut good)?;
        let before = descriptors(world)?;

        // Headers without end, and too many.
        let url = exec_url(world, &id, &["true"]).await?;
        let (address, path) = parts(&url)?;
        let long = format!("GET {path} HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        let head = Raw::connect(world.daemon.host(), address)?.ask(&long)?;
        ensure!(head.is_empty() || head.starts_with("HTTP/1.1 4"), "{head}");
        let many = format!("GET {path} HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
        let head = Raw::connect(world.daemon.host(), address)?.ask(&many)?;
        ensure!(head.is_empty() || head.starts_with("HTTP/1.1 4"), "{head}");
        let head = Raw::connect(world.daemon.host(), address)?.ask("\0\0\0\0\r\n\r\n")?;
        ensure!(head.is_empty() || head.starts_with("HTTP/1.1 400 "), "{head}");

        // Frames that are none.
        for rubbish in [&b"\x80\x02\x00\x01\x00\x00\x00\x00"[..], b"\x80\x03\x00\x01\x01\x00\x00\x00", &[0; 64]] {
            let url = exec_url(world, &id, &["true"]).await?;
            let mut raw = Raw::spdy(world.daemon.host(), &url, "v4.channel.k8s.io")?;
            raw.stream.write_all(rubbish)?;
            ensure!(raw.is_ended(), "{rubbish:?}");
        }
        // A header bomb.
        let url = exec_url(world, &id, &["true"]).await?;
        let mut raw = Raw::spdy(world.daemon.host(), &url, "v4.channel.k8s.io")?;
        raw.open(1, &[("a", &"x".repeat(8 << 20))])?;
        ensure!(raw.is_ended(), "a bomb");

        good.data(3, true, b"still here")?;
        ensure!(good.read_stream(5)? == b"still here", "another session went on");
        drop(good);
        back_to(world, before).await
    });
}

#[test]
fn root_a_port_that_nobody_listens_on_is_an_error_of_that_connection() {
    with_world(async |world| {
        let pod = world.run_pod_named("closed").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let port = echo_in_pod_of(world.pid(&id).await?)?.to_string();
        let url = forward_url(world, &pod.id).await?;
        let mut raw = Raw::spdy(world.daemon.host(), &url, "portforward.k8s.io")?;
        for (stream, kind) in [(1, "error"), (3, "data")] {
            raw.open(stream, &[("streamtype", kind), ("port", "9"), ("requestid", "0")])?;
        }
        let error = String::from_utf8(raw.read_stream(1)?)?;
        ensure!(error.contains('9') && error.contains("refused"), "{error:?}");
        // The connection goes on.
        for (stream, kind) in [(5, "error"), (7, "data")] {
            raw.open(stream, &[("streamtype", kind), ("port", &port), ("requestid", "1")])?;
        }
        raw.data(5, true, b"")?;
        raw.data(7, true, b"hi")?;
        ensure!(raw.read_stream(7)? == b"hi", "what the pod says");
        Ok(())
    });
}

#[test]
fn root_hundreds_of_connections_are_forwarded_at_once() {
    const CONNECTIONS: u32 = 300;
    with_world(async |world| {
        let pod = world.run_pod_named("hundreds").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let port = echo_in_pod_of(world.pid(&id).await?)?.to_string();
        let before = descriptors(world)?;
        let url = forward_url(world, &pod.id).await?;
        let mut raw = Raw::spdy(world.daemon.host(), &url, "portforward.k8s.io")?;
        for request in 0..CONNECTIONS {
            let id = request.to_string();
            for (stream, kind) in [(4 * request + 1, "error"), (4 * request + 3, "data")] {
                raw.open(stream, &[("streamtype", kind), ("port", &port), ("requestid", &id)])?;
            }
            raw.data(4 * request + 1, true, b"")?;
        }
        // All are open; now each speaks and ends its half, and hears the echo.
        for request in 0..CONNECTIONS {
            raw.data(4 * request + 3, true, format!("I am {request}").as_bytes())?;
        }
        let mut echoes = std::collections::BTreeMap::<u32, (Vec<u8>, bool)>::new();
        while echoes.values().filter(|(_, ended)| *ended).count() < CONNECTIONS as usize {
            let (first, flags, payload) = raw.frame()?;
            if first & 0x8000_0000 == 0 && first % 4 == 3 {
                let (bytes, ended) = echoes.entry((first - 3) / 4).or_default();
                bytes.extend_from_slice(&payload);
                *ended |= flags & 1 == 1;
            }
        }
        for (request, (bytes, _)) in echoes {
            ensure!(bytes == format!("I am {request}").into_bytes(), "{request}: {bytes:?}");
        }
        drop(raw);
        back_to(world, before).await
    });
}

#[test]
fn root_a_client_that_reads_nothing_holds_up_nobody_else() {
    with_world(async |world| {
        let pod = world.run_pod_named("slow").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let before = descriptors(world)?;
        let url = exec_url(world, &id, &["cat", "/dev/zero"]).await?;
        let mut slow = Raw::spdy(world.daemon.host(), &url, "v4.channel.k8s.io")?;
        open_all(&mut slow)?;
        // It sends without reading, too, until its network buffers are full.
        slow.stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        while slow.data(3, false, &[0; 16 << 10]).is_ok() {}
        for _ in 0..5 {
            ensure!(world.sh(&id, "echo ok").await? == "ok", "others are served");
        }
        let url = exec_url(world, &id, &["echo", "hi"]).await?;
        let mut other = Raw::spdy(world.daemon.host(), &url, "v9.channel.k8s.io, channel.k8s.io")?;
        open_all(&mut other)?;
        ensure!(other.read_stream(5)? == b"hi\n", "another session");
        drop((slow, other));
        back_to(world, before).await
    });
}

#[test]
fn root_a_forwarded_connection_ends_with_its_pod() {
    with_world(async |world| {
        let pod = world.run_pod_named("forwarded").await?;
        let image = world.image.clone();
        let serve = "mkdir -p /www; httpd -p 80 -h /www && echo up; sleep 1000";
        world.run(&pod, &shell("main", &image, serve)).await?;
        world.wait_for_log(&pod, "main", "up").await?;
        let url = forward_url(world, &pod.id).await?;
        let mut raw = Raw::spdy(world.daemon.host(), &url, "portforward.k8s.io")?;
        for (stream, kind) in [(1, "error"), (3, "data")] {
            raw.open(stream, &[("streamtype", kind), ("port", "80"), ("requestid", "0")])?;
        }
        raw.data(3, false, b"GET / HTTP/1.0\r\n\r\n")?;
        while raw.frame()?.0 != 3 {}
        // The client keeps its half open. That must not keep a socket in the pod's namespace, and so the namespace.
        world.remove_pod(&pod.id).await?;
        ensure!(raw.read_stream(1)? == b"", "the end is no error of the connection");
        Ok(())
    });
}

/// Breaks attaches off, at every stage of their life.
async fn abort_attaches(world: &mut World, count: usize) -> Result<()> {
    let pod = world.run_pod_named("aborted").await?;
    let mut config = shell("main", &world.image, "while read line; do echo $line; done; sleep 1000");
    config.stdin = true;
    let id = world.run(&pod, &config).await?;
    let abort = async |world: &mut World, stage: usize| {
        let url = attach_url(world, &id).await?;
        if stage == 0 {
            return Raw::connect(world.daemon.host(), parts(&url)?.0).map(drop);
        }
        let mut raw = Raw::spdy(world.daemon.host(), &url, "v4.channel.k8s.io")?;
        match stage {
            1 => Ok(()),
            2 => raw.open(1, &[("streamtype", "error")]),
            3 => open_all(&mut raw),
            _ => {
                open_all(&mut raw)?;
                raw.data(3, false, b"x\n")?;
                raw.frame().map(drop)
            }
        }
    };
    for stage in 0..5 {
        abort(world, stage).await?;
    }
    tokio::time::sleep(LOOK).await;
    let before = descriptors(world)?;
    for number in 0..count {
        // Tokens that are not used expire only after a minute.
        abort(world, if number % 100 == 0 { 0 } else { 1 + number % 4 }).await?;
    }
    back_to(world, before).await?;
    ensure!(world.sh(&id, "echo ok").await? == "ok", "the container runs");
    Ok(())
}

#[test]
fn root_ten_thousand_aborted_attaches_leave_nothing() {
    with_world(async |world| abort_attaches(world, ABORTED).await);
}
