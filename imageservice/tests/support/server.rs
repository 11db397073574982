//! A small web server whose script sees method, path and headers. A mock: it stands for registries that misbehave.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// With names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
pub enum Answer {
    /// These bytes and the end.
    Bytes(Vec<u8>),
    /// These bytes and silence.
    Hang(Vec<u8>),
    /// These bytes, then a byte of the rest now and then, for ever.
    Trickle(Vec<u8>),
    /// These bytes and a reset of the connection.
    Reset(Vec<u8>),
}

/// An honest answer.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    Answer::Bytes([head(status, headers, body.len()).as_slice(), body].concat())
}

/// The head of an answer with a length of choice.
pub fn head(status: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// It ends with this value.
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let ended = Arc::new(AtomicBool::new(false));
        let (script, log, end): (Arc<Script>, _, _) = (Arc::new(script), Arc::clone(&asked), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*script, &log));
            }
        });
        Self { address, asked, ended }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked { method, path, headers, body };
    log.lock().unwrap().push(asked.clone());
    match script(&asked) {
        Answer::Bytes(bytes) => stream.write_all(&bytes).ok(),
        Answer::Hang(bytes) => {
            stream.write_all(&bytes).ok()?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok().map(|_| ())
        }
        Answer::Trickle(bytes) => {
            stream.write_all(&bytes).ok()?;
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            None
        }
        Answer::Reset(bytes) => {
            stream.write_all(&bytes).ok()?;
            stream.shutdown(std::net::Shutdown::Both).ok()
        }
    }
}
