//! Many pods at once.

use std::time::Instant;

use anyhow::Result;

use super::{Bench, make_pods, remove_pods};
use crate::contender::Contender;
use crate::report::{Better, Row};
use crate::sample::number;

/// Pods under way at once, and made in all.
const BURSTS: [(usize, usize); 3] = [(10, 50), (50, 100), (200, 200)];

pub(super) async fn measure(bench: &mut Bench) {
    for (at_once, count) in BURSTS {
        let (up, down) = (format!("started, {at_once} at once"), format!("removed, {at_once} at once"));
        if !bench.wants(&[&up, &down]) {
            continue;
        }
        let mut part = bench.part(&format!("{count} pods, {at_once} at once"));
        let (mut started, mut removed) = (bench.lanes(), bench.lanes());
        for (index, contender) in bench.contenders.iter().enumerate() {
            if let Some((up, down)) = part.step(index, burst(contender, at_once, count)).await {
                started.push_value(index, up);
                removed.push_value(index, down);
            }
        }
        part.tidy(&mut bench.contenders).await;
        bench.add(Row::new(up, "pods/s", Better::More, started.after(&part)).times(8.0));
        bench.add(Row::new(down, "pods/s", Better::More, removed.after(&part)));
    }
}

/// Pods started and removed in a second.
async fn burst(contender: &Contender, at_once: usize, count: usize) -> Result<(f64, f64)> {
    let start = Instant::now();
    let pods = make_pods(&contender.cri, &contender.image, &format!("burst-{at_once}"), count, at_once).await?;
    let took = start.elapsed();
    let start = Instant::now();
    remove_pods(&contender.cri, pods, at_once).await?;
    Ok((number(count) / took.as_secs_f64(), number(count) / start.elapsed().as_secs_f64()))
}
