//! One span for each RPC, with its pod and container, and one line at its end, with duration and error. Requests themselves
//! are never logged: they hold environment values and credentials.

use std::future::Future;
use std::time::Instant;

use tonic::{Code, Response, Status};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Longest id in a span; ids come from outside and may be anything.
const SHOWN_ID_BYTES: usize = 64;

/// How an RPC is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Asked for all the time: level debug.
    Polling,
    /// Does something: level info.
    Acting,
}

/// Whom an RPC is about, as far as the request says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    /// Sandbox, as the request names it.
    pub(crate) pod: &'a str,
    /// Container, as the request names it.
    pub(crate) container: &'a str,
    /// Image, as the request names it.
    pub(crate) image: &'a str,
}

impl About<'_> {
    fn span(&self, method: &'static str, weight: Weight) -> Span {
        let span = match weight {
            Weight::Polling => tracing::debug_span!("rpc", method, pod = Empty, container = Empty, image = Empty),
            Weight::Acting => tracing::info_span!("rpc", method, pod = Empty, container = Empty, image = Empty),
        };
        for (key, value) in [("pod", self.pod), ("container", self.container), ("image", self.image)] {
            if !value.is_empty() {
                span.record(key, shortened(value));
            }
        }
        span
    }
}

fn shortened(id: &str) -> String {
    id.chars().take(SHOWN_ID_BYTES).flat_map(char::escape_default).collect()
}

/// Notes the sandbox of the current RPC, once it is known.
pub(crate) fn note_pod(id: &impl std::fmt::Display) {
    Span::current().record("pod", tracing::field::display(id));
}

/// Notes the container of the current RPC, once it is known.
pub(crate) fn note_container(id: &impl std::fmt::Display) {
    Span::current().record("container", tracing::field::display(id));
}

/// Runs the work of an RPC in its span.
pub(crate) async fn rpc<T>(
    method: &'static str,
    weight: Weight,
    about: About<'_>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    let span = about.span(method, weight);
    let began = Instant::now();
    let result = work.instrument(span.clone()).await;
    span.in_scope(|| told(weight, began.elapsed().as_secs_f64() * 1000.0, result.as_ref().err()));
    result.map(Response::new)
}

fn told(weight: Weight, duration_ms: f64, error: Option<&Status>) {
    match (error, weight) {
        (None, Weight::Polling) => tracing::debug!(duration_ms, "done"),
        (None, Weight::Acting) => tracing::info!(duration_ms, "done"),
        (Some(status), Weight::Polling) => {
            tracing::debug!(duration_ms, code = ?status.code(), error = status.message(), "failed");
        }
        (Some(status), Weight::Acting) if status.code() == Code::Unimplemented => {
            tracing::debug!(duration_ms, code = ?status.code(), error = status.message(), "failed");
        }
        (Some(status), Weight::Acting) => {
            tracing::warn!(duration_ms, code = ?status.code(), error = status.message(), "failed");
        }
    }
}
