//! Published defects of other runtimes, tried on this one: hostile images, specifications and names, and processes that race with what
//! the daemon does. SECURITY.md has the table: which defect is tried where. What other tests try already is not repeated here.

#[path = "lessons/names.rs"]
mod names;
#[path = "lessons/places.rs"]
mod places;
#[path = "lessons/races.rs"]
mod races;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use podwright_critest::World;
use podwright_testutil::base;
use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};

const SLEEP: &str = "sleep 1000";

/// Everything below a directory with what tells files apart, links not followed.
fn tree(dir: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                open.push(path.clone());
            }
            let content = if meta.is_file() { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
            found.insert(
                path.display().to_string(),
                format!("{:?} {:?} {content}", meta.file_type(), meta.permissions()),
            );
        }
    }
    Ok(found)
}

/// Pulls busybox with another layer on top.
async fn pull_with(
    world: &mut World,
    name: &str,
    layer: LayerBuilder,
    change: impl FnOnce(ImageBuilder) -> ImageBuilder,
) -> Result<String> {
    let layer = layer.finish(Compression::Gzip)?;
    let image = change(ImageBuilder::new(Format::Oci).layer(&base::busybox_layer()?).layer(&layer)).build();
    let reference = world.registry.push(&image, "lessons", name)?;
    world.pull(&reference).await?;
    world.count().await?;
    Ok(reference)
}
