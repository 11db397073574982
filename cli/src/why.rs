//! `podwright why`: a pod's timeline for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use podwright_admin_api::v1::{Pod, PodState};
use serde_json::{Value, json};

use crate::{Output, client};

pub(crate) async fn run(state: &Path, pod: &str, output: Output) -> Result<()> {
    let pods = client::why(state, pod).await?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&Value::from_iter(pods.iter().map(machine)))?),
        Output::Text => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let now = i64::try_from(now).unwrap_or(i64::MAX);
            for pod in &pods {
                print!("{}", human(pod, now));
            }
        }
    }
    Ok(())
}

fn state(pod: &Pod) -> &'static str {
    match pod.state() {
        PodState::Unspecified => "unknown",
        PodState::BeingMade => "being made",
        PodState::Ready => "ready",
        PodState::NotReady => "not ready",
        PodState::Failed => "could not be made",
        PodState::Removed => "removed",
    }
}

/// Times are from the pod's beginning.
fn human(pod: &Pod, now_nanos: i64) -> String {
    let Pod { id, namespace, name, attempt, created_at_nanos: start, .. } = pod;
    let mut text = format!("pod {namespace}/{name}, attempt {attempt}, {}\nsandbox {id}\n", state(pod));
    let since = |nanos: i64| format!("+{:.3} s", nanos.saturating_sub(*start) as f64 / 1e9);
    let what = |container: &str, step: &str| {
        if container.is_empty() { step.to_owned() } else { format!("container {container}: {step}") }
    };
    let age = now_nanos.saturating_sub(*start) / 1_000_000_000;
    let _ = writeln!(text, "begun {age} s ago");
    if !pod.message.is_empty() {
        let _ = writeln!(text, "because {}", pod.message);
    }
    for step in &pod.taken {
        let took = step.took_micros as f64 / 1e3;
        let done = if step.error.is_empty() { "ok" } else { "FAILED" };
        let _ = writeln!(
            text,
            "  {:>12}  {took:>10.1} ms  {done:6}  {}",
            since(step.started_at_nanos),
            what(&step.container, &step.step)
        );
        if !step.error.is_empty() {
            let _ = writeln!(text, "                {}", step.error);
        }
    }
    for step in &pod.under_way {
        let waited = now_nanos.saturating_sub(step.started_at_nanos) / 1_000_000_000;
        let _ = writeln!(
            text,
            "  {:>12}  now, for {waited} s: {}{}",
            since(step.started_at_nanos),
            what(&step.container, &step.step),
            if step.waits_for.is_empty() { String::new() } else { format!(", which waits for {}", step.waits_for) }
        );
    }
    text
}

fn machine(pod: &Pod) -> Value {
    let taken = pod.taken.iter().map(|step| {
        json!({"container": step.container, "step": step.step, "startedAtNanos": step.started_at_nanos,
            "tookMicros": step.took_micros, "error": step.error})
    });
    let under_way = pod.under_way.iter().map(|step| {
        json!({"container": step.container, "step": step.step, "startedAtNanos": step.started_at_nanos,
                "waitsFor": step.waits_for})
    });
    json!({"id": pod.id, "namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "attempt": pod.attempt,
        "state": state(pod), "message": pod.message, "createdAtNanos": pod.created_at_nanos,
        "taken": Value::from_iter(taken), "underWay": Value::from_iter(under_way)})
}

#[cfg(test)]
mod tests {
    use podwright_admin_api::v1::{Step, StepUnderWay};

    use super::*;

    #[test]
    fn a_timeline_names_failures_and_what_is_waited_for() {
        let second = 1_000_000_000;
        let pod = Pod {
            id: "ab".into(),
            namespace: "ns".into(),
            name: "web".into(),
            state: PodState::BeingMade.into(),
            created_at_nanos: 100 * second,
            taken: vec![Step {
                step: "network".into(),
                started_at_nanos: 101 * second,
                took_micros: 2500,
                error: "no address".into(),
                ..Step::default()
            }],
            under_way: vec![StepUnderWay {
                container: "main".into(),
                step: "process".into(),
                started_at_nanos: 103 * second,
                waits_for: "ADD of the CNI plugin slow".into(),
            }],
            ..Pod::default()
        };
        let text = human(&pod, 110 * second);
        for part in [
            "pod ns/web",
            "being made",
            "+1.000 s",
            "2.5 ms  FAILED  network\n",
            "no address",
            "now, for 7 s: container main: process, which waits for ADD of the CNI plugin slow\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(machine(&pod)["taken"][0]["error"], "no address");
    }
}
