//! The shim's binary.

use anyhow::{Context, Result};
use podwright_testutil::program;

use super::{Bench, OURS};
use crate::report::{Better, Row};
use crate::sample::number;

const SHIM: &str = "size of the shim's binary, stripped";
const BYTES_PER_MIB: f64 = 1_048_576.0;

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[SHIM]) {
        return;
    }
    let mut part = bench.part("size of the shim");
    let mut row = bench.lanes();
    if let Some(bytes) = part.step(OURS, async { shim_bytes() }).await {
        row.push_value(OURS, number(bytes) / BYTES_PER_MIB);
    }
    let row = Row::new(SHIM, "MiB", Better::Less, row.after(&part)).at_most(2.0);
    bench.add(row.alone("Ours alone: the target is a number, and peers have supervisors of another kind."));
}

fn shim_bytes() -> Result<usize> {
    let path = program("podwright-shim")?;
    let length = std::fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?.len();
    Ok(usize::try_from(length)?)
}
