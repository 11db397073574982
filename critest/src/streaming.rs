//! A client of the streaming server made of bytes: for what no decent client sends, and for measuring without a client's own cost.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flate2::{Compress, Compression, FlushCompress};
use podwright_testutil::{TestHost, in_network_of};

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Bytes that are read at once when they are only counted.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a frame's header.
const HEADER_BYTES: usize = 8;

/// A connection to the streaming server.
#[derive(Debug)]
pub struct Raw {
    /// The connection itself.
    pub stream: TcpStream,
    deflater: Compress,
}

/// A server on the loopback of a process's pod, which says to each of its clients what it hears. Its port.
///
/// # Errors
/// The pod's network can not be entered.
pub fn echo_in_pod_of(pid: u32) -> Result<u16> {
    let server = in_network_of(pid, || TcpListener::bind("127.0.0.1:0").context("listening in the pod"))?;
    let port = server.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            std::thread::spawn(move || {
                let Ok(mut stream) = stream else { return };
                let mut heard = Vec::new();
                drop(stream.read_to_end(&mut heard));
                drop(stream.write_all(&heard));
            });
        }
    });
    Ok(port)
}

/// Host, port and path of a URL.
///
/// # Errors
/// It is no `http` URL.
pub fn parts(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no plain URL"))?;
    let slash = rest.find('/').context("a URL without a path")?;
    Ok(rest.split_at(slash))
}

impl Raw {
    /// Connects to a server of a host, by its address and port.
    ///
    /// # Errors
    /// It does not listen.
    pub fn connect(host: &TestHost, address: &str) -> Result<Self> {
        let stream = host.in_network(|| TcpStream::connect(address).context("connecting"))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, deflater: Compress::new(Compression::best(), true) })
    }

    /// Asks for SPDY and reads the answer's head.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn spdy(host: &TestHost, url: &str, protocol: &str) -> Result<Self> {
        let (address, path) = parts(url)?;
        let mut raw = Self::connect(host, address)?;
        let upgrade = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
        let named = format!("X-Stream-Protocol-Version: {protocol}\r\n");
        let head = raw.ask(&format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}{named}\r\n"))?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(raw)
    }

    /// Sends a request and reads the head of its answer; empty if the server hangs up.
    ///
    /// # Errors
    /// The answer does not come.
    pub fn ask(&mut self, request: &str) -> Result<String> {
        // It may hang up before all of it is sent.
        drop(self.stream.write_all(request.as_bytes()));
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => head.extend_from_slice(&byte),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error).context("reading an answer"),
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Sends a control frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn control(&mut self, kind: u16, payload: &[u8]) -> Result<()> {
        let mut frame = vec![0x80, 3];
        frame.extend_from_slice(&kind.to_be_bytes());
        frame.extend_from_slice(&u32::try_from(payload.len())?.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).context("sending a frame")
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Result<()> {
        let mut block = u32::try_from(headers.len())?.to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&u32::try_from(text.len())?.to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        let mut deflated = Vec::with_capacity(block.len() / 100 + 1024);
        self.deflater.compress_vec(&block, &mut deflated, FlushCompress::Sync)?;
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend_from_slice(&[0; 6]);
        payload.extend_from_slice(&deflated);
        self.control(1, &payload)
    }

    /// Sends data in a stream, and with `fin` its end.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn data(&mut self, stream: u32, fin: bool, payload: &[u8]) -> Result<()> {
        let mut frame = stream.to_be_bytes().to_vec();
        frame.extend_from_slice(&(u32::try_from(payload.len())? | u32::from(fin) << 24).to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).context("sending data")
    }

    /// The next frame: its first word, flags and payload.
    ///
    /// # Errors
    /// The connection ended.
    pub fn frame(&mut self) -> Result<(u32, u8, Vec<u8>)> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).context("reading a frame")?;
        let first = u32::from_be_bytes(word);
        self.stream.read_exact(&mut word).context("reading a frame's length")?;
        let [flags, length @ ..] = word;
        let [high, middle, low] = length;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, high, middle, low]))?];
        self.stream.read_exact(&mut payload).context("reading a frame's payload")?;
        Ok((first, flags, payload))
    }

    /// Reads a stream's data up to its end, and drops all else.
    ///
    /// # Errors
    /// The connection ended before.
    pub fn read_stream(&mut self, stream: u32) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let (first, flags, payload) = self.frame()?;
            if first == stream {
                all.extend_from_slice(&payload);
                if flags & 1 == 1 {
                    return Ok(all);
                }
            }
        }
    }

    /// Reads until `stream` has brought so many bytes of data, and drops all else. Reads in large pieces, so nothing else can be read
    /// from the connection afterwards.
    ///
    /// # Errors
    /// The stream or the connection ended before.
    pub fn count_stream(&mut self, stream: u32, wanted: usize) -> Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let (mut header, mut counted, mut payload) = (Vec::with_capacity(HEADER_BYTES), 0, 0);
        while counted < wanted {
            let length = self.stream.read(&mut buffer).context("reading a stream")?;
            ensure!(length > 0, "the connection ended after {counted} of {wanted} bytes");
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                if payload == 0 {
                    let (part, after) = rest.split_at(rest.len().min(HEADER_BYTES - header.len()));
                    header.extend_from_slice(part);
                    rest = after;
                    let Ok([a, b, c, d, flags, high, middle, low]) = <[u8; HEADER_BYTES]>::try_from(header.as_slice())
                    else {
                        continue;
                    };
                    header.clear();
                    payload = usize::try_from(u32::from_be_bytes([0, high, middle, low]))?;
                    if u32::from_be_bytes([a, b, c, d]) == stream {
                        counted += payload;
                        ensure!(
                            flags & 1 == 0 || counted >= wanted,
                            "the stream ended after {counted} of {wanted} bytes"
                        );
                    }
                } else {
                    let (part, after) = rest.split_at(rest.len().min(payload));
                    (payload, rest) = (payload - part.len(), after);
                }
            }
        }
        Ok(())
    }

    /// Whether the server ends the connection.
    pub fn is_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
