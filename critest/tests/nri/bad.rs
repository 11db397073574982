//! Bad plugins: what they do costs the one request that they were asked about, and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::ContainerState;
use podwright_critest::{World, WorldBuilder, with_world_of};
use podwright_nri::api::{
    ContainerAdjustment, ContainerEviction, ContainerUpdate, CreateContainerResponse, KeyValue, Mount,
    UpdateContainersRequest,
};
use podwright_testutil::Daemon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::mock::{Answer, Manners, Mock};
use crate::{refusal, told};

/// For what the daemon does by itself.
const WITHIN: Duration = Duration::from_secs(60);

fn short_patience() -> WorldBuilder {
    WorldBuilder::daemon(Daemon::builder().nri("registration_seconds = 1\nrequest_seconds = 1\n"))
}

fn descriptors(world: &World) -> Result<usize> {
    let pid = world.daemon.pid().context("the daemon does not run")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

async fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + WITHIN;
    while !is_so()? {
        ensure!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[test]
fn root_a_bad_answer_fails_one_request() {
    with_world_of(short_patience(), async |world| {
        let pod = world.run_pod_named("victims").await?;
        let before = descriptors(world)?;
        for (number, (answer, says)) in [
            (Answer::Never, "it did not answer within 1000 ms"),
            (Answer::Rubbish, "its answer can not be understood"),
            (Answer::HangUp, "its connection ended"),
        ]
        .into_iter()
        .enumerate()
        {
            let mock = Mock::join(&world.daemon, Manners { create: answer, ..Manners::default() }).await?;
            let config = told(world, &format!("victim-{number}"), &[]);
            let error = refusal(world, &pod, &config).await;
            ensure!(error.contains("50-mock, CreateContainer") && error.contains(says), "{error}");
            mock.is_let_go().await?;
            // The same is made without it.
            world.run(&pod, &config).await.context("the next one")?;
        }
        ensure!(world.daemon.log().matches("an NRI plugin has left").count() >= 3, "the log tells");
        world.remove_pod(&pod.id).await?;
        until("descriptors are left open", || Ok(descriptors(world)? <= before)).await
    });
}

#[test]
fn root_liars_do_not_join() {
    with_world_of(short_patience(), async |world| {
        let before = descriptors(world)?;
        for (index, name) in [("5", "short"), ("xx", "letters"), ("50", ""), ("50", "a/../b"), ("50", "a\nb")] {
            let refused = Mock::dial(&world.daemon, Manners { index, name, ..Manners::default() }).await?;
            let refused = refused.err().with_context(|| format!("{index}-{name} was taken"))?;
            ensure!(!refused.is_fatal(), "it is told why: {refused}");
        }
        // Events that nobody knows.
        let unknown = Manners { events: 1 << 20, ..Manners::default() };
        // Its end may overtake the answer to its registration.
        if let Ok(unknown) = Mock::dial(&world.daemon, unknown).await? {
            unknown.is_let_go().await?;
        }
        // One that takes what is there and does not answer holds makings up for its time, and not longer.
        let silent = Manners { is_synchronised: false, ..Manners::default() };
        let silent = Mock::dial(&world.daemon, silent).await?.context("it could register")?;
        silent.is_let_go().await?;
        let log = world.daemon.log();
        ensure!(log.contains("asks for events") && log.contains("Synchronize: it did not answer"), "the log tells why");
        // Calls of one that is not registered.
        let socket = UnixStream::connect(world.daemon.path("nri.sock")).await?;
        let wire = podwright_ttrpc::Wire::Shared { calls: 2, serves: 1 };
        let stranger = podwright_ttrpc::Connection::open(socket, wire, None);
        let update = ("nri.pkg.api.v1alpha1.Runtime", "UpdateContainers");
        let request = UpdateContainersRequest::default();
        let refused = stranger.call::<_, podwright_nri::api::Empty>(update, &request, WITHIN).await;
        ensure!(refused.as_ref().is_err_and(|error| error.to_string().contains("not registered")), "{refused:?}");
        tokio::time::timeout(WITHIN, stranger.closed()).await.context("who does not register is let go of")?;
        until("descriptors are left open", || Ok(descriptors(world)? <= before)).await?;
        let pod = world.run_pod_named("after").await?;
        let config = told(world, "main", &[]);
        world.run(&pod, &config).await?;
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_rubbish_on_the_socket_is_hung_up_on() {
    with_world_of(short_patience(), async |world| {
        let before = descriptors(world)?;
        let huge_frame = [&1_u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat();
        let huge_message =
            [&2_u32.to_be_bytes()[..], &10_u32.to_be_bytes(), &u32::MAX.to_be_bytes(), &1_u32.to_be_bytes(), &[1, 0]]
                .concat();
        for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), huge_frame, huge_message, vec![0xff; 1 << 16]] {
            let mut socket = UnixStream::connect(world.daemon.path("nri.sock")).await?;
            // It may hang up in the middle.
            let _ = socket.write_all(&bytes).await;
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(WITHIN, socket.read_to_end(&mut rest)).await;
            ended.context("it does not hang up")?.ok();
        }
        // More than there are places: the ones beyond are hung up on, the others when their time is over.
        let mut sockets = Vec::new();
        for _ in 0..100 {
            sockets.push(UnixStream::connect(world.daemon.path("nri.sock")).await?);
        }
        for mut socket in sockets {
            let ended = tokio::time::timeout(WITHIN, socket.read_to_end(&mut Vec::new())).await;
            ended.context("it keeps one that says nothing")?.ok();
        }
        until("descriptors are left open", || Ok(descriptors(world)? <= before)).await?;
        let log = world.daemon.log();
        ensure!(log.contains("which there is not") && log.contains("there are 64 NRI plugins"), "the log tells");
        Mock::join(&world.daemon, Manners::default()).await.context("a good one")?;
        Ok(())
    });
}

#[test]
fn root_a_plugin_that_floods_is_served_in_turn() {
    with_world_of(short_patience(), async |world| {
        let pod = world.run_pod_named("flooded").await?;
        let mut config = told(world, "main", &[]);
        let id = world.run(&pod, &config).await?;
        let mock = std::sync::Arc::new(Mock::join(&world.daemon, Manners::default()).await?);
        let mut flood = tokio::task::JoinSet::new();
        for number in 0..300 {
            let mock = mock.clone();
            let update = ContainerUpdate { container_id: format!("{number:064x}"), ..ContainerUpdate::default() };
            let request = UpdateContainersRequest { update: vec![update], evict: Vec::new() };
            flood.spawn(async move { mock.update(&request).await });
        }
        config.metadata.get_or_insert_default().name = "meanwhile".into();
        world.run(&pod, &config).await.context("while it floods")?;
        for answer in flood.join_all().await {
            ensure!(answer.as_ref().is_ok_and(|answer| answer.failed.len() == 1), "{answer:?}");
        }
        // It has a container stopped.
        let evict = vec![ContainerEviction { container_id: id.clone(), reason: "a test".into() }];
        mock.update(&UpdateContainersRequest { update: Vec::new(), evict }).await.context("evicting")?;
        let status = world.wait(&id, 60).await?;
        ensure!(status.state() == ContainerState::ContainerExited && status.exit_code == 137, "{status:?}");
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_a_plugin_may_mount_what_root_may_and_no_text_is_a_control_key() {
    with_world_of(WorldBuilder::default(), async |world| {
        let pod = world.run_pod_named("trusted").await?;
        let mount = |destination: &str, source: &str| Mount {
            destination: destination.into(),
            r#type: "bind".into(),
            source: source.into(),
            options: vec!["rbind".into(), "ro".into()],
        };
        let answer = |mounts: Vec<Mount>, env: Vec<KeyValue>| {
            let adjust = Some(ContainerAdjustment { mounts, env, ..ContainerAdjustment::default() });
            Answer::This(Box::new(CreateContainerResponse { adjust, ..CreateContainerResponse::default() }))
        };
        // It is as trusted as who installed it; what it asks for is done, or an error that tells.
        let host = Manners { create: answer(vec![mount("/host", "/etc")], Vec::new()), ..Manners::default() };
        let mock = Mock::join(&world.daemon, host).await?;
        let mut config = told(world, "victim", &[]);
        // No annotation of a user reaches the plugin's part, or the runtime's.
        config.annotations.insert("cdi.nri.io/container.victim".into(), "vendor.com/gadget=a".into());
        config.annotations.insert("org.systemd.property.MemoryMax".into(), "1".into());
        let id = world.run(&pod, &config).await?;
        ensure!(world.sh(&id, "cat /host/hostname >/dev/null && echo seen").await? == "seen", "the host's directory");
        drop(mock);
        let gone = mount("/host", "/no/such/place");
        let lost = Manners { create: answer(vec![gone], Vec::new()), ..Manners::default() };
        let mock = Mock::join(&world.daemon, lost).await?;
        config.metadata.get_or_insert_default().name = "victim-of-nothing".into();
        let error = match world.run(&pod, &config).await {
            Ok(id) => format!("{id} runs"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(error.contains("/no/such/place"), "{error}");
        drop(mock);
        world.remove_pod(&pod.id).await
    });
}
