//! One request to one server: credentials on demand, redirects, retries, time limits.

use std::sync::Mutex;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url};

use super::challenge::{self, Challenge};
use super::hosts::Host;
use super::token::TokenKey;
use super::{Registry, client};
use crate::auth::Credentials;
use crate::config::Patience;
use crate::error::{ErrorKind, ImageError, Result};

/// Most redirects that one request follows.
const MAX_REDIRECTS: usize = 5;

/// One server of a session, with the connection to it and what it demanded so far.
pub(super) struct Server {
    pub(super) host: Host,
    client: Client,
    demand: Mutex<Option<Challenge>>,
}

/// What a request is about, for errors.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) step: &'static str,
    pub(super) object: &'a str,
}

/// What all requests to a server in a session share.
pub(super) struct Means<'a> {
    pub(super) registry: &'a Registry,
    pub(super) credentials: &'a Credentials,
    pub(super) patience: &'a Patience,
}

/// Why one attempt failed, and whether another one may help.
enum Attempt {
    Retry { error: ImageError, after: Option<Duration> },
    Final(ImageError),
}

impl Server {
    /// Makes the client of a server, after finding out whether one that is insecure speaks TLS.
    pub(super) async fn find(host: Host, patience: &Patience) -> Result<Self> {
        let mut server = Self::new(host, patience)?;
        if let Some(base) = server.host.plain_base.take()
            && !server.answers(patience).await
        {
            tracing::debug!(server = %server.host.origin(), "an insecure registry does not speak TLS");
            return Self::new(Host { base, ..server.host }, patience);
        }
        Ok(server)
    }

    /// Whether anything is answered to the first request of the API, whatever it is.
    async fn answers(&self, patience: &Patience) -> bool {
        let Ok(url) = self.host.url("") else { return false };
        matches!(tokio::time::timeout(patience.response, self.client.get(url).send()).await, Ok(Ok(_)))
    }

    fn new(host: Host, patience: &Patience) -> Result<Self> {
        let client = client::build(&host, patience.connect)?;
        Ok(Self { host, client, demand: Mutex::new(None) })
    }

