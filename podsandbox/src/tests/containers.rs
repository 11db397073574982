use std::time::{Duration, Instant};

use super::*;
use crate::model::Resources;
use crate::{ContainerFilter, ContainerStateKind, EngineError};

#[test]
fn a_container_comes_and_goes_without_a_trace() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep"))).unwrap();
    assert_eq!(daemon.state(&id), ContainerState::Created);
    daemon.run(daemon.engine.start_container(&id)).unwrap();
    assert!(matches!(daemon.state(&id), ContainerState::Running { .. }));
    daemon.run(daemon.engine.start_container(&id)).unwrap();
    assert_eq!(daemon.engine.container(&id).unwrap().user.unwrap().supplemental_groups, [2, 3]);
    daemon.run(daemon.engine.stop_container(&id, Duration::from_secs(30))).unwrap();
    assert_eq!(daemon.ended(&id).code, 143);
    assert!(matches!(daemon.run(daemon.engine.start_container(&id)), Err(EngineError::FailedPrecondition(_))));
    daemon.run(daemon.engine.remove_container(&id)).unwrap();
    assert!(matches!(daemon.engine.container(&id), Err(EngineError::NotFound(_))));
    daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
    node.assert_empty("a container's life");
}

#[test]
fn removing_the_pod_removes_its_containers() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    daemon.running(&pod, "runs", "stubborn");
    daemon.running(&pod, "ends", "true");
    daemon.run(daemon.engine.create_container(&pod, ctr("made", "sleep"))).unwrap();
    daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
    assert!(daemon.engine.containers(&ContainerFilter::default()).is_empty());
    node.assert_empty("the removal of a pod");
}

#[test]
fn a_program_that_ends_at_once_has_its_code() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let (good, bad) = (daemon.running(&pod, "good", "true"), daemon.running(&pod, "bad", "false"));
    let (good, bad) = (daemon.ended(&good), daemon.ended(&bad));
    assert_eq!((good.code, good.reason.as_str()), (0, "Completed"));
    assert_eq!((bad.code, bad.reason.as_str()), (1, "Error"));
}

#[test]
fn a_start_that_is_repeated_has_the_result_of_the_first() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let ended = daemon.running(&pod, "ended", "true");
    daemon.ended(&ended);
    let missing = daemon.run(daemon.engine.create_container(&pod, ctr("missing", "missing"))).unwrap();
    daemon.run(daemon.engine.start_container(&missing)).unwrap_err();
    let stopped = daemon.running(&pod, "stopped", "sleep");
    daemon.run(daemon.engine.stop_container(&stopped, Duration::from_secs(30))).unwrap();
    let first_end = daemon.ended(&ended);
    daemon.run(daemon.engine.start_container(&ended)).unwrap();
    for (id, why) in [(&missing, "could not be started"), (&stopped, "it was stopped")] {
        let error = daemon.run(daemon.engine.start_container(id)).unwrap_err();
        assert!(matches!(error, EngineError::FailedPrecondition(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    daemon.crash();
    let daemon = node.start();
    daemon.run(daemon.engine.start_container(&ended)).unwrap();
    assert_eq!(daemon.ended(&ended), first_end, "its program was not run again");
    daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
    node.assert_empty("starts that were repeated");
}

#[test]
fn a_start_that_fails_leaves_an_exited_container() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    for (program, code) in [("missing", 127), ("forbidden", 126)] {
        let id = daemon.run(daemon.engine.create_container(&pod, ctr(program, program))).unwrap();
        let error = daemon.run(daemon.engine.start_container(&id)).unwrap_err();
        assert!(error.to_string().contains(program), "{error}");
        let exit = daemon.ended(&id);
        assert_eq!((exit.code, exit.reason.as_str()), (code, "StartError"));
        assert!(exit.message.contains(program));
    }
    daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
    node.assert_empty("failed starts");
}

#[test]
fn the_same_request_gets_the_same_container() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let (one, two) = daemon.run(async {
        tokio::join!(
            daemon.engine.create_container(&pod, ctr("c", "sleep")),
            daemon.engine.create_container(&pod, ctr("c", "sleep"))
        )
    });
    let id = one.unwrap();
    assert_eq!(two.unwrap(), id);
    let error = daemon.run(daemon.engine.create_container(&pod, ctr("c", "other"))).unwrap_err();
    assert!(matches!(&error, EngineError::AlreadyExists(text) if text.contains(id.as_str())), "{error}");
    let next = ContainerConfig { attempt: 1, ..ctr("c", "other") };
    assert_ne!(daemon.run(daemon.engine.create_container(&pod, next)).unwrap(), id);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let config = ContainerConfig { image: "nothing".into(), ..ctr("c", "sleep") };
    let error = daemon.run(daemon.engine.create_container(&pod, config)).unwrap_err();
    assert!(matches!(&error, EngineError::NotFound(text) if text.contains("nothing")), "{error}");
    daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep"))).unwrap();
}

fn image_volume(image: &str, sub_path: &str) -> crate::model::Mount {
    crate::model::Mount {
        destination: "/image".into(),
        source: crate::model::MountSource::Image { image: image.into(), sub_path: sub_path.into() },
        readonly: true,
        recursive_readonly: false,
        propagation: crate::model::Propagation::Private,
        selinux_relabel: false,
        uid_mappings: vec![],
        gid_mappings: vec![],
    }
}

#[test]
fn image_volumes_are_held_while_the_container_exists() {
    let node = Node::new();
    node.world.add_image("data", crate::ports::ImageConfig::default());
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let mounts = vec![image_volume("data", "etc"), image_volume("busybox", "")];
    let id = daemon.run(daemon.engine.create_container(&pod, ContainerConfig { mounts, ..ctr("c", "sleep") })).unwrap();
    let told = daemon.engine.container(&id).unwrap();
    assert_eq!(told.volume_images.len(), 2);
    assert_eq!(told.volume_images[1], told.image_id);
    let held: std::collections::BTreeSet<_> = told.volume_images.iter().cloned().collect();
    assert_eq!(node.world.held_images(), held);
    drop(daemon);
    node.world.crash();
    let daemon = node.start();
    assert_eq!(node.world.held_images(), held);
    assert_eq!(daemon.engine.container(&id).unwrap().volume_images, told.volume_images);
    daemon.run(daemon.engine.remove_container(&id)).unwrap();
    assert!(node.world.held_images().is_empty());
}

#[test]
fn an_image_volume_that_can_not_be_is_refused_and_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let writable = crate::model::Mount { readonly: false, ..image_volume("busybox", "") };
    for bad in [image_volume("nothing", ""), image_volume("busybox", "missing/x"), writable] {
        let config = ContainerConfig { mounts: vec![bad], ..ctr("c", "sleep") };
        let error = daemon.run(daemon.engine.create_container(&pod, config)).unwrap_err();
        assert!(matches!(&error, EngineError::ImageVolume(_)), "{error:?}");
        assert!(error.to_string().contains("/image"), "{error}");
        assert!(node.world.held_images().is_empty());
    }
    daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep"))).unwrap();
}

