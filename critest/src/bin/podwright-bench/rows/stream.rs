//! Attach and port-forward: bytes in a second through the streaming server, with one SPDY client for all, as kubectl and crictl speak.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use podwright_cri_api::v1::{AttachRequest, PortForwardRequest};
use podwright_critest::shell;
use podwright_critest::streaming::Raw;
use podwright_testutil::in_network_of;

use super::Bench;
use crate::contender::Contender;
use crate::report::{Better, Row};
use crate::sample::number;

const ATTACH_INPUT: &str = "attach, into a container";
const ATTACH_OUTPUT: &str = "attach, out of a container";
const FORWARD_INTO: &str = "port-forward, into a pod";
const FORWARD_OUT: &str = "port-forward, out of a pod";

/// Bytes of one transfer.
const BYTES: usize = 256 << 20;
/// Bytes of one transfer out of a container: each goes to its log, too.
const LOGGED_BYTES: usize = 64 << 20;
const BYTES_PER_MIB: f64 = 1_048_576.0;
/// Bytes of a piece that the client sends.
const PIECE_BYTES: usize = 32 << 10;
/// Bytes of a piece that a container takes.
const SINK_BYTES: usize = 64 << 10;
/// Bytes under way in an attach at once: a client that is far behind a log may be cut off.
const UNDER_WAY_BYTES: usize = 128 << 10;
const LINE_BYTES: usize = 128;
/// Transfers of each kind.
const ROUNDS: usize = 3;
/// The client's streams, as it numbers them.
const ERROR: u32 = 1;
const FIRST: u32 = 3;
const SECOND: u32 = 5;

#[derive(Clone, Copy)]
enum Way {
    AttachInput,
    AttachOutput,
    ForwardInto,
    ForwardOut,
}

const WAYS: [(&str, Way); 4] = [
    (ATTACH_INPUT, Way::AttachInput),
    (ATTACH_OUTPUT, Way::AttachOutput),
    (FORWARD_INTO, Way::ForwardInto),
    (FORWARD_OUT, Way::ForwardOut),
];

pub(super) async fn measure(bench: &mut Bench) {
    for (name, way) in WAYS {
        if !bench.wants(&[name]) {
            continue;
        }
        let mut part = bench.part(name);
        let mut row = bench.lanes();
        for round in 0..ROUNDS {
            for (index, contender) in bench.contenders.iter_mut().enumerate() {
                if let Some(rate) = part.step(index, transfer(contender, way, round)).await {
                    row.push_value(index, rate);
                }
            }
        }
        part.tidy(&mut bench.contenders).await;
        bench.add(Row::new(name, "MiB/s", Better::More, row.after(&part)).times(2.0));
    }
}

/// A script that takes all bytes and says so. (busybox's `head -c` reads single bytes, which would be what is measured.)
fn sink() -> String {
    let count = BYTES / SINK_BYTES;
    format!("dd of=/dev/null bs={SINK_BYTES} count={count} iflag=fullblock 2>/dev/null; echo done; exec sleep 100000")
}

/// MiB in a second.
async fn transfer(contender: &mut Contender, way: Way, round: usize) -> Result<f64> {
    let (word, script) = match way {
        Way::AttachInput => ("into", sink()),
        Way::AttachOutput => ("out", "exec cat".to_owned()),
        Way::ForwardInto => ("forward-into", "exec sleep 100000".to_owned()),
        Way::ForwardOut => ("forward-out", "exec sleep 100000".to_owned()),
    };
    let pod = contender.cri.run_pod_named(&format!("stream-{word}-{round}")).await?;
    let mut config = shell("main", &contender.image, &script);
    config.stdin = true;
    let id = contender.cri.run(&pod, &config).await?;
    let (bytes, took) = match way {
        Way::AttachInput | Way::AttachOutput => attach(contender, &id, way).await?,
        Way::ForwardInto | Way::ForwardOut => forward(contender, &pod.id, &id, way).await?,
    };
    contender.cri.remove_pod(&pod.id).await?;
    Ok(number(bytes) / BYTES_PER_MIB / took.as_secs_f64())
}

async fn attach(contender: &mut Contender, id: &str, way: Way) -> Result<(usize, Duration)> {
    let request = AttachRequest { container_id: id.into(), stdin: true, stdout: true, stderr: false, tty: false };
    let url = contender.cri.runtime.attach(request).await.context("Attach")?.into_inner().url;
    let mut raw = Raw::spdy(contender.host(), &url, "v4.channel.k8s.io")?;
    for (stream, kind) in [(ERROR, "error"), (FIRST, "stdin"), (SECOND, "stdout")] {
        raw.open(stream, &[("streamtype", kind)])?;
    }
    blocking(move || match way {
        Way::AttachOutput => echo(raw),
        Way::AttachInput | Way::ForwardInto | Way::ForwardOut => feed(raw),
    })
    .await
}

