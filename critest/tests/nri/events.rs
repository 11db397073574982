//! What plugins are told, and when: every event once and in order, and nothing lost when one joins or the daemon starts again.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use podwright_critest::with_world;

use crate::plugin::{Plugin, to_be_launched};
use crate::{MIB, run, told, update_memory};

/// Containers that are made while a plugin joins.
const MADE: usize = 20;

#[test]
fn root_plugins_are_told_of_every_event_in_order() {
    with_world(async |world| {
        let plugin = Plugin::dial(&world.daemon, "10", "told").await?;
        let configured = plugin.book.wait(|line| line.event == "Configure").await?;
        ensure!(configured.text.starts_with("podwright "), "{}", configured.text);
        let pod = world.run_pod_named("told").await?;
        let id = run(world, &pod, "main", &[]).await?;
        update_memory(world, &id, 64 * MIB).await?;
        let mut short = told(world, "short", &[]);
        short.command = vec!["/bin/sh".into(), "-c".into(), "exit 3".into()];
        let ended = world.run(&pod, &short).await?;
        // It ends by itself, and nobody asks.
        let stop = plugin.book.wait(|line| line.event == "StopContainer" && line.container == ended).await?;
        ensure!((stop.text.as_str(), stop.state.as_str()) == ("3", "CONTAINER_STOPPED"), "{stop:?}");
        world.stop(&id, 0).await?;
        world.stop(&id, 0).await?;
        world.remove(&id).await?;
        world.remove_pod(&pod.id).await?;
        let events = [
            "CreateContainer",
            "ValidateContainerAdjustment",
            "PostCreateContainer",
            "StartContainer",
            "PostStartContainer",
            "UpdateContainer",
            "PostUpdateContainer",
            "StopContainer",
            "RemoveContainer",
        ];
        ensure!(plugin.book.of(&id) == events, "{:?}", plugin.book.of(&id));
        let of_pod = ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"];
        ensure!(plugin.book.of(&pod.id) == of_pod, "{:?}", plugin.book.of(&pod.id));
        let order: Vec<String> =
            plugin.book.lines().into_iter().map(|line| format!("{} {}", line.event, line.name)).collect();
        let at = |text: &str| order.iter().position(|line| line.trim() == text).with_context(|| format!("no {text}"));
        ensure!(at("RunPodSandbox")? < at("CreateContainer main")?, "{order:?}");
        ensure!(at("StopContainer short")? < at("StopPodSandbox")?, "{order:?}");
        ensure!(at("RemoveContainer short")? < at("RemovePodSandbox")?, "{order:?}");
        Ok(())
    });
}

#[test]
fn root_no_container_is_lost_to_a_plugin_that_joins() {
    with_world(async |world| {
        let pod = world.run_pod_named("busy").await?;
        let mut making = tokio::task::JoinSet::new();
        for number in 0..MADE {
            let (mut calls, pod) = (world.calls(), pod.clone());
            let config = told(world, &format!("c{number}"), &[]);
            making.spawn(async move { calls.create(&pod, &config).await });
        }
        // Two join in the middle: the second finds the first one there, so that makings are told while it joins.
        let first = making.join_next().await.context("nothing is made")???;
        let plugins =
            [Plugin::dial(&world.daemon, "10", "one").await?, Plugin::dial(&world.daemon, "20", "two").await?];
        let mut made = vec![first];
        while let Some(id) = making.join_next().await {
            made.push(id??);
        }
        for plugin in plugins {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for line in plugin.book.lines() {
                let ids = match line.event.as_str() {
                    "Synchronize" => line.containers,
                    "CreateContainer" => vec![line.container],
                    _ => continue,
                };
                ids.into_iter().for_each(|id| *seen.entry(id).or_default() += 1);
            }
            let wrong: Vec<&String> = made.iter().filter(|id| seen.get(*id) != Some(&1)).collect();
            ensure!(wrong.is_empty(), "not told once: {wrong:?} of {:#?}", plugin.book.lines());
        }
        world.remove_pod(&pod.id).await
    });
}

#[test]
fn root_plugins_are_launched_and_told_all_that_is_there() {
    with_world(async |world| {
        // Nobody listens when it is made; who comes later is told of its end.
        let pod = world.run_pod_named("stays").await?;
        let id = run(world, &pod, "main", &[]).await?;
        let book = to_be_launched(&world.daemon, "30", "launched")?;
        for round in 1..=2 {
            // The first is told to end, the second dies.
            if round == 1 {
                world.daemon.stop()?
            } else {
                world.daemon.kill()?
            }
            world.daemon.start_again()?;
            world.reconnect().await?;
            // It has joined before the daemon serves anybody.
            let told = book.lines().into_iter().filter(|line| line.event == "Synchronize").collect::<Vec<_>>();
            ensure!(told.len() == round, "{:#?}", book.lines());
            let last = told.last().context("it was told nothing")?;
            ensure!(last.pods == [pod.id.clone()] && last.containers == [id.clone()], "{last:?}");
        }
        let adjust = serde_json::json!({"env": [{"key": "LAUNCHED", "value": "1"}]});
        let second = run(world, &pod, "second", &[("30.adjust", adjust)]).await?;
        ensure!(world.sh(&second, "echo $LAUNCHED").await? == "1", "it does its work");
        world.remove_pod(&pod.id).await?;
        ensure!(book.of(&id) == ["StopContainer", "RemoveContainer"], "{:?}", book.of(&id));
        world.daemon.stop()?;
        ensure!(book.lines().last().is_some_and(|line| line.event == "Shutdown"), "{:#?}", book.lines());
        ensure!(!world.daemon.path("nri.sock").exists(), "the socket is gone");
        std::fs::remove_file(world.daemon.path("nri-plugins/30-launched"))?;
        world.daemon.start_again()?;
        world.reconnect().await
    });
}