    /// Sends a GET until it is answered with success, a final refusal, or `attempts` are used up.
    pub(super) async fn get(
        &self,
        path: &str,
        headers: &HeaderMap,
        about: About<'_>,
        means: &Means<'_>,
        attempts: u32,
    ) -> Result<Response> {
        let mut pause = means.patience.backoff;
        let mut attempt = 1;
        loop {
            match self.attempt(path, headers, about, means).await {
                Ok(response) => return Ok(response),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Retry { error, after }) => {
                    let wait = after.unwrap_or(pause);
                    if attempt >= attempts || wait > means.patience.backoff_max {
                        return Err(error);
                    }
                    tracing::debug!(%error, attempt, "registry request is repeated");
                    tokio::time::sleep(wait).await;
                }
            }
            attempt += 1;
            pause = (pause * 2).min(means.patience.backoff_max);
        }
    }

    async fn attempt(
        &self,
        path: &str,
        headers: &HeaderMap,
        about: About<'_>,
        means: &Means<'_>,
    ) -> std::result::Result<Response, Attempt> {
        let url = self.host.url(path).map_err(Attempt::Final)?;
        let known = self.demand.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut authorization = match &known {
            Some(challenge) => self.answer(challenge, means).await?,
            None => None,
        };
        for round in 0..2 {
            let response = self.follow(url.clone(), headers, authorization.as_ref(), about, means.patience).await?;
            let (response, first_hop) = response;
            if response.status() != StatusCode::UNAUTHORIZED {
                return self.judge(response, about);
            }
            let demanded = challenge::parse(
                response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()),
            );
            // Only the registry itself may ask for credentials, not where it redirects to; and only once.
            let Some(demanded) = demanded.filter(|_| first_hop && round == 0) else {
                return Err(Attempt::Final(self.unauthorized(&response, about, means)));
            };
            if let Some(stale) = known.as_ref().filter(|known| **known == demanded) {
                means.registry.tokens.forget(&self.key(stale, means));
            }
            authorization = self.answer(&demanded, means).await?;
            if authorization.is_none() {
                return Err(Attempt::Final(self.unauthorized(&response, about, means)));
            }
            *self.demand.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(demanded);
        }
        Err(Attempt::Final(self.error(ErrorKind::Unauthorized, about, "the credentials were not taken")))
    }

    /// The `Authorization` header that meets a demand, if there is anything to offer.
    async fn answer(&self, demand: &Challenge, means: &Means<'_>) -> std::result::Result<Option<HeaderValue>, Attempt> {
        let text = match (demand, means.credentials) {
            (Challenge::Basic, Credentials::Basic { username, password }) => {
                use base64::Engine as _;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
                format!("Basic {pair}")
            }
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { .. }, Credentials::Access(token)) => format!("Bearer {token}"),
            (Challenge::Bearer { .. }, _) => {
                let key = self.key(demand, means);
                let token = match means.registry.tokens.get(&key) {
                    Some(token) => token,
                    None => match means.registry.tokens.fetch(&self.client, key, means.patience).await {
                        Ok(token) => token,
                        Err(error) if error.kind() == ErrorKind::RegistryUnavailable => {
                            return Err(Attempt::Retry { error, after: None });
                        }
                        Err(error) => return Err(Attempt::Final(error)),
                    },
                };
                format!("Bearer {token}")
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            let about = About { step: "authenticate at", object: self.host.base.as_str() };
            Attempt::Final(self.error(ErrorKind::Invalid, about, "the credentials hold control characters"))
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn key(&self, demand: &Challenge, means: &Means<'_>) -> TokenKey {
        TokenKey { origin: self.host.origin(), challenge: demand.clone(), credentials: means.credentials.clone() }
    }

    /// Sends and follows redirects. Credentials and configured headers stay with the server they are for.
    async fn follow(
        &self,
        mut url: Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        about: About<'_>,
        patience: &Patience,
    ) -> std::result::Result<(Response, bool), Attempt> {
        let own = url.origin();
        for hop in 0..=MAX_REDIRECTS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if url.origin() == own {
                for (name, value) in &self.host.headers {
                    request = request.header(name, value);
                }
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
            }
            let response = match tokio::time::timeout(patience.response, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(self.retry(about, &reason(&error))),
                Err(_) => {
                    return Err(self.retry(about, &format!("no answer within {:?}", patience.response)));
                }
            };
            let next = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION),
                _ => return Ok((response, hop == 0)),
            };
            let next = next
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .filter(|next| matches!(next.scheme(), "http" | "https"))
                .ok_or_else(|| self.finally(ErrorKind::RegistryUnavailable, about, "it redirects to no valid URL"))?;
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(self.finally(ErrorKind::RegistryUnavailable, about, "it redirects from https to http"));
            }
            url = next;
        }
        Err(self.finally(ErrorKind::RegistryUnavailable, about, "it redirects in a circle"))
    }

    /// Sorts a status into success, retry and refusal.
    fn judge(&self, response: Response, about: About<'_>) -> std::result::Result<Response, Attempt> {
        let status = response.status();
        match status.as_u16() {
            200 | 206 => Ok(response),
            404 | 410 => Err(self.finally(ErrorKind::NotFound, about, "the registry does not have it; check the name")),
            403 => Err(self.finally(ErrorKind::Unauthorized, about, "access is denied (403); check the credentials")),
            429 => {
                let cause = "the registry asks to come back later (429); wait, or use credentials with a higher limit";
                let error = self.error(ErrorKind::TooManyRequests, about, cause);
                Err(Attempt::Retry { error, after: retry_after(response.headers()) })
            }
            408 | 500..=599 => {
                let error = self.error(ErrorKind::RegistryUnavailable, about, &format!("it answered {status}"));
                Err(Attempt::Retry { error, after: None })
            }
            _ => Err(self.finally(ErrorKind::RegistryUnavailable, about, &format!("it answered {status}"))),
        }
    }

    fn unauthorized(&self, response: &Response, about: About<'_>, means: &Means<'_>) -> ImageError {
        let advice = match means.credentials {
            Credentials::Anonymous => "it wants credentials and none are given",
            _ => "it does not accept the given credentials",
        };
        self.error(ErrorKind::Unauthorized, about, &format!("{advice} ({})", response.status().as_u16()))
    }

    pub(super) fn error(&self, kind: ErrorKind, about: About<'_>, cause: &str) -> ImageError {
        ImageError::new(kind, about.step, about.object, format!("at {}: {cause}", self.host.origin()))
    }

    fn finally(&self, kind: ErrorKind, about: About<'_>, cause: &str) -> Attempt {
        Attempt::Final(self.error(kind, about, cause))
    }

    fn retry(&self, about: About<'_>, cause: &str) -> Attempt {
        Attempt::Retry { error: self.error(ErrorKind::RegistryUnavailable, about, cause), after: None }
    }
}

/// `Retry-After` in seconds; the form with a date is rare and read as "use the own pause".
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost cause of a client's error: the outer ones only repeat the URL.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Reads a small body within a bound of bytes, of silence and of time.
pub(crate) async fn body_bounded(
    response: Response,
    max_bytes: u64,
    patience: &Patience,
) -> std::result::Result<Vec<u8>, (ErrorKind, String)> {
    let limit = patience.progress;
    match tokio::time::timeout(limit, body(response, max_bytes, patience.idle)).await {
        Ok(read) => read,
        Err(_) => Err((ErrorKind::RegistryUnavailable, format!("its answer was not complete after {limit:?}"))),
    }
}

async fn body(
    mut response: Response,
    max_bytes: u64,
    idle: Duration,
) -> std::result::Result<Vec<u8>, (ErrorKind, String)> {
    let too_large = || (ErrorKind::LimitExceeded, format!("it is larger than the limit of {max_bytes} bytes"));
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        match tokio::time::timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len() as u64 + chunk.len() as u64 > max_bytes => return Err(too_large()),
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(error)) => {
                return Err((ErrorKind::RegistryUnavailable, format!("it broke off: {}", reason(&error))));
            }
            Err(_) => return Err((ErrorKind::RegistryUnavailable, format!("nothing came for {idle:?}"))),
        }
    }
}

/// The headers of a request, from pairs that are known to be valid.
pub(super) fn header(name: HeaderName, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
    headers
}
