//! Connections to the loopback of a network namespace. A socket keeps the namespace it was made in, so only its making
//! needs a thread that enters there; connecting and waiting is done where everything else is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use podwright_podsandbox::ports::PortError;
use podwright_sys::CapabilitySet;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Where programs listen that listen on loopback only, in the order of trying.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Threads that make sockets in pods at a time, for all forwarded connections. Each needs a moment.
const MAX_DIALERS: usize = 16;
static PLACES: Semaphore = Semaphore::const_new(MAX_DIALERS);

/// Connects by IPv4, then by IPv6; what both said is told.
pub(super) async fn connect(netns: Option<OwnedFd>, port: u16) -> Result<TcpStream, PortError> {
    let sockets = sockets(netns).await.map_err(|e| PortError::Failed(format!("make a socket in the pod: {e}")))?;
    let mut causes = Vec::new();
    for (socket, ip) in sockets.into_iter().zip(LOOPBACKS) {
        let address = SocketAddr::new(ip, port);
        let connected = match socket {
            Ok(socket) => socket.connect(address).await,
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => causes.push(format!("{address}: {error}")),
        }
    }
    let hint = "nothing listens on that port in the pod; start the server, or choose another port";
    Err(PortError::Unavailable(format!("{hint} ({})", causes.join("; "))))
}

/// One for each of [`LOOPBACKS`]; a host without IPv6 makes only the first.
type Sockets = Vec<io::Result<TcpSocket>>;

async fn sockets(netns: Option<OwnedFd>) -> io::Result<Sockets> {
    let Some(netns) = netns else { return Ok(make()) };
    let place = PLACES.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    // A thread that ends afterwards: one of the runtime's would have to come back out.
    let body = move || {
        let made = confined().and_then(|()| podwright_sys::join_namespace(&netns)).map(|()| make());
        let made = made.map_err(io::Error::from);
        drop(place);
        // Who gave up needs no socket.
        drop(tell.send(made));
    };
    std::thread::Builder::new().name("podwright-dial".into()).stack_size(64 << 10).spawn(body)?;
    told.await.map_err(|_| io::Error::other("the thread that was in the pod ended early"))?
}

/// Nothing but joining is left to the thread, for the moment that it lives.
fn confined() -> Result<(), podwright_sys::Errno> {
    podwright_sys::gain_nothing()?;
    podwright_sys::keep_capabilities(CapabilitySet::SYS_ADMIN).map(drop)
}

fn make() -> Sockets {
    vec![TcpSocket::new_v4(), TcpSocket::new_v6()]
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn ports_are_found_by_either_protocol() {
        for ip in LOOPBACKS {
            let listener = TcpListener::bind((ip, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = connect(None, port).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().ip(), ip);
        }
    }

    #[tokio::test]
    async fn root_dialers_wait_for_a_place() {
        let own = || OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").unwrap());
        let all = PLACES.acquire_many(u32::try_from(MAX_DIALERS).unwrap()).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..4 * MAX_DIALERS {
            waiting.spawn(sockets(Some(own())));
        }
        for _ in 0..4 * MAX_DIALERS {
            tokio::task::yield_now().await;
        }
        assert!(waiting.try_join_next().is_none(), "nobody has a place");
        drop(all);
        for made in waiting.join_all().await {
            assert!(made.unwrap().first().is_some_and(Result::is_ok));
        }
        assert_eq!(PLACES.available_permits(), MAX_DIALERS);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told() {
        // Bound and not listening: nobody else gets this port meanwhile.
        let bound = TcpSocket::new_v4().unwrap();
        bound.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let error = connect(None, bound.local_addr().unwrap().port()).await.unwrap_err();
        assert!(matches!(&error, PortError::Unavailable(text) if text.contains("nothing listens")), "{error}");
    }
}