/// Feeds a container that says when it has all.
fn feed(mut raw: Raw) -> Result<(usize, Duration)> {
    let start = Instant::now();
    send(&mut raw, FIRST, BYTES)?;
    raw.count_stream(SECOND, "done\n".len())?;
    Ok((BYTES, start.elapsed()))
}

/// Feeds a container that says what it hears, never far ahead of what came back.
fn echo(mut raw: Raw) -> Result<(usize, Duration)> {
    let mut line = vec![b'x'; LINE_BYTES - 1];
    line.push(b'\n');
    let piece = line.repeat(UNDER_WAY_BYTES / 2 / LINE_BYTES);
    let start = Instant::now();
    raw.data(FIRST, false, &piece)?;
    let mut received = 0;
    // What comes more than was asked for belongs to the next piece.
    for sent in 1..LOGGED_BYTES / piece.len() {
        raw.data(FIRST, false, &piece)?;
        while received < sent * piece.len() {
            received += data_of(&mut raw, SECOND)?;
        }
    }
    while received < LOGGED_BYTES {
        received += data_of(&mut raw, SECOND)?;
    }
    Ok((LOGGED_BYTES, start.elapsed()))
}

/// Bytes of the next frame, if it is one of this stream.
fn data_of(raw: &mut Raw, stream: u32) -> Result<usize> {
    let (first, flags, payload) = raw.frame()?;
    ensure!(first != stream || flags & 1 == 0, "the stream ended early");
    Ok(if first == stream { payload.len() } else { 0 })
}

fn send(raw: &mut Raw, stream: u32, bytes: usize) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 8);
    piece.extend_from_slice(&stream.to_be_bytes());
    piece.extend_from_slice(&u32::try_from(PIECE_BYTES)?.to_be_bytes());
    piece.resize(PIECE_BYTES + 8, b'x');
    for _ in 0..bytes / PIECE_BYTES {
        raw.stream.write_all(&piece).context("sending data")?;
    }
    Ok(())
}

async fn forward(contender: &mut Contender, pod: &str, id: &str, way: Way) -> Result<(usize, Duration)> {
    let pid = contender.cri.pid(id).await?;
    let server = in_network_of(pid, || TcpListener::bind("127.0.0.1:0").context("listening in the pod"))?;
    let port = server.local_addr()?.port();
    let request = PortForwardRequest { pod_sandbox_id: pod.into(), port: vec![i32::from(port)] };
    let url = contender.cri.runtime.port_forward(request).await.context("PortForward")?.into_inner().url;
    let mut raw = Raw::spdy(contender.host(), &url, "portforward.k8s.io")?;
    let port = port.to_string();
    for (stream, kind) in [(ERROR, "error"), (FIRST, "data")] {
        raw.open(stream, &[("streamtype", kind), ("port", &port), ("requestid", "0")])?;
    }
    blocking(move || {
        let outwards = matches!(way, Way::ForwardOut);
        let inside = thread::spawn(move || serve(&server, outwards));
        let start = Instant::now();
        match outwards {
            true => raw.count_stream(FIRST, BYTES)?,
            false => {
                send(&mut raw, FIRST, BYTES)?;
                raw.count_stream(FIRST, 1)?;
            }
        }
        let took = start.elapsed();
        drop(raw);
        inside.join().map_err(|_| anyhow!("the server in the pod panicked"))??;
        Ok((BYTES, took))
    })
    .await
}

/// Serves one client: sends it all, or takes all and answers with one byte.
fn serve(server: &TcpListener, outwards: bool) -> Result<()> {
    let (mut stream, _) = server.accept().context("waiting for what is forwarded")?;
    let mut piece = vec![b'x'; PIECE_BYTES];
    if outwards {
        for _ in 0..BYTES / PIECE_BYTES {
            stream.write_all(&piece).context("sending in the pod")?;
        }
        return Ok(());
    }
    let mut received = 0;
    while received < BYTES {
        let length = stream.read(&mut piece).context("receiving in the pod")?;
        ensure!(length > 0, "what is forwarded ended after {received} bytes");
        received += length;
    }
    stream.write_all(b".").context("answering in the pod")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("transferring")?
}
