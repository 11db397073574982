//! Access tokens: asking a token server, and keeping what it gave until it expires.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::challenge::Challenge;
use super::request::{body_bounded, reason};
use crate::auth::Credentials;
use crate::config::Patience;
use crate::error::{ErrorKind, ImageError, Result};

/// Largest answer of a token server, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// How long a token is good when the server does not say; from the token specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// The longest life believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is not used this shortly before its end.
const MARGIN: Duration = Duration::from_secs(10);
/// Most tokens kept.
const MAX_TOKENS: usize = 256;

/// What a token is good for, and for whom.
#[derive(PartialEq, Eq, Hash, Clone)]
pub(super) struct TokenKey {
    pub(super) origin: String,
    pub(super) challenge: Challenge,
    pub(super) credentials: Credentials,
}

/// Tokens that have not expired.
#[derive(Default)]
pub(super) struct TokenCache {
    tokens: Mutex<HashMap<TokenKey, (String, Instant)>>,
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenCache")
    }
}

impl TokenCache {
    pub(super) fn get(&self, key: &TokenKey) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|(_, end)| *end > Instant::now()).map(|(token, _)| token.clone())
    }

    /// Forgets a token that the registry did not take.
    pub(super) fn forget(&self, key: &TokenKey) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn put(&self, key: TokenKey, token: String, life: Duration) {
        let now = Instant::now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, end)| *end > now);
        if tokens.len() < MAX_TOKENS {
            tokens.insert(key, (token, now + life.min(MAX_LIFE).saturating_sub(MARGIN)));
        }
    }

    /// Asks the token server named by the challenge of `key`.
    pub(super) async fn fetch(&self, client: &Client, key: TokenKey, patience: &Patience) -> Result<String> {
        let Challenge::Bearer { realm, service, scope } = &key.challenge else { return Ok(String::new()) };
        let realm = check_realm(realm, &key)?;
        let answer = match &key.credentials {
            Credentials::Refresh(refresh) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("scope", scope),
                    ("client_id", "podwright"),
                    ("refresh_token", refresh),
                ];
                let body = query(&form);
                let request = client
                    .post(realm.clone())
                    .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body);
                ask(request, &realm, patience).await?
            }
            credentials => {
                let mut url = realm.clone();
                for (name, value) in [("service", service), ("scope", scope)] {
                    if !value.is_empty() {
                        url.query_pairs_mut().append_pair(name, value);
                    }
                }
                let mut request = client.get(url);
                if let Credentials::Basic { username, password } = credentials {
                    request = request.basic_auth(username, Some(password));
                }
                ask(request, &realm, patience).await?
            }
        };
        let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = token.ok_or_else(|| {
            ImageError::new(ErrorKind::Unauthorized, "get token from", realm.as_str(), "its answer holds no token")
        })?;
        self.put(key, token.clone(), life);
        Ok(token)
    }
}

/// Credentials go to a token server in the clear only if the registry itself is spoken to in the clear.
fn check_realm(realm: &str, key: &TokenKey) -> Result<Url> {
    let refuse = |cause: &str| Err(ImageError::new(ErrorKind::Invalid, "get token from", realm, cause));
    match realm.parse::<Url>() {
        Ok(url) if url.scheme() == "https" => Ok(url),
        Ok(url) if url.scheme() == "http" && key.origin.starts_with("http://") => Ok(url),
        Ok(url) if url.scheme() == "http" => {
            refuse("a registry behind TLS names a token server without it; ask the registry's operator")
        }
        _ => refuse("the registry names a token server that is no HTTP URL"),
    }
}

fn query(pairs: &[(&str, &str)]) -> String {
    // A URL's query is encoded just like a form.
    let mut url = match Url::parse("http://form/") {
        Ok(url) => url,
        Err(_) => return String::new(),
    };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

async fn ask(request: RequestBuilder, realm: &Url, patience: &Patience) -> Result<Answer> {
    let limit = patience.response;
    let fail = |kind, cause: String| ImageError::new(kind, "get token from", realm.as_str(), cause);
    let response = match tokio::time::timeout(limit, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(fail(ErrorKind::RegistryUnavailable, reason(&error))),
        Err(_) => return Err(fail(ErrorKind::RegistryUnavailable, format!("no answer within {limit:?}"))),
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => {
            return Err(fail(ErrorKind::TooManyRequests, "the token server asks to come back later".to_owned()));
        }
        status if status.is_server_error() => {
            return Err(fail(ErrorKind::RegistryUnavailable, format!("it answered {status}")));
        }
        status => {
            return Err(fail(ErrorKind::Unauthorized, format!("it answered {status}; check the credentials")));
        }
    }
    let body = body_bounded(response, MAX_ANSWER_BYTES, patience).await.map_err(|(kind, cause)| fail(kind, cause))?;
    serde_json::from_slice(&body)
        .map_err(|_| fail(ErrorKind::RegistryUnavailable, "its answer is not what a token server gives".to_owned()))
}
