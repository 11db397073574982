//! The stages of a layer, one failing at a time.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::*;

/// Names and statuses of this process's threads.
fn threads() -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let fields = |text: String| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
    };
    texts.map(fields).collect()
}

#[tokio::test]
async fn stages_have_the_capabilities_that_their_work_takes_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let digest = Digest::from_sha256(&[7; 32]);
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let job = LayerJob {
        digest: digest.clone(),
        size: 1 << 20,
        key: None,
        unpack: Some((tree, digest)),
        limits: Limits::default(),
        name: "confined".into(),
    };
    // Nothing is sent, so the stages wait.
    let (sender, pieces) = pieces();
    let running = tokio::spawn(run(job, Origin::Download { file: directory.path().join("part"), pieces }));
    let own = own_permitted();
    let end = Instant::now() + Duration::from_secs(60);
    for (name, kept) in
        [("layer-unpack", UNPACKING.bits()), ("layer-inflate", 0), ("layer-store", CapabilitySet::DAC_OVERRIDE.bits())]
    {
        // The threads may not have come to it, and those of other tests have the same names.
        let wanted = format!("{:016x}", own & kept);
        let is_it = |thread: &BTreeMap<String, String>| {
            thread["Name"] == name && thread["CapPrm"] == wanted && thread["NoNewPrivs"] == "1"
        };
        while !threads().iter().any(is_it) {
            assert!(Instant::now() < end, "{name} is not left with {wanted}: {:?}", threads());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    drop(sender);
    assert!(running.await.unwrap().is_err(), "it was given up");
}

fn own_permitted() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}