#[test]
fn a_stopped_pod_takes_no_containers_and_starts_none() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep"))).unwrap();
    daemon.run(daemon.engine.stop_sandbox(&pod)).unwrap();
    let refused =
        |outcome: Result<(), EngineError>| assert!(matches!(outcome, Err(EngineError::FailedPrecondition(_))));
    refused(daemon.run(daemon.engine.create_container(&pod, ctr("d", "sleep"))).map(drop));
    refused(daemon.run(daemon.engine.start_container(&id)));
    let nowhere = SandboxId::from_random([7; 32]);
    let error = daemon.run(daemon.engine.create_container(&nowhere, ctr("c", "sleep"))).unwrap_err();
    assert!(matches!(error, EngineError::NotFound(_)));
}

#[test]
fn a_stubborn_program_is_killed_after_the_grace_and_at_once_without_one() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "stubborn");
    let clock = Instant::now();
    daemon.run(daemon.engine.stop_container(&id, Duration::from_millis(200))).unwrap();
    assert!(clock.elapsed() >= Duration::from_millis(200));
    assert_eq!(daemon.ended(&id).code, 137);
    let id = daemon.running(&pod, "d", "sleep");
    daemon.run(daemon.engine.stop_container(&id, Duration::ZERO)).unwrap();
    assert_eq!(daemon.ended(&id).code, 137);
}

#[test]
fn a_second_stop_may_be_more_impatient() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "stubborn");
    let (patient, impatient) = daemon.run(async {
        tokio::join!(
            daemon.engine.stop_container(&id, Duration::from_secs(600)),
            daemon.engine.stop_container(&id, Duration::ZERO)
        )
    });
    patient.unwrap();
    impatient.unwrap();
}

#[test]
fn what_the_kernel_holds_is_named_and_not_called_exited() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "immortal");
    let error = daemon.run(daemon.engine.stop_container(&id, Duration::ZERO)).unwrap_err();
    assert!(matches!(&error, EngineError::TimedOut(text) if text.contains("process 1000")), "{error}");
    assert!(matches!(daemon.state(&id), ContainerState::Running { .. }));
    node.world.exit(&id, 137);
    daemon.run(daemon.engine.remove_sandbox(&pod)).unwrap();
    node.assert_empty("a late death");
}

