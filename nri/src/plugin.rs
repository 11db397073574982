//! One plugin: its name, what it wants to be told, and how it is asked.

use std::sync::Arc;
use std::time::Duration;

use podwright_ttrpc::{CallError, Connection};

use crate::api::{ConfigureResponse, Container, Empty, Event, FailurePolicy, PodSandbox, StateChangeEvent};

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
    /// What it says of its own failures.
    policy: Option<FailurePolicy>,
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
        Ok(Self { name, connection, events, policy: configured.failure_policy })
    }

    pub(crate) fn wants(&self, event: Event) -> bool {
        let bit = (event as i32).checked_sub(1).and_then(|bit| u32::try_from(bit).ok());
        bit.is_some_and(|bit| self.events & (1 << bit) != 0)
    }

    /// Asks. None: it does not have the call, or it failed and says itself that the request is to go on without it.
    ///
    /// # Errors
    /// It refused; or it failed, and the request must not go on.
    pub(crate) async fn ask<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
        limit: Duration,
    ) -> Result<Option<A>, CallError> {
        match self.call(method, request, limit).await {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::Absent) => Ok(None),
            Err(error) => self.excuse(method, error).map(|()| None),
        }
    }

    /// A plugin that can not be relied on is let go of. One that is late may stay where it asked for that.
    async fn call<Q: prost::Message, A: prost::Message + Default>(
        &self,
        method: &str,
        request: &Q,
        limit: Duration,
    ) -> Result<A, CallError> {
        let answer = self.connection.call((PLUGIN_SERVICE, method), request, limit).await;
        if let Err(error) = &answer
            && error.is_fatal()
            && !(matches!(error, CallError::Late(_)) && self.policy.is_some_and(|policy| policy.keep_connected))
        {
            self.connection.close(&format!("{method}: {error}"));
        }
        answer
    }

    /// A failure is the request's, too, unless the plugin says otherwise. What it refuses stays refused.
    fn excuse(&self, method: &str, error: CallError) -> Result<(), CallError> {
        if !error.is_fatal() || self.policy.is_none_or(|policy| policy.fail_request) {
            return Err(error);
        }
        tracing::warn!(plugin = self.name, method, %error, "an NRI plugin failed; by its own policy the request goes on");
        Ok(())
    }

    /// Tells. Plugins of before have one call for all that is only told.
    pub(crate) async fn tell<Q: prost::Message>(
        &self,
        (method, event): (&'static str, Event),
        request: &Q,
        (pod, container): (&PodSandbox, Option<&Container>),
        limit: Duration,
    ) -> Result<(), CallError> {
        match self.call::<Q, Empty>(method, request, limit).await {
            Ok(_) => return Ok(()),
            Err(CallError::Absent) => {}
            Err(error) => return self.excuse(method, error),
        }
        let change = StateChangeEvent { event: event.into(), pod: Some(pod.clone()), container: container.cloned() };
        self.ask::<_, Empty>("StateChange", &change, limit).await.map(drop)
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
