//! The streaming server: what the URLs of Exec, Attach and PortForward lead to. Speaks SPDY/3.1 and WebSocket on a TCP port of
//! the loopback; knows how streams become a session of the engine, and nothing of how sessions run.
//!
//! ```text
//! request ─> token ─> URL ··· client ─> server ─> upgrade ─┬─> spdy ──────────────┬─> command ─> session ─> engine
//!                                                          ├─> websocket ─> tunnel ┴─> forward ───────────> engine
//!                                                          └─> websocket ─────────────> session
//! ```

mod asked;
mod command;
mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshakes;
mod idle;
mod limits;
mod report;
mod server;
mod session;
mod shortcut;
mod size;
mod spdy;
mod stream;
mod token;
mod upgrade;
mod version;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

pub(crate) use asked::Asked;
pub use server::Server;
pub(crate) use token::NoToken;
use token::Tokens;

/// Gives the URLs out. Clones share everything.
#[derive(Clone)]
pub struct Streaming {
    tokens: Arc<Tokens>,
    address: SocketAddr,
}

impl Streaming {
    /// Takes the port; port 0 is any that is free. Also returns the server, which is to be started.
    ///
    /// # Errors
    /// Those of binding.
    pub async fn bind(address: SocketAddr) -> std::io::Result<(Self, Server)> {
        let listener = TcpListener::bind(address).await?;
        let (tokens, address) = (Arc::new(Tokens::default()), listener.local_addr()?);
        Ok((Self { tokens: Arc::clone(&tokens), address }, Server { listener, tokens }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL at which a request waits for its client.
    pub(crate) fn url(&self, asked: Asked) -> Result<String, NoToken> {
        let path = asked.path();
        Ok(format!("http://{}/{path}/{}", self.address, self.tokens.issue(asked)?))
    }
}
