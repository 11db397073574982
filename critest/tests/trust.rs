//! Policies of signatures as kubelet meets them: by the namespace of the pod, when an image is pulled and when a container is made of it.

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ContainerConfig, ImageSpec, Mount, PullImageRequest};
use podwright_critest::{Cri, Pod, WorldBuilder, shell, with_world_of};
use podwright_testutil::signing::{KeyPair, cosign_manifest, cosign_payload};
use podwright_testutil::{Daemon, base};
use tonic::{Code, Status};

/// What kubelet and users look for.
const WORD: &str = "SignatureValidationFailed: ";

async fn pull(cri: &mut Cri, image: &str, namespace: &str) -> Result<String, Status> {
    let mut sandbox = cri.pod("puller");
    sandbox.metadata.get_or_insert_default().namespace = namespace.into();
    let image = Some(ImageSpec { image: image.into(), user_specified_image: image.into(), ..Default::default() });
    let request = PullImageRequest { image, sandbox_config: Some(sandbox), ..Default::default() };
    cri.images.pull_image(request).await.map(|reply| reply.into_inner().image_ref)
}

async fn pod_of(cri: &mut Cri, namespace: &str) -> Result<Pod> {
    let mut config = cri.pod(namespace);
    config.metadata.get_or_insert_default().namespace = namespace.into();
    cri.run_pod(config).await
}

async fn refused(cri: &mut Cri, pod: &Pod, config: &ContainerConfig) -> Result<()> {
    let error = cri.create(pod, config).await.err().context("a container was made")?;
    let status = error.downcast_ref::<Status>().context("no status")?;
    ensure!(status.message().contains(WORD) && status.message().contains("strict.json"), "{status:?}");
    Ok(())
}

#[test]
fn root_the_policy_of_a_namespace_is_asked_for_pulls_and_containers() {
    let policies = tempfile::tempdir().expect("a directory");
    let dir = policies.path();
    let lines =
        format!("signature_policy_dir = {:?}\nregistries_dir = {:?}\n", dir.join("policies"), dir.join("registries.d"));
    for name in ["policies", "registries.d"] {
        std::fs::create_dir(dir.join(name)).expect("a directory");
    }
    with_world_of(WorldBuilder::daemon(Daemon::builder().config(&lines)), async |world| {
        let pair = KeyPair::generate("ec:P-256")?;
        let requirement = format!(
            r#"{{"type":"sigstoreSigned","keyPath":{:?},"signedIdentity":{{"type":"matchRepository"}}}}"#,
            pair.public_key()
        );
        std::fs::write(dir.join("policies/strict.json"), format!(r#"{{"default":[{requirement}]}}"#))?;
        std::fs::write(dir.join("registries.d/all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n")?;
        let image = base::variant("signed", |builder| builder)?;
        let name = world.registry.push(&image, "signed", "1")?;
        let status = pull(world, &name, "strict").await.err().context("an unsigned image was pulled")?;
        ensure!(status.code() == Code::Unknown && status.message().starts_with(WORD), "{status:?}");
        ensure!(world.image(&name).await?.is_none(), "a refused image is there");
        let id = pull(world, &name, "loose").await?;
        world.count().await?;

        let (strict, loose) = (pod_of(world, "strict").await?, pod_of(world, "loose").await?);
        let mut config = shell("main", &id, "sleep 1000");
        config.image.get_or_insert_default().user_specified_image.clone_from(&name);
        refused(world, &strict, &config).await?;
        // As kubelet mounts it.
        let volume = ImageSpec { image: id.clone(), ..Default::default() };
        let mount =
            Mount { container_path: "/volume".into(), image: Some(volume), readonly: true, ..Default::default() };
        let mut own = config.clone();
        own.mounts = vec![mount];
        refused(world, &strict, &own).await?;
        world.run(&loose, &config).await?;

        let payload = cosign_payload(&name, &image.manifest.digest);
        let signature = pair.sign(&payload)?;
        let (manifest, blobs) = cosign_manifest(&[(payload, signature, serde_json::json!({}))]);
        for blob in blobs {
            world.registry.storage().put_blob("signed", &blob.digest, &blob.bytes)?;
        }
        let tag = format!("{}.sig", image.manifest.digest.replace(':', "-"));
        world.registry.storage().put_manifest("signed", Some(&tag), &manifest)?;
        world.run(&strict, &config).await?;
        // What decided is kept: it is enough for a daemon that has to decide anew.
        world.registry.storage().put_manifest("signed", Some(&tag), &image.manifest)?;
        world.daemon.stop()?;
        world.daemon.start_again()?;
        world.reconnect().await?;
        let mut second = config.clone();
        second.metadata.get_or_insert_default().name = "second".into();
        world.run(&strict, &second).await?;
        for pod in [strict, loose] {
            world.remove_pod(&pod.id).await?;
        }
        // The kept signatures stay with the image.
        world.count().await
    });
}
