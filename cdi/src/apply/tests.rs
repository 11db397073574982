use serde_json::{Value, json};

use super::*;

fn spec() -> Spec {
    serde_json::from_value(json!({
        "ociVersion": "1.1.0",
        "process": {"user": {"uid": 1000, "gid": 0, "additionalGids": [5]}, "cwd": "/", "env": ["A=1", "PATH=/bin"]},
        "mounts": [{"destination": "/lib/x/deep"}, {"destination": "/data"}],
        "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}},
    }))
    .unwrap()
}

fn applied(edits: Value) -> Result<Value, String> {
    let mut spec = spec();
    apply(&serde_json::from_value(edits).unwrap(), &mut spec)?;
    Ok(serde_json::to_value(&spec).unwrap())
}

#[test]
fn a_device_is_looked_up_on_the_host() {
    let done =
        applied(json!({"deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/null", "permissions": "r"}]})).unwrap();
    let device = &done["linux"]["devices"][0];
    assert_eq!((&device["path"], &device["type"]), (&json!("/dev/mine"), &json!("c")));
    assert_eq!((&device["major"], &device["minor"], &device["fileMode"]), (&json!(1), &json!(3), &json!(0o666)));
    assert_eq!((&device["uid"], device.get("gid")), (&json!(1000), None), "it is the user's");
    let rules = done["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules[1], json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}));
    assert!(
        applied(json!({"deviceNodes": [{"path": "/dev/nothing-of-this-name"}]})).unwrap_err().contains("No such file")
    );
    assert!(applied(json!({"deviceNodes": [{"path": "/etc/passwd"}]})).unwrap_err().contains("is no device"));
    let other = json!({"deviceNodes": [{"path": "/dev/null", "type": "c", "major": 7}]});
    assert!(applied(other).unwrap_err().contains("another device on this node"));
    let said = json!({"deviceNodes": [{"path": "/dev/absent", "type": "b", "major": 8, "minor": 1, "uid": 3}]});
    assert_eq!(applied(said).unwrap()["linux"]["devices"][0]["uid"], 3);
}

#[test]
fn environment_groups_mounts_and_hooks_are_added() {
    let done = applied(json!({
        "env": ["A=2", "B=3"], "additionalGids": [0, 5, 44],
        "mounts": [{"hostPath": "/h", "containerPath": "/lib/x", "options": ["ro"]}, {"hostPath": "/d", "containerPath": "/data", "type": "tmpfs"}],
        "hooks": [{"hookName": "createContainer", "path": "/h1"}, {"hookName": "createContainer", "path": "/h2", "args": ["h2", "x"]}],
    }))
    .unwrap();
    assert_eq!(done["process"]["env"], json!(["PATH=/bin", "A=2", "B=3"]));
    assert_eq!(done["process"]["user"]["additionalGids"], json!([5, 44]));
    let destinations: Vec<_> =
        done["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    assert_eq!(destinations, ["/lib/x", "/lib/x/deep", "/data"], "nothing is hidden");
    assert_eq!(done["mounts"][0]["options"], json!(["ro", "rbind"]));
    assert_eq!(done["mounts"][2]["type"], "tmpfs");
    assert_eq!(done["hooks"]["createContainer"][1], json!({"path": "/h2", "args": ["h2", "x"]}));
}

#[test]
fn what_is_not_done_is_told() {
    assert!(applied(json!({"intelRdt": {"closID": "x"}})).unwrap_err().contains("Intel RDT"));
    assert!(applied(json!({"netDevices": [{"hostInterfaceName": "ens1"}]})).unwrap_err().contains("ens1"));
}
