//! Decisions that were made, so that the same question is not worked on twice.

use std::collections::HashMap;
use std::time::SystemTime;

use podwright_types::Digest;

/// Decisions that are remembered.
const MAX_DECISIONS: usize = 4096;

/// What a decision is about: an image, by which name it was asked for, and the rule with its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) manifest: Digest,
    pub(super) asked: String,
    pub(super) stamp: [u8; 32],
}

/// Those that accepted; a refusal may be mended by another signature.
#[derive(Debug, Default)]
pub(super) struct Decided {
    until: HashMap<Key, Option<SystemTime>>,
}

impl Decided {
    pub(super) fn holds(&self, key: &Key, now: SystemTime) -> bool {
        self.until.get(key).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    pub(super) fn add(&mut self, key: Key, until: Option<SystemTime>) {
        if self.until.len() >= MAX_DECISIONS {
            self.until.clear();
        }
        self.until.insert(key, until);
    }
}
