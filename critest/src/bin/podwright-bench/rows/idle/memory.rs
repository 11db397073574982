//! Memory of daemons, of supervisors, and of the whole machine.

use anyhow::{Result, ensure};

use super::Bench;
use crate::contender::Contender;
use crate::lane::{Lanes, Part};
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::number;

const KIB_PER_MIB: f64 = 1024.0;

/// Rows of memory, while they are filled.
pub(super) struct Memory {
    /// KiB of each daemon before its first pod, and now.
    before: Vec<Option<u64>>,
    now: Vec<Option<u64>>,
    /// What each daemon had without pods that is no file's.
    own_without: Lanes,
    /// KiB by which each contender's pods made the machine's free memory fall.
    fell: Vec<u64>,
    supervisors: Lanes,
    growth: Lanes,
    sum: Lanes,
    available: Lanes,
    without: Lanes,
    dirty: Lanes,
}

impl Memory {
    pub(super) fn new(bench: &Bench) -> Self {
        let [supervisors, growth, sum, available, mut without, dirty] = std::array::from_fn(|_| bench.lanes());
        let before: Vec<Option<u64>> =
            bench.contenders.iter().map(|one| one.pid().map(machine::rss_kib).filter(|kib| *kib > 0)).collect();
        for (index, kib) in before.iter().enumerate() {
            if let Some(kib) = kib {
                without.push_value(index, kib_as_number(*kib) / KIB_PER_MIB);
            }
        }
        let (now, fell) = (before.clone(), vec![0; before.len()]);
        Self { own_without: own(bench), before, now, fell, supervisors, growth, sum, available, without, dirty }
    }

    /// A contender came to more pods, for which the machine's free memory fell by `fell` KiB.
    pub(super) fn look(&mut self, index: usize, contender: &Contender, fell: u64) {
        if let (Some(now), Some(sum)) = (self.now.get_mut(index), self.fell.get_mut(index)) {
            *now = contender.pid().map(machine::rss_kib).filter(|kib| *kib > 0);
            *sum += fell;
        }
    }

    /// The row of the daemons with so many pods.
    pub(super) fn add_daemon(&self, bench: &mut Bench, pods: usize, part: &Part) {
        let mut with = bench.lanes();
        for (index, kib) in self.now.iter().enumerate() {
            if let Some(kib) = kib {
                with.push_value(index, kib_as_number(*kib) / KIB_PER_MIB);
            }
        }
        let name = format!("memory of the daemon with {pods} pods (RSS)");
        bench.add(Row::new(name, "MiB", Better::Less, with.after(part)).times(5.0));
        let name = format!("the same with {pods} pods, without pages of files (anonymous)");
        let own = own(bench);
        bench.add(Row::new(name, "MiB", Better::Less, own.after(part)));
    }

    /// Reads what the supervisors of all pods have.
    pub(super) fn look_at_supervisors(&mut self, index: usize, contender: &Contender, pods: usize) -> Result<()> {
        let per_pod = |kib: u64| kib_as_number(kib) / number(pods);
        let pids = contender.supervisors()?;
        ensure!(!pids.is_empty(), "no process of a pod is found");
        let supervisors = per_pod(pids.iter().map(|pid| machine::pss_kib(*pid)).sum());
        self.supervisors.push_value(index, supervisors);
        for pid in &pids {
            self.dirty.push_value(index, kib_as_number(machine::private_dirty_kib(*pid)));
        }
        if let Some(fell) = self.fell.get(index) {
            self.available.push_value(index, per_pod(*fell) / KIB_PER_MIB);
        }
        let daemon = self.before.get(index).copied().flatten().zip(self.now.get(index).copied().flatten());
        if let Some((before, now)) = daemon {
            let growth = per_pod(now.saturating_sub(before));
            self.growth.push_value(index, growth);
            self.sum.push_value(index, supervisors + growth);
        }
        Ok(())
    }

    /// The rows per pod.
    pub(super) fn add(self, bench: &mut Bench, part: &Part) {
        let row = |name, unit, lanes: Lanes| Row::new(name, unit, Better::Less, lanes.after(part));
        bench.add(row("memory of the daemon without pods (RSS)", "MiB", self.without).times(5.0));
        let name = "the same without pods, without pages of files (anonymous)";
        bench.add(row(name, "MiB", self.own_without));
        bench.add(row("memory of a pod's supervisors (PSS)", "KiB", self.supervisors));
        bench.add(row("memory by which the daemon grows per pod (RSS)", "KiB", self.growth));
        bench.add(row("memory per pod of both in sum", "KiB", self.sum).times(3.0));
        bench.add(row("memory of the machine per pod (MemAvailable)", "MiB", self.available).at_most(0.8));
        bench.add(row("memory that a supervisor alone dirtied", "KiB", self.dirty).at_most(150.0));
    }
}

/// What each daemon has now that is no file's, in MiB.
fn own(bench: &Bench) -> Lanes {
    let mut lanes = bench.lanes();
    for (index, contender) in bench.contenders.iter().enumerate() {
        if let Some(kib) = contender.pid().map(machine::anonymous_kib).filter(|kib| *kib > 0) {
            lanes.push_value(index, kib_as_number(kib) / KIB_PER_MIB);
        }
    }
    lanes
}

fn kib_as_number(kib: u64) -> f64 {
    number(usize::try_from(kib).unwrap_or(usize::MAX))
}
