//! AppArmor, seen from inside a container: the default profile, and none.
//!
//! Needs a kernel with AppArmor, so it does nothing elsewhere and says so; `cargo xtask vm apparmor` runs it.

use anyhow::{Context, ensure};
use podwright_cri_api::v1::{SecurityProfile, security_profile::ProfileType};
use podwright_critest::{linux, shell, with_world};

/// The profile that the daemon loads.
const DEFAULT: &str = "podwright-default (enforce)";

#[test]
fn root_the_default_profile_holds_containers_and_what_is_executed_in_them() {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        println!("this kernel has no AppArmor: nothing was tried; see `cargo xtask vm apparmor`");
        return;
    }
    with_world(async |world| {
        let image = world.image.clone();
        let pod = world.run_pod_named("apparmor").await?;
        let own = "cat /proc/self/attr/current; sleep 1000";
        let cases = [
            ("absent", None, DEFAULT),
            ("default", Some(ProfileType::RuntimeDefault), DEFAULT),
            ("unconfined", Some(ProfileType::Unconfined), "unconfined"),
        ];
        for (name, kind, expected) in cases {
            let mut config = shell(name, &image, own);
            linux(&mut config).1.apparmor =
                kind.map(|kind| SecurityProfile { profile_type: kind.into(), ..Default::default() });
            let id = world.run(&pod, &config).await.context(name)?;
            world.wait_for_log(&pod, name, expected).await.context(name)?;
            let executed = world.sh(&id, "cat /proc/self/attr/current").await.context(name)?;
            ensure!(executed == expected, "{name}: a command runs as {executed}");
        }
        Ok(())
    });
}
