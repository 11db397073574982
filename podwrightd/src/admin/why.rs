//! Pods as the admin API tells them: which ones are meant, and what was done for each.

use podwright_admin_api::v1::{Pod, PodState, Step, StepUnderWay};
use podwright_podsandbox::{Explanation, Outlook};
use tonic::Status;

/// Longest name that is repeated in an error.
const SHOWN_CHARS: usize = 128;

/// The pods that `wanted` means, the newest last: by id, by the start of one, or by `namespace/name`.
pub(super) fn find(mut all: Vec<Explanation>, wanted: &str) -> Result<Vec<Explanation>, Status> {
    let shown: String = wanted.chars().take(SHOWN_CHARS).collect();
    if wanted.is_empty() {
        return Err(Status::invalid_argument("why: no pod is named; give an id, its start, or namespace/name"));
    }
    if let Some((namespace, name)) = wanted.split_once('/') {
        all.retain(|pod| pod.config.namespace == namespace && pod.config.name == name);
        all.sort_by_key(|pod| pod.created_at_nanos);
    } else {
        all.retain(|pod| pod.id.as_str().starts_with(wanted));
        if all.len() > 1 {
            let text = format!("why: {shown:?} is the start of {} ids; give more of it", all.len());
            return Err(Status::invalid_argument(text));
        }
    }
    if all.is_empty() {
        return Err(Status::not_found(format!(
            "why: no pod is known as {shown:?}; give an id, its start, or namespace/name. Of removed pods the newest are remembered until podwrightd ends"
        )));
    }
    Ok(all)
}

/// A pod in the API's words.
pub(super) fn told(pod: Explanation) -> Pod {
    let (state, message) = match pod.outlook {
        Outlook::BeingMade => (PodState::BeingMade, String::new()),
        Outlook::Ready => (PodState::Ready, String::new()),
        Outlook::NotReady { message } => (PodState::NotReady, message),
        Outlook::Removed => (PodState::Removed, String::new()),
        Outlook::Failed { error } => (PodState::Failed, error),
    };
    Pod {
        id: pod.id.to_string(),
        namespace: pod.config.namespace.clone(),
        name: pod.config.name.clone(),
        uid: pod.config.uid.clone(),
        attempt: pod.config.attempt,
        state: state.into(),
        message,
        created_at_nanos: pod.created_at_nanos,
        taken: pod
            .taken
            .into_iter()
            .map(|of| Step {
                container: of.container.unwrap_or_default(),
                step: of.step.step,
                started_at_nanos: of.step.started_at_nanos,
                took_micros: of.step.took_micros,
                error: of.step.error.unwrap_or_default(),
            })
            .collect(),
        under_way: pod
            .under_way
            .into_iter()
            .map(|of| StepUnderWay {
                container: of.container.unwrap_or_default(),
                step: of.step.step,
                started_at_nanos: of.step.started_at_nanos,
                waits_for: of.step.waits_for.unwrap_or_default(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use podwright_podsandbox::model::SandboxConfig;
    use podwright_types::SandboxId;
    use tonic::Code;

    use super::*;

    fn pod(byte: u8, name: &str, created_at_nanos: i64) -> Explanation {
        Explanation {
            id: SandboxId::from_random([byte; 32]),
            config: Arc::new(SandboxConfig { namespace: "ns".into(), name: name.into(), ..SandboxConfig::default() }),
            created_at_nanos,
            outlook: Outlook::Ready,
            taken: Vec::new(),
            under_way: Vec::new(),
        }
    }

    #[test]
    fn pods_are_found_by_id_by_its_start_and_by_name() {
        let all = || vec![pod(0xaa, "a", 2), pod(0xab, "a", 1), pod(0xcc, "b", 3)];
        let times = |wanted: &str| {
            find(all(), wanted).map(|pods| pods.iter().map(|pod| pod.created_at_nanos).collect::<Vec<_>>())
        };
        assert_eq!(times(&"aa".repeat(32)).unwrap(), [2]);
        assert_eq!(times("cc").unwrap(), [3]);
        assert_eq!(times("ns/a").unwrap(), [1, 2]);
        assert_eq!(times("a").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(times("").unwrap_err().code(), Code::InvalidArgument);
        for absent in ["dd", "ns/c", "other/a", "/"] {
            assert_eq!(times(absent).unwrap_err().code(), Code::NotFound, "{absent}");
        }
    }
}
