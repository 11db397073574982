//! Volumes that need no API server. Projected ones do, by a decision of kubelet, even where their sources do not.

use anyhow::ensure;
use serde_json::json;

use crate::node::with_node;

#[test]
fn root_volumes_that_need_no_api_hold_what_they_should() {
    with_node(json!({}), async |node| {
        let dir = node.world.daemon.path("of-the-host");
        std::fs::create_dir_all(dir.join("sub"))?;
        std::fs::write(dir.join("sub/file"), "from the host")?;
        let write = "echo shared >/data/word && dd if=/dev/zero of=/memory/big bs=1M count=8 && ! dd if=/dev/zero of=/memory/more bs=1M count=8";
        let mut first = node.shell("first", write);
        let mut main = node.shell("main", "sleep 1000");
        let mounts = json!([
            {"name": "data", "mountPath": "/data"}, {"name": "memory", "mountPath": "/memory"},
            {"name": "host", "mountPath": "/host", "readOnly": true}, {"name": "host", "mountPath": "/one", "subPath": "sub"},
            {"name": "down", "mountPath": "/down"}, {"name": "both", "mountPath": "/both"},
            {"name": "image", "mountPath": "/image"}, {"name": "image", "mountPath": "/image-etc", "subPath": "etc"},
        ]);
        first["volumeMounts"] = mounts.clone();
        main["volumeMounts"] = mounts;
        main["resources"] = json!({"limits": {"memory": "48Mi"}});
        main["env"] = json!([
            {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ]);
        let spec = json!({
            "terminationGracePeriodSeconds": 1, "initContainers": [first], "containers": [main],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}},
                {"name": "host", "hostPath": {"path": dir, "type": "Directory"}},
                {"name": "down", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "both", "downwardAPI": {"items": [
                    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                    {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"}},
                ]}},
                {"name": "image", "image": {"reference": node.world.image, "pullPolicy": "IfNotPresent"}},
            ],
        });
        node.add_with("volumes", &json!({"labels": {"kind": "test"}}), &spec)?;
        let pod = node.ready("volumes").await?;
        let cases = [
            ("cat /data/word", "shared"),
            ("stat -c %s /memory/big", "8388608"),
            ("cat /host/sub/file", "from the host"),
            ("cat /one/file", "from the host"),
            ("touch /host/x 2>/dev/null || echo refused", "refused"),
            ("cat /down/labels", "kind=\"test\""),
            ("cat /both/name", "volumes-node1"),
            ("cat /both/memory", "50331648"),
            ("test -x /image/bin/busybox && touch /image/x 2>/dev/null || echo read-only", "read-only"),
            ("head -n 1 /image-etc/passwd", "root:x:0:0:root:/root:/bin/sh"),
            ("echo $WHERE", "node1"),
        ];
        for (script, expected) in cases {
            let said = node.sh(&pod, "main", script).await?;
            ensure!(said == expected, "{script}: {said:?}");
        }
        ensure!(node.sh(&pod, "main", "echo $ADDRESS").await? == pod.ip(), "the address in the environment");
        Ok(())
    });
}
