//! What the shim's loop and a log writer say to each other: one packet each, over a `SOCK_SEQPACKET` pair.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podwright_shim_api::socket;

/// Longest report.
const MAX_REPORT_BYTES: usize = 512;
const HAS_STDIN: u8 = 1;
const HAS_STDOUT: u8 = 2;
const HAS_STDERR: u8 = 4;

/// The streams of a client that attaches.
#[derive(Debug, Default)]
pub(crate) struct ClientFds {
    /// Read end for stdin.
    pub(crate) stdin: Option<OwnedFd>,
    /// Write end for stdout.
    pub(crate) stdout: Option<OwnedFd>,
    /// Write end for stderr.
    pub(crate) stderr: Option<OwnedFd>,
}

impl ClientFds {
    /// Takes descriptors off a message, in the order stdin, stdout, stderr.
    pub(crate) fn take(present: [bool; 3], fds: impl IntoIterator<Item = OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let mut next = |present: bool| if present { fds.next().map(Some) } else { Some(None) };
        let [stdin, stdout, stderr] = present;
        Some(Self { stdin: next(stdin)?, stdout: next(stdout)?, stderr: next(stderr)? })
    }
}

/// What the shim tells a writer.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open the log anew; answered.
    Reopen,
    /// The terminal that was planned: its master.
    Terminal(OwnedFd),
    /// Serve a client.
    Attach(ClientFds),
    /// Close the container's stdin.
    CloseStdin,
    /// Nobody will write any more, even if the streams stay open: take what is there and end.
    Finish,
}

/// What a writer answers: to its start, and to [`Order::Reopen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Error number; 0 for success, or where the text alone tells.
    pub(crate) errno: i32,
    /// Why it failed; empty for success.
    pub(crate) text: String,
}

impl Report {
    /// A report of how something went.
    pub(crate) fn of(result: &io::Result<()>) -> Self {
        match result {
            Ok(()) => Self { errno: 0, text: String::new() },
            Err(error) => Self { errno: error.raw_os_error().unwrap_or(0), text: error.to_string() },
        }
    }

    /// Sends it to the shim; if the shim is gone, nobody needs it.
    pub(super) fn send(&self, control: impl AsFd) {
        let mut packet = self.errno.to_le_bytes().to_vec();
        packet.extend_from_slice(self.text.as_bytes());
        packet.truncate(MAX_REPORT_BYTES);
        let _ = socket::send(control, &packet, &[]);
    }

    /// Receives one; `None` when the writer is gone.
    pub(crate) fn receive(control: impl AsFd) -> io::Result<Option<Self>> {
        let mut buffer = [0; MAX_REPORT_BYTES];
        let (length, _) = socket::receive(control, &mut buffer)?;
        let Some((errno, text)) = buffer.get(..length).and_then(<[u8]>::split_first_chunk) else { return Ok(None) };
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(Some(Self { errno: i32::from_le_bytes(*errno), text }))
    }
}

impl Order {
    /// Sends it to a writer.
    pub(crate) fn send(&self, control: impl AsFd) -> io::Result<()> {
        let (packet, fds) = match self {
            Self::Reopen => ([b'R', 0], Vec::new()),
            Self::CloseStdin => ([b'C', 0], Vec::new()),
            Self::Finish => ([b'F', 0], Vec::new()),
            Self::Terminal(master) => ([b'T', 0], vec![master.as_fd()]),
            Self::Attach(client) => {
                let parts = [(&client.stdin, HAS_STDIN), (&client.stdout, HAS_STDOUT), (&client.stderr, HAS_STDERR)];
                let flags = parts.iter().filter(|(fd, _)| fd.is_some()).fold(0, |flags, (_, flag)| flags | flag);
                ([b'A', flags], parts.into_iter().filter_map(|(fd, _)| fd.as_ref().map(AsFd::as_fd)).collect())
            }
        };
        let fds: Vec<BorrowedFd<'_>> = fds;
        socket::send(control, &packet, &fds)
    }

    /// Receives one; `None` when the shim is gone, or said something unknown.
    pub(super) fn receive(control: impl AsFd) -> io::Result<Option<Self>> {
        let mut buffer = [0; 2];
        let (length, fds) = socket::receive(control, &mut buffer)?;
        Ok(match (length, buffer) {
            (2, [b'R', _]) => Some(Self::Reopen),
            (2, [b'C', _]) => Some(Self::CloseStdin),
            (2, [b'F', _]) => Some(Self::Finish),
            (2, [b'T', _]) => fds.into_iter().next().map(Self::Terminal),
            (2, [b'A', flags]) => {
                let present = [HAS_STDIN, HAS_STDOUT, HAS_STDERR].map(|flag| flags & flag != 0);
                ClientFds::take(present, fds).map(Self::Attach)
            }
            _ => None,
        })
    }
}
