//! What is wrong on disk is put aside and never stops the start.

use super::*;
use crate::SandboxFilter;
use crate::model::SandboxState;

fn damage(change: impl Fn(&Path)) -> (Node, Daemon, SandboxId) {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    daemon.crash();
    let _ = container;
    change(&node.disk.path().join("root/sandboxes").join(id.as_str()).join("record.json"));
    let daemon = node.start();
    (node, daemon, id)
}

fn put_aside(change: impl Fn(&Path)) {
    let (node, daemon, _) = damage(change);
    assert!(daemon.engine.sandboxes(&SandboxFilter::default()).is_empty());
    assert!(daemon.report.notes.iter().any(|note| note.contains("put aside")), "{:?}", daemon.report.notes);
    assert_eq!(entries(&node.disk.path().join("root/quarantine")).len(), 1);
    assert_eq!(node.world.left_over(), Vec::<String>::new());
    daemon.sandbox("a");
}

#[test]
fn a_torn_record_is_put_aside() {
    put_aside(|path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn over_a_record_of_a_later_release_the_daemon_does_not_start() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    daemon.crash();
    let path = node.disk.path().join("root/sandboxes").join(id.as_str()).join("record.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
    let error = node.try_start("boot 1").err().unwrap().to_string();
    assert!(error.contains("later podwrightd") && error.contains(path.to_str().unwrap()), "{error}");

    std::fs::write(&path, text).unwrap();
    let daemon = node.start();
    assert!(matches!(daemon.state(&container), crate::model::ContainerState::Running { .. }), "nothing was touched");
}

#[test]
fn an_empty_record_is_put_aside() {
    put_aside(|path| std::fs::write(path, b"").unwrap());
}

#[test]
fn a_container_whose_record_is_torn_does_not_run_unseen() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let id = daemon.running(&sandbox, "c", "stubborn");
    daemon.crash();
    std::fs::write(node.disk.path().join("root/containers").join(id.as_str()).join("record.json"), b"{").unwrap();
    let before = node.world.calls().len();
    let daemon = node.start();
    let killed = format!("shim.signal_container {sandbox}");
    assert_eq!(node.world.calls()[before..].iter().filter(|call| **call == killed).count(), 1);
    assert_eq!(daemon.engine.sandbox(&sandbox).unwrap().state, SandboxState::Ready);
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    assert_eq!(node.world.left_over(), Vec::<String>::new());
}

#[test]
fn a_directory_without_a_record_goes() {
    let (node, daemon, _) = damage(|path| std::fs::remove_file(path).unwrap());
    assert!(daemon.engine.sandboxes(&SandboxFilter::default()).is_empty());
    assert!(entries(&node.disk.path().join("root/sandboxes")).is_empty());
}

#[test]
fn strange_files_between_the_records_do_not_matter() {
    let (node, daemon, id) = damage(|path| {
        std::fs::write(path.with_extension("tmp"), b"half").unwrap();
        std::fs::write(path.parent().unwrap().parent().unwrap().join("stray"), b"x").unwrap();
    });
    assert_eq!(daemon.engine.sandbox(&id).unwrap().state, SandboxState::Ready);
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    assert_eq!(node.world.left_over(), Vec::<String>::new());
}

#[test]
fn bytes_of_the_environment_survive() {
    let environment = vec![("A".to_owned(), b"text".to_vec()), ("B".to_owned(), vec![0xff, 1])];
    let config = ContainerConfig { environment, ..ctr("c", "sleep") };
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains("[\"A\",\"text\"]"), "{text}");
    assert_eq!(serde_json::from_str::<ContainerConfig>(&text).unwrap(), config);
}

/// Lets every try to write the record fail, as a full disk does.
fn full(node: &Node, kind: &str, id: &str) -> std::path::PathBuf {
    let blocked = node.disk.path().join("root").join(kind).join(id).join("record.tmp");
    // A record that is just being written has this name for a moment.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = std::fs::create_dir(&blocked) {
        assert!(error.kind() == std::io::ErrorKind::AlreadyExists && std::time::Instant::now() < end, "{error}");
        std::thread::yield_now();
    }
    blocked
}

#[test]
fn what_can_not_be_recorded_can_be_stopped_and_removed() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let [removed, kept] = ["c", "d"].map(|name| daemon.running(&sandbox, name, "sleep"));
    full(&node, "sandboxes", sandbox.as_str());
    full(&node, "containers", removed.as_str());
    full(&node, "containers", kept.as_str());
    daemon.run(daemon.engine.stop_container(&removed, std::time::Duration::ZERO)).unwrap();
    daemon.run(daemon.engine.remove_container(&removed)).unwrap();
    daemon.run(daemon.engine.stop_sandbox(&sandbox)).unwrap();
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    node.assert_empty("the removal");
}

#[test]
fn a_daemon_that_dies_while_nothing_can_be_recorded_leaves_what_can_be_removed() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let container = daemon.running(&sandbox, "c", "sleep");
    full(&node, "sandboxes", sandbox.as_str());
    full(&node, "containers", container.as_str());
    daemon.run(daemon.engine.stop_sandbox(&sandbox)).unwrap();
    daemon.crash();
    let daemon = node.start();
    assert_eq!(daemon.engine.sandbox(&sandbox).unwrap().state, SandboxState::NotReady);
    assert!(matches!(daemon.state(&container), crate::model::ContainerState::Exited { .. }));
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    node.assert_empty("the removal");
}

#[test]
fn an_end_that_could_not_be_recorded_is_recorded_when_there_is_room_again() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let container = daemon.running(&sandbox, "c", "sleep");
    let blocked = full(&node, "containers", container.as_str());
    daemon.run(daemon.engine.stop_container(&container, std::time::Duration::ZERO)).unwrap();
    std::fs::remove_dir(&blocked).unwrap();
    let record = blocked.with_extension("json");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !std::fs::read_to_string(&record).unwrap().contains("\"Exited\"") {
        assert!(std::time::Instant::now() < end, "{}", std::fs::read_to_string(&record).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
