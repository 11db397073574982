//! Hooks around the life of a container, as the shim runs them.

use std::fs;
use std::time::Duration;

use podwright_shim_api::StartContainer;
use podwright_shim_api::client::ClientError;
use serde_json::{Value, json};

use crate::world::{World, bytes, shell};

fn with_hooks(script: &str, hooks: Value) -> Value {
    let mut spec = shell(script);
    spec["hooks"] = hooks;
    spec["annotations"] = json!({"told": "to hooks"});
    spec
}

fn host(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn request(world: &World, container: &str) -> StartContainer {
    let bundle = world.path(&format!("bundle-{container}"));
    fs::create_dir_all(&bundle).unwrap();
    StartContainer { bundle: Some(bytes(&bundle)), ..world.request(container) }
}

#[tokio::test]
async fn root_poststop_hooks_hold_up_the_deletion_and_not_the_end() {
    let mut world = World::with_pod().await;
    let (go, told) = (world.path("go"), world.path("told"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, 0o600.into()).unwrap();
    // Until somebody writes to the fifo.
    let hook = host(&format!("cat > {}; cat {}", told.display(), go.display()));
    world.start(request(&world, "c"), &with_hooks("exit 3", json!({"poststop": [hook]}))).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 3);
    let error = world.client.delete_container("c").await.unwrap_err();
    assert!(error.to_string().contains("poststop hooks still run"), "{error}");
    fs::write(&go, "go").unwrap();
    while world.client.delete_container("c").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let state: Value = serde_json::from_str(&fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!((&state["status"], &state["id"]), (&json!("stopped"), &json!("c")));
    assert_eq!(state["annotations"]["told"], "to hooks");
    world.finish().await;
}

#[tokio::test]
async fn root_a_hook_that_fails_undoes_the_start_and_poststop_hooks_run() {
    let world = World::with_pod().await;
    let told = world.path("told");
    let hooks = json!({
        "createRuntime": [host("echo no gadget >&2; exit 1")],
        "poststop": [host(&format!("echo told > {}", told.display()))],
    });
    let error = world.start(request(&world, "c"), &with_hooks("true", hooks)).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("(createRuntime): it ended with code 1; it said: no gadget"), "{error}");
    while !world.client.state().await.unwrap().0.containers.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fs::read_to_string(told).unwrap(), "told\n");
    // Hooks without a bundle would be told a lie.
    let hooks = json!({"createRuntime": [host("true")]});
    let error = world.start(world.request("d"), &with_hooks("true", hooks)).await.unwrap_err();
    assert!(error.to_string().contains("no bundle is named"), "{error}");
    world.finish().await;
}