#[test]
fn containers_of_a_pod_do_not_wait_for_each_other() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let slow = daemon.running(&pod, "slow", "stubborn");
    daemon.run(async {
        let engine = daemon.engine.clone();
        let stop = tokio::spawn(async move { engine.stop_container(&slow, Duration::from_secs(600)).await });
        let other = daemon.engine.create_container(&pod, ctr("other", "sleep")).await.unwrap();
        daemon.engine.start_container(&other).await.unwrap();
        daemon.engine.remove_container(&other).await.unwrap();
        assert!(!stop.is_finished());
        stop.abort();
    });
}

#[test]
fn limits_are_merged_and_sent() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let resources = Resources { cpu_shares: Some(512), memory_limit_bytes: Some(1 << 24), ..Resources::default() };
    let config = ContainerConfig { resources, ..ctr("c", "sleep") };
    let id = daemon.run(daemon.engine.create_container(&pod, config)).unwrap();
    let asked = Resources { cpuset_cpus: "0".into(), cpu_shares: Some(0), ..Resources::default() };
    daemon.run(daemon.engine.update_container(&id, asked.clone())).unwrap();
    let snapshot = daemon.engine.container(&id).unwrap();
    assert_eq!((snapshot.resources.cpu_shares, snapshot.resources.cpuset_cpus.as_str()), (Some(512), "0"));
    assert!(snapshot.runtime_spec.contains("\"cpus\":\"0\"") && snapshot.runtime_spec.contains("\"shares\":512"));
    daemon.run(daemon.engine.start_container(&id)).unwrap();
    daemon.run(daemon.engine.update_container(&id, asked)).unwrap();
    let sent = node.world.calls().into_iter().find(|call| call.starts_with("shim.update_container")).unwrap();
    assert!(sent.contains("cpus") && !sent.contains("shares"), "{sent}");
    daemon.run(daemon.engine.stop_container(&id, Duration::ZERO)).unwrap();
    let late = daemon.run(daemon.engine.update_container(&id, Resources::default()));
    assert!(matches!(late, Err(EngineError::FailedPrecondition(_))));
}

#[test]
fn two_updates_at_once_forget_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let id = daemon.running(&pod, "c", "sleep");
    let config = node.disk.path().join("root/containers").join(id.as_str()).join("config.json");
    for round in 1..=50 {
        let memory = Resources { memory_limit_bytes: Some(round << 24), ..Resources::default() };
        let cpus = Resources { cpuset_cpus: round.to_string(), ..Resources::default() };
        // A caller's, and one that a part of the operator's own asks for.
        daemon.run(async {
            let (one, other) = (daemon.engine.clone(), daemon.engine.clone());
            let (id, same) = (id.clone(), id.clone());
            let one = tokio::spawn(async move { one.update_container(&id, memory).await });
            let other = tokio::spawn(async move { other.update_container_quietly(&same, cpus).await });
            one.await.unwrap().unwrap();
            other.await.unwrap().unwrap();
        });
        let snapshot = daemon.engine.container(&id).unwrap();
        let limits = (snapshot.resources.memory_limit_bytes, snapshot.resources.cpuset_cpus.clone());
        assert_eq!(limits, (Some(round << 24), round.to_string()));
        assert_eq!(std::fs::read_to_string(&config).unwrap(), *snapshot.runtime_spec);
    }
}

#[test]
fn lists_are_filtered() {
    let node = Node::new();
    let daemon = node.start();
    let (a, b) = (daemon.sandbox("a"), daemon.sandbox("b"));
    let one = daemon.running(&a, "one", "sleep");
    let two = daemon.run(daemon.engine.create_container(&b, ctr("two", "sleep"))).unwrap();
    let ids = |filter: ContainerFilter| -> Vec<ContainerId> {
        daemon.engine.containers(&filter).into_iter().map(|c| c.id).collect()
    };
    assert_eq!(ids(ContainerFilter { sandbox: Some(a), ..ContainerFilter::default() }), std::slice::from_ref(&one));
    let created = ContainerFilter { state: Some(ContainerStateKind::Created), ..ContainerFilter::default() };
    assert_eq!(ids(created), [two]);
    assert_eq!(ids(ContainerFilter { id: Some(one.clone()), ..ContainerFilter::default() }), [one]);
}

#[test]
fn a_missing_volume_is_made_as_a_directory() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let source = node.disk.path().join("volume/deep");
    let mount = crate::model::Mount {
        destination: "/data".into(),
        source: crate::model::MountSource::Host(source.clone()),
        readonly: false,
        recursive_readonly: false,
        propagation: crate::model::Propagation::Private,
        selinux_relabel: false,
        uid_mappings: vec![],
        gid_mappings: vec![],
    };
    daemon
        .run(daemon.engine.create_container(&pod, ContainerConfig { mounts: vec![mount], ..ctr("c", "sleep") }))
        .unwrap();
    assert!(source.is_dir());
}
