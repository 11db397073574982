//! The life of containers: ends, logs, exec, and a daemon that dies meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use podwright_cri_api::v1::{
    ContainerState, ExecSyncRequest, NamespaceMode, PodSandboxState, ReopenContainerLogRequest,
};
use podwright_critest::{container, linux, read_growing_log, read_log, shell, with_world};
use tonic::Code;

#[test]
fn root_exit_codes_and_reasons() {
    with_world(async |world| {
        // With the pod's processes in one namespace: process 1 of a namespace can not kill itself.
        let mut config = world.pod("ends");
        let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        security.context("no security context")?.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
        let pod = world.run_pod(config).await?;
        let image = world.image.clone();
        for (name, script, code, reason) in [
            ("zero", "exit 0", 0, "Completed"),
            ("forty-two", "exit 42", 42, "Error"),
            ("signal", "kill -9 $$", 137, "Error"),
        ] {
            let mut config = shell(name, &image, script);
            linux(&mut config).1.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
            let status = world.run_to_end(&pod, &config).await?;
            ensure!(status.exit_code == code && status.reason == reason, "{name}: {status:?}");
            ensure!(status.finished_at >= status.started_at && status.started_at >= status.created_at, "{status:?}");
        }
        Ok(())
    });
}

#[test]
fn root_a_program_that_is_not_there_is_an_error() {
    with_world(async |world| {
        let pod = world.run_pod_named("missing").await?;
        let config = container("main", &world.image, &["/no/such/program"]);
        let id = world.create(&pod, &config).await?;
        let error = world.start(&id).await.err().context("the start succeeded")?;
        ensure!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
        let status = world.status(&id).await?;
        ensure!(status.state() == ContainerState::ContainerExited && status.exit_code != 0, "{status:?}");
        world.remove(&id).await
    });
}

#[test]
fn root_stop_waits_for_the_grace_period_and_not_longer() {
    with_world(async |world| {
        let pod = world.run_pod_named("stops").await?;
        let image = world.image.clone();
        let polite = shell("polite", &image, "trap 'sleep 0.3; exit 3' TERM; echo up; while :; do sleep 0.05; done");
        let stubborn = shell("stubborn", &image, "trap '' TERM; echo up; while :; do sleep 0.05; done");
        let polite = world.run(&pod, &polite).await?;
        let stubborn = world.run(&pod, &stubborn).await?;
        world.wait_for_log(&pod, "polite", "up").await?;
        world.wait_for_log(&pod, "stubborn", "up").await?;

        world.stop(&polite, 20).await?;
        ensure!(world.status(&polite).await?.exit_code == 3, "the container could end by itself");
        let start = Instant::now();
        world.stop(&stubborn, 1).await?;
        let took = start.elapsed();
        ensure!(world.status(&stubborn).await?.exit_code == 137, "killed");
        ensure!(took >= Duration::from_secs(1), "after {took:?}");
        Ok(())
    });
}

#[test]
fn root_the_whole_tree_is_killed() {
    with_world(async |world| {
        let image = world.image.clone();
        let mut config = world.pod("tree");
        let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
        security.context("no security context")?.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
        let pod = world.run_pod(config).await?;
        let mut config = shell("main", &image, "sleep 1111 & setsid sleep 1112 & echo up; wait");
        linux(&mut config).1.namespace_options.get_or_insert_default().set_pid(NamespaceMode::Pod);
        let id = world.run(&pod, &config).await?;
        world.wait_for_log(&pod, "main", "up").await?;
        world.stop(&id, 1).await?;
        let left = world.daemon.host().run(&["sh", "-c", "ps -eo args | grep -c '^sleep 111[12]' || true"])?;
        ensure!(left.trim() == "0", "{left} processes are left in the shared pid namespace");
        Ok(())
    });
}

