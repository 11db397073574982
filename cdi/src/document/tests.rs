use serde_json::{Value, json};

use super::*;

fn file() -> Value {
    json!({
        "cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}}],
    })
}

fn why(change: impl FnOnce(&mut Value)) -> String {
    let mut file = file();
    change(&mut file);
    parse(file.to_string().as_bytes(), Form::Json).err().unwrap_or_default()
}

#[test]
fn json_and_yaml_say_the_same() {
    let yaml = "cdiVersion: \"0.6.0\"\nkind: vendor.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/null\n      fileMode: 0o600\n    mounts:\n    - {hostPath: /a, containerPath: /b, options: [ro]}\n";
    let document = parse(yaml.as_bytes(), Form::Yaml).unwrap();
    assert_eq!(document.devices[0].name, "0");
    assert_eq!(document.devices[0].container_edits.device_nodes[0].file_mode, Some(0o600));
    assert_eq!(document.devices[0].container_edits.mounts[0].options, ["ro"]);
    assert_eq!(why(|_| {}), "");
}

#[test]
fn what_can_not_be_is_refused() {
    type Change = fn(&mut Value);
    let edits = |file: &mut Value, edits: Value| file["devices"][0]["containerEdits"] = edits;
    let _ = edits;
    let cases: [(Change, &str); 13] = [
        (|f| f["cdiVersion"] = json!("9.0.0"), "is not known; up to 1.1.0 is read"),
        (|f| f["cdiVersion"] = json!("0.4.0"), "begins with a digit, which came with version 0.5.0"),
        (|f| f["kind"] = json!("gpu"), "no vendor"),
        (|f| f["devices"] = json!([]), "no device"),
        (|f| f["devices"][0]["name"] = json!("-"), "neither begins"),
        (|f| f["devices"][0]["containerEdits"] = json!({}), "changes nothing"),
        (|f| f["containerEdits"] = json!({"env": ["NOTHING"]}), "NAME=value"),
        (|f| f["containerEdits"] = json!({"deviceNodes": [{"path": "dev"}]}), "no absolute path"),
        (|f| f["containerEdits"] = json!({"deviceNodes": [{"path": "/d", "type": "x"}]}), "type \"x\""),
        (|f| f["containerEdits"] = json!({"deviceNodes": [{"path": "/d", "permissions": "rx"}]}), "\"rx\""),
        (|f| f["containerEdits"] = json!({"hooks": [{"hookName": "later", "path": "/h"}]}), "of no stage"),
        (
            |f| f["containerEdits"] = json!({"netDevices": [{"hostInterfaceName": "e"}]}),
            "netDevices, which came with version 1.1.0",
        ),
        (|f| f["unknown"] = json!(1), "unknown field"),
    ];
    for (change, expected) in cases {
        let why = why(change);
        assert!(why.contains(expected), "{why:?} has no {expected:?}");
    }
}
