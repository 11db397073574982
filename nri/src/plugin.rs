//! One plugin: its name, what it wants to be told, and how it is asked.

use std::sync::Arc;
use std::time::Duration;

use podwright_ttrpc::{CallError, Connection};

use crate::api::{ConfigureResponse, Container, Empty, Event, PodSandbox, StateChangeEvent};

/// Every event: none asked for means all.
const ALL: i32 = (1 << 14) - 1;
/// What plugins serve.
pub(crate) const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// Longest name.
const MAX_NAME_BYTES: usize = 128;

/// A plugin that is registered and configured.
pub(crate) struct Plugin {
    /// `10-name`.
    pub(crate) name: String,
    pub(crate) connection: Arc<Connection>,
    events: i32,
    keep_connected: bool,
}

/// Index and name, checked: they order plugins and stand in logs.
pub(crate) fn checked_name(index: &str, name: &str) -> Result<String, String> {
    if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the index {index:?} is not two digits"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
        return Err(format!(
            "the name {:?} is not one to {MAX_NAME_BYTES} letters, digits, `-`, `_` or `.`",
            name.escape_debug().take(64).collect::<String>()
        ));
    }
    Ok(format!("{index}-{name}"))
}

impl Plugin {
    pub(crate) fn new(
        name: String,
        connection: Arc<Connection>,
        configured: &ConfigureResponse,
    ) -> Result<Self, String> {
        if configured.events & !ALL != 0 {
            return Err(format!("it asks for events ({:#x}) that are not known", configured.events));
        }
        let events = if configured.events == 0 { ALL } else { configured.events };
        let keep_connected = configured.failure_policy.is_some_and(|policy| policy.keep_connected);
        Ok(Self { name, connection, events, keep_connected })
    }

    pub(crate) fn wants(&self, event: Event) -> bool {
        let bit = (event as i32).checked_sub(1).and_then(|bit| u32::try_from(bit).ok());
        bit.is_some_and(|bit| self.events & (1 << bit) != 0)
    }

    /// Asks. A plugin that can not be relied on is let go of.
    pub(crate) async fn ask<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
        limit: Duration,
    ) -> Result<A, CallError> {
        let answer = self.connection.call((PLUGIN_SERVICE, method), request, limit).await;
        if let Err(error) = &answer
            && error.is_fatal()
            && !self.keep_connected
        {
            self.connection.close(&format!("{method}: {error}"));
        }
        answer
    }

    /// Tells. Plugins of before have one call for all that is only told.
    pub(crate) async fn tell<Q: prost::Message>(
        &self,
        (method, event): (&str, Event),
        request: &Q,
        (pod, container): (&PodSandbox, Option<&Container>),
        limit: Duration,
    ) -> Result<(), CallError> {
        match self.ask::<Q, Empty>(method, request, limit).await {
            Err(CallError::Absent) => {}
            told => return told.map(drop),
        }
        let change = StateChangeEvent { event: event.into(), pod: Some(pod.clone()), container: container.cloned() };
        match self.ask::<_, Empty>("StateChange", &change, limit).await {
            Ok(_) | Err(CallError::Absent) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert_eq!(checked_name("07", "logger.v1").unwrap(), "07-logger.v1");
        for (index, name) in [("7", "a"), ("xx", "a"), ("00", ""), ("00", "a\nb"), ("00", "a/b"), ("000", "a")] {
            assert!(checked_name(index, name).is_err(), "{index} {name:?}");
        }
    }
}