#[test]
fn root_logs_keep_lines_streams_and_order() {
    with_world(async |world| {
        let pod = world.run_pod_named("logs").await?;
        let image = world.image.clone();
        let script = "echo one; echo two >&2; printf 'no end'; head -c 40000 /dev/zero | tr '\\0' x; echo; printf '\\377\\001\\n'";
        world.run_to_end(&pod, &shell("main", &image, script)).await?;
        let lines = read_log(&world.log_path(&pod, "main"))?;
        let of = |stream: &str| {
            let chosen = lines.iter().filter(|line| line.stream == stream);
            chosen
                .flat_map(|line| [line.text.as_slice(), if line.full { b"\n" } else { b"" }].concat())
                .collect::<Vec<u8>>()
        };
        let wanted = ["one\nno end".as_bytes(), "x".repeat(40_000).as_bytes(), b"\n\xff\x01\n"].concat();
        ensure!(of("stdout") == wanted, "stdout, {} bytes", of("stdout").len());
        ensure!(of("stderr") == b"two\n", "stderr");
        ensure!(lines.iter().all(|line| line.text.len() <= 16 << 10), "lines are cut at 16 KiB");
        ensure!(lines.is_sorted_by_key(|line| &line.time), "times go forward");
        Ok(())
    });
}

#[test]
fn root_a_log_that_is_rotated_under_load_loses_nothing() {
    with_world(async |world| {
        let pod = world.run_pod_named("rotate").await?;
        // Until it is told to stop, so that it is never done before the log was rotated.
        let script = "i=0; while [ ! -e /stop ]; do echo line $i; i=$((i+1)); done; echo $i >/count; sleep 1000";
        let id = world.run_shell(&pod, "main", script).await?;
        let path = world.log_path(&pod, "main");
        let mut parts = Vec::new();
        while parts.len() < 20 {
            let part = path.with_extension(format!("log.{}", parts.len()));
            std::fs::rename(&path, &part)?;
            parts.push(part);
            let request = ReopenContainerLogRequest { container_id: id.clone() };
            world.runtime.reopen_container_log(request).await.context("ReopenContainerLog")?;
        }
        world.sh(&id, "touch /stop").await?;
        world.sh_until(&id, "[ -s /count ]").await?;
        let last: usize = world.sh(&id, "cat /count").await?.parse()?;
        world.stop(&id, 0).await?;
        parts.push(path);
        let mut next = 0;
        for part in parts {
            for line in read_log(&part)? {
                ensure!(line.text == format!("line {next}").as_bytes(), "line {next} is missing in {}", part.display());
                next += 1;
            }
        }
        ensure!(next == last, "{next} of {last} lines");
        Ok(())
    });
}

#[test]
fn root_exec_has_limits() {
    with_world(async |world| {
        let pod = world.run_pod_named("exec").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        let reply = world.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 9"]).await?;
        ensure!((reply.stdout, reply.stderr, reply.exit_code) == (b"out\n".into(), b"err\n".into(), 9), "one of each");

        let hang = ExecSyncRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", "sleep 2222 & sleep 2223"].map(str::to_owned).to_vec(),
            timeout: 1,
        };
        let late = world.runtime.exec_sync(hang).await.err().context("an exec past its limit succeeded")?;
        ensure!(late.code() == Code::DeadlineExceeded, "{late}");
        // Killed with it; on a busy machine its children take a moment to end.
        world
            .sh(&id, "while ps | grep -q 'sleep 222[23]$'; do sleep 0.05; done")
            .await
            .context("the command is gone")?;

        let length = world.exec(&id, &["sh", "-c", "head -c 30000000 /dev/zero"]).await?.stdout.len();
        ensure!((16_000_000..16 << 20).contains(&length), "the output is capped and not lost: {length} bytes");
        let missing = world.exec(&id, &["/no/such/command"]).await;
        ensure!(missing.is_err() || missing.is_ok_and(|reply| reply.exit_code == 127), "a command that is not there");
        Ok(())
    });
}

