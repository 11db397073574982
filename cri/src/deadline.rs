//! The caller's own deadline, its `grpc-timeout` header: a call that outlives it is answered `DEADLINE_EXCEEDED`.
//!
//! tonic ends such a call by itself, but answers `CANCELLED`, against the specification of gRPC, and a client whose own clock
//! is a moment behind takes that answer for ours. This layer stands inside of tonic's and is a moment earlier.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// By how much the answer is ahead of tonic's, whose timer counts in milliseconds.
const AHEAD: Duration = Duration::from_millis(2);

/// Puts the deadline of each caller before the services.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner }
    }
}

/// A service whose calls end at their callers' deadlines.
#[derive(Debug, Clone)]
pub struct WithDeadline<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(limit) = given(request.headers()) else { return Box::pin(self.inner.call(request)) };
        let path = request.uri().path().to_owned();
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit.saturating_sub(AHEAD), answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(exceeded(&path, limit).into_http()),
            }
        })
    }
}

fn exceeded(path: &str, limit: Duration) -> Status {
    let call = path.rsplit('/').next().unwrap_or(path);
    Status::deadline_exceeded(format!(
        "{call}: not done within the {limit:?} that the caller gave; repeat the call, or give it more time"
    ))
}

/// The deadline that a caller set: at most eight digits and a unit. One that can not be read is none.
fn given(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn units_are_those_of_grpc() {
        assert_eq!(given(&headers("2H")), Some(Duration::from_secs(7200)));
        assert_eq!(given(&headers("3M")), Some(Duration::from_secs(180)));
        assert_eq!(given(&headers("99999999S")), Some(Duration::from_secs(99_999_999)));
        assert_eq!(given(&headers("4m")), Some(Duration::from_millis(4)));
        assert_eq!(given(&headers("5u")), Some(Duration::from_micros(5)));
        assert_eq!(given(&headers("6n")), Some(Duration::from_nanos(6)));
        for unreadable in ["", "5", "S", "-1S", "+1S", "1s", "999999999S", "1 S", "é"] {
            assert_eq!(given(&headers(unreadable)), None, "{unreadable:?}");
        }
    }

    /// What a call is answered that never ends, or ends at once.
    async fn outcome(limit: Option<&str>, ends: bool) -> Response<Body> {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            if !ends {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = "/runtime.v1.ImageService/PullImage".parse().unwrap();
        if let Some(limit) = limit {
            request.headers_mut().insert("grpc-timeout", limit.parse().unwrap());
        }
        Deadlines.layer(service).call(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_call_past_its_deadline_is_told_so() {
        let answer = outcome(Some("20m"), false).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(
            status.message(),
            "PullImage: not done within the 20ms that the caller gave; repeat the call, or give it more time"
        );
    }

    #[tokio::test]
    async fn a_call_within_its_deadline_or_without_one_goes_through() {
        assert!(Status::from_header_map(outcome(Some("1H"), true).await.headers()).is_none());
        assert!(Status::from_header_map(outcome(None, true).await.headers()).is_none());
    }
}
