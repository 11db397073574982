//! Port forwarding over SPDY: each connection into the pod is a pair of streams, one for its bytes and one for an error.
//!
//! A pair is told by its request id. Pairs live and fail apart from each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use podwright_podsandbox::Engine;
use podwright_types::SandboxId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::limits::{MAX_ERROR_BYTES, MAX_FORWARD_STREAMS, OPEN_TIMEOUT};
use super::server::Ends;
use super::shortcut::carry;
use super::spdy::{Accept, Connection, Headers, Opened};
use super::stream::Stream;
use crate::status::cut;

/// The headers of a stream.
const STREAM_TYPE: &str = "streamtype";
const PORT: &str = "port";
const REQUEST_ID: &str = "requestid";
/// Longest request id. Known clients count.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// Halves at which those that the client gave up are looked for. No more than [`MAX_FORWARD_STREAMS`] are not given up, so a look
/// finds many.
const MANY_HALVES: usize = 2 * MAX_FORWARD_STREAMS;

/// What a stream of a pair is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// What a stream's headers say.
#[derive(Debug, PartialEq, Eq)]
struct Label {
    kind: Kind,
    port: u16,
    request: Option<String>,
}

impl Label {
    fn of(headers: &Headers) -> Option<Self> {
        let kind = match headers.get(STREAM_TYPE)? {
            "data" => Kind::Data,
            "error" => Kind::Error,
            _ => return None,
        };
        let port = headers.get(PORT)?.parse().ok().filter(|port| *port != 0)?;
        let request = headers.get(REQUEST_ID).filter(|id| !id.is_empty()).map(str::to_owned);
        let bounded = request.as_ref().is_none_or(|id| id.len() <= MAX_REQUEST_ID_BYTES);
        bounded.then_some(Self { kind, port, request })
    }

    /// What both streams of a pair have in common. Clients that name no request open the error stream and then, as the
    /// next one, that for data.
    fn key(&self, stream: u32) -> (u16, String) {
        let key = match (&self.request, self.kind) {
            (Some(request), _) => format!("request {request}"),
            (None, Kind::Error) => format!("stream {stream}"),
            (None, Kind::Data) => format!("stream {}", stream.saturating_sub(2)),
        };
        (self.port, key)
    }
}

/// The streams of a pair that have come.
#[derive(Debug)]
struct Half {
    data: Option<Stream>,
    error: Option<Stream>,
    since: Instant,
}

impl Half {
    /// The client gave up what there is of it.
    fn is_given_up(&self) -> bool {
        self.data.iter().chain(&self.error).all(|stream| stream.ended.is_cancelled())
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    engine: &Engine,
    sandbox: &SandboxId,
    ports: Vec<u16>,
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    ends: &Ends,
) {
    let mut connection = Connection::start(io, MAX_FORWARD_STREAMS, wanted(ports), &ends.at_once);
    let mut halves: HashMap<(u16, String), Half> = HashMap::new();
    // Dropping the set ends what is forwarded.
    let mut forwards = JoinSet::new();
    let mut sweep = tokio::time::interval(OPEN_TIMEOUT / 3);
    let ended = connection.ended().clone();
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            () = ends.in_order.cancelled() => break,
            // Before new ones: a client that opens and gives up without a pause must not pile up what has ended.
            Some(_) = forwards.join_next() => {}
            opened = connection.next() => {
                let Some(opened) = opened else { return };
                if let Some((port, data, error)) = paired(&mut halves, opened) {
                    forwards.spawn(forward(engine.clone(), sandbox.clone(), port, data, error));
                }
            }
            _ = sweep.tick() => halves.retain(|_, half| half.since.elapsed() < OPEN_TIMEOUT),
        }
    }
    forwards.shutdown().await;
    halves.clear();
    connection.close().await;
}

fn wanted(ports: Vec<u16>) -> Accept {
    Box::new(move |headers| Label::of(headers).is_some_and(|label| ports.is_empty() || ports.contains(&label.port)))
}

