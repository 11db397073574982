//! A web server that misbehaves as a test says: for registries that hang, lie or break off.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// What one request is answered with.
#[derive(Debug, Clone)]
pub enum RawReply {
    /// These bytes, status line and headers included; then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes, and then silence until the client goes away.
    Hang(Vec<u8>),
}

impl RawReply {
    /// An honest reply.
    #[must_use]
    pub fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self::Bytes([head.as_bytes(), body].concat())
    }
}

type Script = dyn Fn(&str) -> RawReply + Send + Sync;

/// A server whose answers are a function of the request line. It ends with this value.
pub struct RawServer {
    address: String,
    ended: Arc<AtomicBool>,
}

impl RawServer {
    /// Serves on a listening socket; see `TestHost::listen`. The script is given the path and query of each request.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn start(listener: TcpListener, script: impl Fn(&str) -> RawReply + Send + Sync + 'static) -> Result<Self> {
        let address = listener.local_addr().context("reading the address of a listening socket")?.to_string();
        listener.set_nonblocking(false).context("making a listening socket block")?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            // The listener wakes up at the latest with the next connection; the thread ends with the test's process otherwise.
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let script = Arc::clone(&script);
                thread::spawn(move || answer(stream, &*script));
            }
        });
        Ok(Self { address, ended })
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// A client that goes away in the middle is no failure.
fn answer(mut stream: TcpStream, script: &Script) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    match script(first.split(' ').nth(1)?) {
        RawReply::Bytes(bytes) => stream.write_all(&bytes).ok(),
        RawReply::Hang(bytes) => {
            stream.write_all(&bytes).ok()?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok().map(|_| ())
        }
    }
}
