//! The HTTP side: connections, requests, and what an upgraded connection is handed to.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use podwright_podsandbox::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asked::Asked;
use super::handshakes::{Handshake, Handshakes};
use super::limits::{HEADER_TIMEOUT, LINGER, MAX_HEADER_BYTES, MAX_HEADERS, MAX_SESSIONS, TOKEN_SWEEP};
use super::token::Tokens;
use super::upgrade::{self, Purpose, Refusal, Speech};
use super::{command, forward, websocket};

/// How long accepting rests after it failed; what is short then (descriptors, memory) comes back by itself.
const ACCEPT_REST: std::time::Duration = std::time::Duration::from_millis(100);

/// The server, bound and not yet serving.
pub struct Server {
    pub(super) listener: TcpListener,
    pub(super) tokens: Arc<Tokens>,
}

/// What all connections share.
#[derive(Clone)]
struct Service {
    engine: Engine,
    tokens: Arc<Tokens>,
    sessions: Arc<Semaphore>,
    tasks: TaskTracker,
    ends: Ends,
}

/// How the server's end reaches what it serves.
#[derive(Clone)]
pub(super) struct Ends {
    /// Sessions end, and clients are told.
    pub(super) in_order: CancellationToken,
    /// Nothing more is told to anybody.
    pub(super) at_once: CancellationToken,
}

impl Server {
    /// Serves until `stop` is told. Sessions end then: commands are killed, from containers clients are detached.
    pub async fn serve(self, engine: Engine, stop: CancellationToken) {
        let service = Service {
            engine,
            tokens: self.tokens,
            sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            tasks: TaskTracker::new(),
            ends: Ends { in_order: stop, at_once: CancellationToken::new() },
        };
        let mut sweep = tokio::time::interval(TOKEN_SWEEP);
        let handshakes = Handshakes::new();
        loop {
            tokio::select! {
                () = service.ends.in_order.cancelled() => break,
                _ = sweep.tick() => service.tokens.sweep(),
                stream = next(&self.listener) => {
                    let (service, handshake) = (service.clone(), handshakes.begin().await);
                    service.tasks.clone().spawn(async move { service.shake_hands(stream, &handshake).await });
                }
            }
        }
        service.tasks.close();
        let _ = tokio::time::timeout(2 * LINGER, service.tasks.wait()).await;
        service.ends.at_once.cancel();
    }
}

/// The next connection. Cancel safe.
async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a streaming client");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

impl Service {
    /// Reads a request and answers it. What an upgrade leads to has a task of its own.
    async fn shake_hands(&self, stream: TcpStream, handshake: &Handshake) {
        // Keystrokes and their echo are small and wait for each other.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request)) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        // A client that does not take its answer is not waited for either.
        let limit = 2 * HEADER_TIMEOUT;
        tokio::select! {
            () = self.ends.in_order.cancelled() => (),
            () = handshake.makes_way.cancelled() => tracing::debug!("a silent streaming client made way for another"),
            served = tokio::time::timeout(limit, connection) => match served {
                Ok(Ok(())) => (),
                Ok(Err(error)) => tracing::debug!(%error, "a streaming request failed"),
                Err(_) => tracing::debug!("a streaming request was not finished in time"),
            },
        }
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (mut request, body) = request.into_parts();
        drop(body);
        let upgrade = request.extensions.remove::<OnUpgrade>();
        match self.agree(&request, upgrade) {
            Ok(response) => response,
            Err(refusal) => refused(refusal),
        }
    }

    fn agree(&self, request: &Parts, upgrade: Option<OnUpgrade>) -> Result<Response<Full<Bytes>>, Refusal> {
        let asked = self.asked(request)?;
        let purpose = match &asked {
            Asked::Exec { .. } | Asked::Attach { .. } => Purpose::Command,
            Asked::Forward { .. } => Purpose::Forward,
        };
        let agreed = upgrade::agree(request, purpose)?;
        let upgrade =
            upgrade.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "this connection can not be upgraded"))?;
        let Ok(place) = Arc::clone(&self.sessions).try_acquire_owned() else {
            let text = format!("{MAX_SESSIONS} streaming sessions are under way, which is all that are served at once");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
        };
        let service = self.clone();
        self.tasks.spawn(async move {
            match tokio::time::timeout(HEADER_TIMEOUT, upgrade).await {
                Ok(Ok(io)) => service.stream(asked, agreed.speech, io).await,
                Ok(Err(error)) => tracing::debug!(%error, "a streaming client left before its answer"),
                Err(_) => tracing::debug!("a streaming client did not take its answer"),
            }
            drop(place);
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = agreed.headers;
        Ok(response)
    }

    /// What the token of the path stands for; it is used up by this.
    fn asked(&self, request: &Parts) -> Result<Asked, Refusal> {
        if request.method != Method::GET && request.method != Method::POST {
            let mut refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
            refusal.headers.push((header::ALLOW, HeaderValue::from_static("GET, POST")));
            return Err(refusal);
        }
        let unknown = || {
            let text = "no request waits for this URL: it can be used once, within a minute of the call that gave it";
            Refusal::new(StatusCode::NOT_FOUND, text)
        };
        let mut parts = request.uri.path().split('/');
        let (Some(""), Some(path), Some(token), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(unknown());
        };
        self.tokens.take(token).filter(|asked| asked.path() == path).ok_or_else(unknown)
    }

    async fn stream(&self, asked: Asked, speech: Speech, io: Upgraded) {
        let io = TokioIo::new(io);
        let (engine, ends) = (&self.engine, &self.ends);
        match (speech, asked) {
            (Speech::SpdyForward, Asked::Forward { sandbox, ports }) => {
                forward::serve(engine, &sandbox, ports, io, ends).await;
            }
            (Speech::Tunnel, Asked::Forward { sandbox, ports }) => {
                let falls_in = ends.at_once.child_token();
                let tunnel = websocket::tunnel(websocket::socket(io).await, falls_in.clone());
                forward::serve(engine, &sandbox, ports, tunnel, ends).await;
                falls_in.cancel();
            }
            (Speech::SpdyCommand(version), asked @ (Asked::Exec { choice, .. } | Asked::Attach { choice, .. })) => {
                command::serve(engine, asked, choice, version, io, ends).await;
            }
            (
                Speech::WebSocketCommand(version, encoding),
                asked @ (Asked::Exec { choice, .. } | Asked::Attach { choice, .. }),
            ) => {
                let socket = websocket::socket(io).await;
                websocket::serve_command(engine, asked, choice, (version, encoding), socket, ends).await;
            }
            // The speech was chosen for what was asked.
            (Speech::SpdyForward | Speech::Tunnel, Asked::Exec { .. } | Asked::Attach { .. })
            | (Speech::SpdyCommand(_) | Speech::WebSocketCommand(..), Asked::Forward { .. }) => {}
        }
    }
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(refusal.text + "\n"));
    *response.status_mut() = refusal.status;
    for (name, value) in refusal.headers {
        response.headers_mut().append(name, value);
    }
    // One request a connection. Said here and not to the library, which would say it in the answer to an upgrade, too.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