#[test]
fn root_containers_of_a_pod_talk_over_localhost() {
    with_world(async |world| {
        let pod = world.run_pod_named("local").await?;
        let image = world.image.clone();
        let serve = "mkdir -p /www; echo from the server > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www";
        world.run(&pod, &shell("server", &image, serve)).await?;
        let ask = "until wget -q -O - http://127.0.0.1:8080/; do sleep 0.1; done";
        let status = world.run_to_end(&pod, &shell("client", &image, ask)).await?;
        ensure!(status.exit_code == 0, "{status:?}");
        ensure!(world.log_text(&pod, "client")?.contains("from the server"), "what the server said");
        Ok(())
    });
}

#[test]
fn root_a_killed_daemon_is_not_noticed_by_pods() {
    with_world(async |world| {
        let pod = world.run_pod_named("survivor").await?;
        let image = world.image.clone();
        let counter = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done";
        let running = world.run(&pod, &shell("running", &image, counter)).await?;
        let ending = world
            .run(&pod, &shell("ending", &image, "echo up; while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 17"))
            .await?;
        let created = world.create(&pod, &shell("created", &image, "exit 4")).await?;
        world.wait_for_log(&pod, "ending", "up").await?;
        let address = world.pod_ip(&pod.id).await?;
        let before = world.status(&running).await?;
        let process = world.sh(&running, "cut -d' ' -f22 /proc/1/stat").await?;
        world.sh(&ending, "(sleep 1; touch /tmp/end) >/dev/null 2>&1 &").await?;

        world.daemon.kill()?;
        let ticks = read_growing_log(&world.log_path(&pod, "running"))?.len();
        // Past the end of the one container; nobody is there to tell of it.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let end = Instant::now() + Duration::from_secs(60);
        while read_growing_log(&world.log_path(&pod, "running"))?.len() <= ticks {
            ensure!(Instant::now() < end, "the log does not go on without a daemon");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.daemon.start_again()?;
        world.reconnect().await?;

        let after = world.status(&running).await?;
        ensure!(
            after.state() == ContainerState::ContainerRunning && after.started_at == before.started_at,
            "{after:?}"
        );
        ensure!(world.sh(&running, "cut -d' ' -f22 /proc/1/stat").await? == process, "the same process");
        let ended = world.wait(&ending, 60).await?;
        ensure!(ended.exit_code == 17, "an exit in the daemon's absence: {ended:?}");
        ensure!(world.pod_ip(&pod.id).await? == address, "the address stays");
        ensure!(world.pod_status(&pod.id).await?.state() == PodSandboxState::SandboxReady, "ready");
        world.start(&created).await?;
        ensure!(world.wait(&created, 60).await?.exit_code == 4, "created before, started after");
        world.stop(&running, 2).await?;
        Ok(())
    });
}

#[test]
fn root_a_daemon_that_is_asked_to_end_leaves_pods_alone() {
    with_world(async |world| {
        let pod = world.run_pod_named("stays").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        for _ in 0..3 {
            world.daemon.stop()?;
            world.daemon.start_again()?;
            world.reconnect().await?;
            ensure!(world.sh(&id, "echo here").await? == "here", "exec after the restart");
        }
        Ok(())
    });
}

#[test]
fn root_a_pod_whose_shim_was_killed_can_be_removed() {
    with_world(async |world| {
        let pod = world.run_pod_named("orphan").await?;
        let id = world.run_shell(&pod, "main", "sleep 1000").await?;
        world.daemon.host().run(&["sh", "-c", &format!("pkill -9 -f '[p]odwright-shim.*{}'", pod.id)])?;
        let status = world.wait(&id, 60).await?;
        ensure!(status.exit_code != 0, "{status:?}");
        ensure!(world.pod_status(&pod.id).await?.state() == PodSandboxState::SandboxNotready, "not ready");
        Ok(())
    });
}