/// Puts a stream to its pair, and gives the pair if that is whole now. Of two streams for one place the second is dropped.
fn paired(halves: &mut HashMap<(u16, String), Half>, opened: Opened) -> Option<(u16, Stream, Stream)> {
    let label = Label::of(&opened.headers)?;
    let key = label.key(opened.id);
    if halves.len() >= MANY_HALVES {
        halves.retain(|_, half| !half.is_given_up());
    }
    let half = halves.entry(key.clone()).or_insert_with(|| Half { data: None, error: None, since: Instant::now() });
    let place = match label.kind {
        Kind::Data => &mut half.data,
        Kind::Error => &mut half.error,
    };
    place.get_or_insert(opened.stream);
    match halves.remove(&key)? {
        Half { data: Some(data), error: Some(error), .. } => Some((label.port, data, error)),
        half => {
            halves.insert(key, half);
            None
        }
    }
}

/// Carries one connection to its end.
async fn forward(engine: Engine, sandbox: SandboxId, port: u16, data: Stream, mut error: Stream) {
    let ended = data.ended.clone();
    let carried = async {
        let to = engine.port_forward(&sandbox, port).await.map_err(|error| error.to_string())?;
        // A connection that breaks looks to the client as it does to one in the pod: it is over. That of a pod which ended is
        // over whatever the client does: its socket would keep the pod's network namespace.
        tokio::select! {
            _ = both_ways(data, to.stream) => (),
            () = to.pod.ended() => (),
        }
        Ok(())
    };
    let carried = tokio::select! {
        () = ended.cancelled() => Ok(()),
        carried = carried => carried,
    };
    if let Err(text) = carried {
        let text: String = text;
        tracing::debug!(pod = %sandbox, port, error = %text, "a connection was not forwarded");
        let _ = error.io.write_all(cut(&text, MAX_ERROR_BYTES).as_bytes()).await;
    }
    let _ = error.io.shutdown().await;
}

/// Each way ends by itself, or both with the first error.
async fn both_ways(data: Stream, to: TcpStream) -> std::io::Result<()> {
    let (mut from_pod, to_pod) = to.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(data.io);
    let outwards = async {
        Stream::send_all(data.outlet.as_ref(), &mut to_client, &mut from_pod).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(carry(&mut from_client, &data.shortcut, Arc::new(to_pod)), outwards).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming::shortcut::Shortcut;

    fn label(headers: &[(&str, &str)]) -> Option<Label> {
        Label::of(&headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn streams_are_labelled() {
        let data = label(&[("streamtype", "data"), ("port", "80"), ("requestid", "7")]).unwrap();
        let error = label(&[("streamtype", "error"), ("port", "80"), ("requestid", "7")]).unwrap();
        assert_eq!(data.port, 80);
        assert_eq!(data.key(5), error.key(1));
        for bad in [
            &[("streamtype", "data"), ("requestid", "7")][..],
            &[("streamtype", "data"), ("port", "0")],
            &[("streamtype", "data"), ("port", "65536")],
            &[("streamtype", "data"), ("port", "-1")],
            &[("streamtype", "stdin"), ("port", "80")],
            &[("port", "80")],
            &[("streamtype", "data"), ("port", "80"), ("requestid", &"7".repeat(65))],
        ] {
            assert_eq!(label(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn halves_that_are_given_up_do_not_pile_up() {
        let mut halves = HashMap::new();
        for id in 0..u32::try_from(4 * MANY_HALVES).unwrap() {
            let headers = [("streamtype", "error"), ("port", "80"), ("requestid", &id.to_string())];
            let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let ended = tokio_util::sync::CancellationToken::new();
            let (io, shortcut) = (tokio::io::duplex(1).0, Shortcut::default());
            let stream = Stream { io, ended: ended.clone(), placed: ended.clone(), shortcut, outlet: None };
            assert!(paired(&mut halves, Opened { id: 2 * id + 1, headers, stream }).is_none());
            ended.cancel();
        }
        assert!(halves.len() <= MANY_HALVES, "{}", halves.len());
    }

    #[test]
    fn without_request_ids_the_next_stream_completes_a_pair() {
        let error = label(&[("streamtype", "error"), ("port", "80")]).unwrap();
        let data = label(&[("streamtype", "data"), ("port", "80")]).unwrap();
        assert_eq!(error.key(5), data.key(7));
        assert_ne!(error.key(5), data.key(9));
    }
}
