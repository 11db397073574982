//! Tokens: each stands for one request that waits for its client, once and for a short time.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use super::asked::Asked;
use super::limits::{MAX_TOKENS, TOKEN_LIFETIME};

/// Random bytes of a token: nobody guesses one of a thousand within their lifetime.
const TOKEN_BYTES: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoToken {
    /// Too many clients got a URL and have not called it.
    #[error(
        "{MAX_TOKENS} streaming URLs wait for their clients; each expires after {} seconds: repeat the request later",
        TOKEN_LIFETIME.as_secs()
    )]
    TooMany,
    /// The kernel gives no random bytes.
    #[error("make a token for a streaming URL: {0}")]
    Random(getrandom::Error),
}

struct Waiting {
    asked: Asked,
    since: Instant,
}

/// The requests that wait.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Waiting>>);

impl Tokens {
    /// Puts a request by and gives its token.
    pub(super) fn issue(&self, asked: Asked) -> Result<String, NoToken> {
        self.issue_at(asked, Instant::now())
    }

    fn issue_at(&self, asked: Asked, now: Instant) -> Result<String, NoToken> {
        let mut bytes = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(NoToken::Random)?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut waiting = self.lock();
        drop_expired(&mut waiting, now);
        if waiting.len() >= MAX_TOKENS {
            return Err(NoToken::TooMany);
        }
        waiting.insert(token.clone(), Waiting { asked, since: now });
        Ok(token)
    }

    /// Takes the request of a token, which is used up by it.
    pub(super) fn take(&self, token: &str) -> Option<Asked> {
        self.take_at(token, Instant::now())
    }

    fn take_at(&self, token: &str, now: Instant) -> Option<Asked> {
        let mut waiting = self.lock();
        drop_expired(&mut waiting, now);
        waiting.remove(token).map(|waiting| waiting.asked)
    }

    /// Drops what expired.
    pub(super) fn sweep(&self) {
        drop_expired(&mut self.lock(), Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn drop_expired(waiting: &mut HashMap<String, Waiting>, now: Instant) {
    waiting.retain(|_, one| now.saturating_duration_since(one.since) < TOKEN_LIFETIME);
}

#[cfg(test)]
mod tests {
    use podwright_types::SandboxId;

    use super::*;

    fn asked() -> Asked {
        Asked::Forward { sandbox: SandboxId::from_random([7; 32]), ports: Vec::new() }
    }

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::default();
        let (one, other) = (tokens.issue(asked()).unwrap(), tokens.issue(asked()).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 2 * TOKEN_BYTES);
        assert!(tokens.take(&one).is_some());
        assert!(tokens.take(&one).is_none());
        assert!(tokens.take("").is_none());
        assert!(tokens.take(&other).is_some());
    }

    #[test]
    fn a_token_expires() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue_at(asked(), now).unwrap();
        assert!(tokens.take_at(&token, now + TOKEN_LIFETIME).is_none());
        let token = tokens.issue_at(asked(), now).unwrap();
        assert!(tokens.take_at(&token, now + TOKEN_LIFETIME / 2).is_some());
    }

    #[test]
    fn the_tokens_are_bounded_until_some_expire() {
        let (tokens, now) = (Tokens::default(), Instant::now());
        for _ in 0..MAX_TOKENS {
            tokens.issue_at(asked(), now).unwrap();
        }
        assert!(matches!(tokens.issue_at(asked(), now), Err(NoToken::TooMany)));
        assert!(tokens.issue_at(asked(), now + TOKEN_LIFETIME).is_ok());
        assert_eq!(tokens.lock().len(), 1, "those that expired are gone");
    }
}
