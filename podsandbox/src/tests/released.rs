//! State that earlier releases wrote is read, field by field. The samples are data: they are never made anew. A field that was dropped or
//! renamed, or a new one without a default, fails here. For a new version of the format a new directory is added beside them.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::container::ContainerRecord;
use crate::ladder::Goal;
use crate::model::{Exit, MountSource, Protocol, SandboxState};
use crate::record;
use crate::sandbox::SandboxRecord;

const SANDBOX: &str = include_str!("released/version1/sandbox.json");
const CONTAINERS: [&str; 3] = [
    include_str!("released/version1/container-exited.json"),
    include_str!("released/version1/container-running.json"),
    include_str!("released/version1/container-created.json"),
];
const SANDBOX_ID: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn body(sample: &str) -> Value {
    serde_json::from_str::<Value>(sample).unwrap()["body"].clone()
}

/// All of `sample` is in `now`, with the same values.
fn within(sample: &Value, now: &Value, path: &str) {
    match (sample, now) {
        (Value::Object(sample), Value::Object(now)) => {
            for (name, value) in sample {
                let found = now.get(name).unwrap_or_else(|| panic!("{path}.{name} is not read any more"));
                within(value, found, &format!("{path}.{name}"));
            }
        }
        (Value::Array(sample), Value::Array(now)) if sample.len() == now.len() => {
            for (index, (value, found)) in sample.iter().zip(now).enumerate() {
                within(value, found, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(sample, now, "{path}"),
    }
}

fn read<T: DeserializeOwned + Serialize>(sample: &str) -> T {
    let record: T = record::decode(sample.as_bytes()).unwrap();
    within(&body(sample), &serde_json::to_value(&record).unwrap(), "record");
    record
}

#[test]
fn records_of_version_1_are_read() {
    let sandbox: SandboxRecord = read(SANDBOX);
    assert_eq!(sandbox.id.as_str(), SANDBOX_ID);
    assert_eq!(sandbox.config.port_mappings[0].protocol, Protocol::Sctp);
    assert!(sandbox.durable.progress.done("network") && sandbox.durable.progress.in_flight() == Some("containers"));
    let [exited, running, created] = CONTAINERS.map(read::<ContainerRecord>);
    let ContainerState::Exited { exit: Exit { code, .. }, .. } = exited.durable.state else { panic!("{exited:?}") };
    assert_eq!(code, 137);
    assert!(matches!(exited.config.mounts[1].source, MountSource::Image { .. }));
    assert_eq!(exited.config.environment[1].1, [0xff, 1]);
    assert!(matches!(running.durable.state, ContainerState::Running { pid: 4242, .. }));
    assert_eq!(created.durable.state, ContainerState::Created);
    let goals = ["\"up\"", "\"stopped\"", "\"removed\""].map(|word| serde_json::from_str::<Goal>(word).unwrap());
    assert_eq!(goals, [Goal::Up, Goal::Stopped, Goal::Removed]);
    assert_eq!(serde_json::from_str::<ContainerState>("\"Unknown\"").unwrap(), ContainerState::Unknown);
}

/// Every field of the samples is set: one that is empty would not show that its content is read.
#[test]
fn samples_are_full() {
    fn empty(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(path.to_owned()),
            Value::Object(fields) if fields.is_empty() => found.push(path.to_owned()),
            Value::Array(items) if items.is_empty() => found.push(path.to_owned()),
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| empty(value, &format!("{path}.{name}"), found));
            }
            Value::Array(items) => items.iter().for_each(|item| empty(item, &format!("{path}[]"), found)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    empty(&body(SANDBOX), "sandbox", &mut found);
    empty(&body(CONTAINERS[0]), "container", &mut found);
    // A step without an error stands beside one with it.
    found.retain(|path| !path.ends_with("timeline[].error"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_new_daemon_takes_over_what_version_1_left() {
    let node = Node::new();
    let put = |kind: &str, sample: &str| {
        let id = body(sample)["id"].as_str().unwrap().to_owned();
        let directory = node.disk.path().join("root").join(kind).join(&id);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("record.json"), sample).unwrap();
    };
    put("sandboxes", SANDBOX);
    CONTAINERS.iter().for_each(|sample| put("containers", sample));
    let daemon = node.start_after_boot("a later boot");
    assert!(!daemon.report.notes.iter().any(|note| note.contains("aside")), "{:?}", daemon.report.notes);
    let id: SandboxId = SANDBOX_ID.parse().unwrap();
    let sandbox = daemon.engine.sandbox(&id).unwrap();
    assert_eq!((sandbox.state, sandbox.config.name.as_str()), (SandboxState::NotReady, "web"));
    let pod = daemon.engine.pod(&id).unwrap();
    let codes: Vec<i32> = pod
        .containers
        .iter()
        .filter_map(|container| match &container.state {
            ContainerState::Exited { exit, .. } => Some(exit.code),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Unknown => None,
        })
        .collect();
    // The one that ran ended with the node, the one that did not run was stopped with its pod.
    assert_eq!(codes, [137, 255, 137]);
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("the removal");
}

/// What a daemon of a later release of the same format adds is still there after this one changed the record.
#[test]
fn going_back_loses_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    daemon.crash();
    let path = node.disk.path().join("root/sandboxes").join(id.as_str()).join("record.json");
    let mut later: Value = record::decode(&std::fs::read(&path).unwrap()).unwrap();
    later["durable"]["future"] = "kept".into();
    later["config"]["namespaces"]["future"] = 5.into();
    std::fs::write(&path, record::encode(&later).unwrap()).unwrap();
    let daemon = node.start();
    daemon.run(daemon.engine.stop_sandbox(&id)).unwrap();
    let now: Arc<Value> = record::decode(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&now["durable"]["future"], &now["config"]["namespaces"]["future"]), (&"kept".into(), &5.into()));
    assert_eq!(now["durable"]["progress"]["goal"], "stopped");
}
