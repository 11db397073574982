//! Talk with a kubelet's servers: plain, and through TLS by Debian's openssl. WebSocket as kubectl speaks it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use podwright_critest::streaming::{Raw, parts};
use podwright_testutil::TestHost;

/// Longest wait for a piece of an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Where kubelets listen with TLS.
const SECURE: &str = "127.0.0.1:10250";

/// Asks for a path and returns the body of a good answer.
pub(crate) fn get(host: &TestHost, address: &str, path: &str) -> Result<String> {
    let mut stream =
        host.in_network(|| TcpStream::connect(address).with_context(|| format!("connecting to {address}")))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    ensure!(head.split_whitespace().nth(1) == Some("200"), "GET {path}: {answer}");
    Ok(body.to_owned())
}

/// A plain port of the host whose connections lead to the kubelet's port with TLS. Its address.
pub(crate) fn without_tls(host: &TestHost) -> Result<String> {
    let server = host.listen("127.0.0.1:0")?;
    let address = server.local_addr()?.to_string();
    let mut client = host.command("openssl");
    client.args(["s_client", "-quiet", "-connect", SECURE]);
    std::thread::spawn(move || serve(&server, client));
    Ok(address)
}

fn serve(server: &TcpListener, mut client: std::process::Command) {
    for stream in server.incoming().flatten() {
        let Ok(second) = stream.try_clone() else { return };
        client.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(second)).stderr(Stdio::null());
        let Ok(mut child) = client.spawn() else { return };
        // The command keeps what it was given; a connection must end with its process.
        client.stdin(Stdio::null()).stdout(Stdio::null());
        std::thread::spawn(move || child.wait());
    }
}

/// A WebSocket session.
pub(crate) struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Opens one with Kubernetes' newest protocol.
    pub(crate) fn open(host: &TestHost, url: &str) -> Result<Self> {
        let (address, path) = parts(url)?;
        let mut raw = Raw::connect(host, address)?;
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        let key = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
        let head = raw.ask(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}{key}\r\n"))?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(Self { stream: raw.stream })
    }

    /// Sends bytes on a channel. A mask of zeros leaves them as they are.
    pub(crate) fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let length = u8::try_from(bytes.len() + 1).ok().filter(|length| *length < 126).context("a short message")?;
        self.stream.write_all(&[&[0x82, 0x80 | length, 0, 0, 0, 0, channel], bytes].concat()).context("sending")
    }

    /// Says that nothing more comes on a channel.
    pub(crate) fn end(&mut self, channel: u8) -> Result<()> {
        self.send(255, &[channel])
    }

    /// The next message: its channel and its bytes; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).context("reading a message")?;
            let length = match head[1] & 0x7f {
                126 => {
                    let mut long = [0; 2];
                    self.stream.read_exact(&mut long)?;
                    usize::from(u16::from_be_bytes(long))
                }
                127 => bail!("an unexpectedly long message"),
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload)?;
            match (head[0] & 0xf, payload.split_first()) {
                (8, _) => return Ok(None),
                (1 | 2, Some((channel, bytes))) => return Ok(Some((*channel, bytes.to_vec()))),
                _ => {}
            }
        }
    }

    /// All that comes on a channel up to the end, and the status on channel 3.
    pub(crate) fn read(&mut self, channel: u8) -> Result<(String, String)> {
        let (mut wanted, mut status) = (Vec::new(), Vec::new());
        while let Some((from, bytes)) = self.next()? {
            if from == channel {
                wanted.extend(bytes);
            } else if from == 3 {
                status.extend(bytes);
                break;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Both);
        Ok((String::from_utf8(wanted)?, String::from_utf8(status)?))
    }
}
