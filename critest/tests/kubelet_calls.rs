//! Plays the calls that a kubelet made against the daemon, where there is no kubelet: the life of a pod with an init container,
//! a sidecar and a container that is restarted, its end, and the collecting of garbage.
//!
//! Ids, addresses and paths are this run's; everything else of an answer must be as recorded. What ends by itself may have ended
//! sooner or later here, so a look is repeated until it brings what was recorded, or what was recorded of a later one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_critest::calls::message::{Field, decode, encode};
use podwright_critest::calls::{Call, Names, raw, read};
use podwright_critest::{World, with_world};
use podwright_testutil::CgroupDriver;
use tonic::Request;
use tonic::transport::Channel;

/// Recorded from a kubelet 1.36.
const LIFE_OF_A_POD: &str = include_str!("../fixtures/kubelet-1.36-life-of-a-pod.calls");
/// Time for what ends by itself.
const WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[test]
fn root_the_recorded_life_of_a_pod_is_answered_as_then() {
    if CgroupDriver::from_env() == CgroupDriver::Systemd {
        println!("a kubelet that makes cgroups itself was recorded, and here systemd makes them: nothing was tried");
        return;
    }
    with_world(async |world| {
        let calls = read(LIFE_OF_A_POD)?;
        let mut replay = Replay { names: names(world), channel: world.daemon.channel().await? };
        for (index, call) in calls.iter().enumerate() {
            let later = calls.get(index + 1..).unwrap_or_default();
            replay.play(call, later).await.with_context(|| format!("call {index}, {}", call.method))?;
        }
        ensure!(world.pods().await?.is_empty(), "the last calls of the life remove the pod");
        remove_cgroups(world)
    });
}

struct Replay {
    names: Names,
    channel: Channel,
}

impl Replay {
    async fn play(&mut self, call: &Call, later: &[Call]) -> Result<()> {
        for path in &call.paths {
            make(&self.names.text(path))?;
        }
        let end = Instant::now() + WITHIN;
        loop {
            let request = self.names.apply(&call.request);
            let reply = raw::call(&self.channel, &call.method, Request::new(encode(&request).into())).await;
            let answer = match &reply {
                Ok(reply) => Ok(decode(reply.get_ref())?),
                Err(status) => Err(status.code().into()),
            };
            let outcome = self.same(call, &answer);
            if outcome.is_ok() || (call.is_read() && self.is_ahead(call, later, &answer)) {
                return Ok(());
            }
            if !call.is_read() || Instant::now() > end {
                return outcome.with_context(|| format!("the answer: {reply:?}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn same(&mut self, call: &Call, answer: &Result<Vec<Field>, i32>) -> Result<()> {
        match (&call.answer, answer) {
            (Ok(_), Ok(_)) if call.is_measure() => Ok(()),
            (Ok(recorded), Ok(actual)) => self.names.same(recorded, actual),
            (recorded, actual) => {
                ensure!(recorded == actual, "{recorded:?} was recorded, and now {actual:?} came");
                Ok(())
            }
        }
    }

    /// Whether a look brought what was recorded of a later look at the same.
    fn is_ahead(&self, call: &Call, later: &[Call], answer: &Result<Vec<Field>, i32>) -> bool {
        // What is learned from a guess is forgotten.
        let mut same = later.iter().filter(|one| one.method == call.method && one.request == call.request);
        same.any(|one| Self { names: self.names.clone(), channel: self.channel.clone() }.same(one, answer).is_ok())
    }
}

fn names(world: &World) -> Names {
    let mut names = Names::default();
    names.set("$DIR", world.daemon.path("").display().to_string().trim_end_matches('/'));
    names.set("$REGISTRY", world.registry.address());
    names.set("$CGROUP", &world.daemon.host().cgroup_parent());
    names
}

/// Removes the cgroups above pods, which are kubelet's: a runtime makes them where they are missing and leaves them.
fn remove_cgroups(world: &World) -> Result<()> {
    const SCRIPT: &str = r#"
        for dir in /sys/fs/cgroup/$0 /sys/fs/cgroup/*/$0; do
            if test -d $dir; then find $dir -mindepth 1 -depth -type d -exec rmdir {} +; fi
        done"#;
    let host = world.daemon.host();
    host.run(&["sh", "-c", SCRIPT, host.cgroup_parent().trim_start_matches('/')]).map(drop)
}

/// Makes what kubelet had made before it asked.
fn make(path: &str) -> Result<()> {
    let what = || format!("making {path}");
    if path.ends_with('/') {
        return fs::create_dir_all(path).with_context(what);
    }
    fs::create_dir_all(Path::new(path).parent().context("a path without a directory")?).with_context(what)?;
    fs::File::options().create(true).append(true).open(path).with_context(what)?;
    Ok(())
}
