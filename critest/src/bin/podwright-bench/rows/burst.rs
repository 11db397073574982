//! Many pods at once.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, make_pods, remove_pods};
use crate::report::Better;
use crate::sample::{Samples, number};

/// Pods under way at once, and made in all.
const BURSTS: [(usize, usize); 4] = [(10, 50), (16, 100), (50, 100), (200, 200)];

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for (at_once, count) in BURSTS {
        let (up, down) = (format!("started, {at_once} at once"), format!("removed, {at_once} at once"));
        if !bench.wants(&[&up, &down]) {
            continue;
        }
        let (mut started, mut removed) = (bench.empty(), bench.empty());
        for (index, contender) in bench.contenders.iter().enumerate() {
            let start = Instant::now();
            let pods = make_pods(&contender.cri, &contender.image, "burst", count, at_once).await?;
            let took = start.elapsed().as_secs_f64();
            set(&mut started, index, number(count) / took);
            let start = Instant::now();
            remove_pods(&contender.cri, pods, at_once).await?;
            set(&mut removed, index, number(count) / start.elapsed().as_secs_f64());
        }
        bench.add(&up, "pods/s", Better::More, Some(8.0), started);
        bench.add(&down, "pods/s", Better::More, None, removed);
    }
    Ok(())
}

fn set(row: &mut [(String, Samples)], index: usize, value: f64) {
    if let Some((_, samples)) = row.get_mut(index) {
        samples.push_value(value);
    }
}
