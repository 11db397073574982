//! What an idle pod costs. Meant for the binary of the `shim` profile, given by `PODWRIGHT_TEST_SHIM`.

use std::fs;

use crate::world::World;

fn kilobytes(pid: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test]
#[ignore = "prints, and asserts nothing"]
async fn root_print_the_memory_of_idle_pods() {
    const PODS: usize = 10;
    let mut worlds = Vec::new();
    for _ in 0..PODS {
        let world = World::with_pod().await;
        world.run("c", "echo started; exec sleep 1000").await;
        worlds.push(world);
    }
    let mut total = 0;
    for world in &worlds {
        let shim = world.client.hello().pid;
        for pid in std::iter::once(shim).chain(children(shim)) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            if name.starts_with("podwright") {
                let (pss, private) = (kilobytes(pid, "Pss:"), kilobytes(pid, "Private_Dirty:"));
                println!("{:16} {pid}: PSS {pss} KiB, private and dirty {private} KiB", name.trim());
                total += pss;
            }
        }
    }
    println!("per pod: {} KiB", total / PODS as u64);
    for world in worlds {
        world.finish().await;
    }
}
