//! SECURITY.md names tests. Each of them must exist, or the table says more than is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use podwright_critest::must;

/// Names in backquotes that are functions of tests by their looks: words joined by `_`, four at least.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split('`').skip(1).step_by(2);
    let is_test = |word: &&str| {
        word.matches('_').count() >= 3 && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    words.filter(is_test).map(str::to_owned).collect()
}

/// All sources of the workspace in one text.
fn sources(dir: &Path, into: &mut String) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn every_test_that_the_table_names_exists() {
    let test = || -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
        let named = named(&fs::read_to_string(root.join("SECURITY.md"))?);
        ensure!(named.len() > 30, "the table names {} tests only", named.len());
        let mut all = String::new();
        sources(root, &mut all)?;
        // Tests of the runtime run by a list of names, without `root_` in the functions'.
        let is_there = |name: &&String| all.contains(&format!("fn {name}(")) || all.contains(&format!("(\"{name}\", "));
        let missing: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
        ensure!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
        Ok(())
    };
    must(test());
}
