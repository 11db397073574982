//! More and more idle pods of ours: the next one is to cost what the first did, in time, descriptors and watches, and all go away.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use podwright_critest::{Cri, Pod, container};
use podwright_testutil::Census;

use super::{Bench, OURS, REMOVED_AT_ONCE, make_pods, remove_pods};
use crate::contender::Contender;
use crate::lane::{Lanes, Part};
use crate::machine;
use crate::report::{Better, Row};
use crate::sample::{Samples, number};

/// Pods at which starts are measured.
const STEPS: [usize; 4] = [10, 100, 500, 1000];
/// Starts that are measured at each, and at the beginning and the end of density.
const STARTS: usize = 50;
/// Pods that come up at once in between.
const AT_ONCE: usize = 8;
/// The last may be slower than the first by a quarter.
const QUARTER: f64 = 1.25;
const DESCRIPTORS: f64 = 8.0;
const KIB_PER_MIB: f64 = 1024.0;
/// Time for what ends by itself: the kernel takes links away some time after their namespace.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

const CREATE: &str = "create at";
const DENSITY: &str = "density";
const ALONE: &str = "Ours alone: whether cost stays flat; peers at so many pods would take most of the run.";

pub(super) async fn measure(bench: &mut Bench) {
    let flat: Vec<String> = STEPS.iter().map(|pods| format!("{CREATE} {pods} existing pods")).collect();
    let wants_flat = flat.iter().any(|name| bench.wants(&[name])) || bench.wants(&["create at existing pods"]);
    let wants_density = bench.density > 0 && bench.wants(&[DENSITY]);
    if !wants_flat && !wants_density {
        return;
    }
    let most = if wants_density { bench.density } else { STEPS.into_iter().max().unwrap_or_default() };
    let mut part = bench.part(&format!("our own idle pods, up to {most}"));
    let mut seen = Seen::default();
    if let Some(contender) = bench.contenders.get_mut(OURS) {
        part.step(OURS, grow(contender, most, &mut seen)).await;
    }
    part.tidy(&mut bench.contenders).await;
    for (pods, starts) in &seen.starts {
        let mut row = bench.lanes();
        starts.iter().for_each(|taken| row.push(OURS, *taken));
        bench
            .add(Row::new(format!("{CREATE} {pods} existing pods"), "ms", Better::Less, row.after(&part)).alone(ALONE));
    }
    let of_steps: Vec<f64> = seen.starts.iter().map(|(_, starts)| median(starts)).collect();
    if let (Some(first), Some(last)) = (of_steps.first(), of_steps.last()) {
        let name = format!("{CREATE} the most of these to that at the fewest");
        bench.add(ours_alone(bench, &part, &name, "times", last / first).at_most(QUARTER));
    }
    if wants_density {
        seen.add(bench, &part, most);
    }
}

fn median(starts: &[Duration]) -> f64 {
    let mut samples = Samples::default();
    starts.iter().for_each(|taken| samples.push(*taken));
    samples.at(50)
}

fn ours_alone(bench: &Bench, part: &Part, name: &str, unit: &'static str, value: f64) -> Row {
    let mut row: Lanes = bench.lanes();
    row.push_value(OURS, value);
    Row::new(name, unit, Better::Less, row.after(part)).alone(ALONE)
}

/// What was seen on the way up and down.
#[derive(Default)]
struct Seen {
    /// Existing pods, and how long starts took beside them.
    starts: Vec<(usize, Vec<Duration>)>,
    first: Vec<Duration>,
    last: Vec<Duration>,
    descriptors_per_pod: f64,
    watches: usize,
    available_mib_per_pod: f64,
    removed_in: Duration,
    left_over: Vec<String>,
}

impl Seen {
    fn add(&self, bench: &mut Bench, part: &Part, most: usize) {
        let name = |what: &str| format!("{DENSITY}, {most} pods: {what}");
        let mut add = |what: &str, unit, value, limit: Option<f64>| {
            let row = ours_alone(bench, part, &name(what), unit, value);
            bench.add(match limit {
                Some(limit) => row.at_most(limit),
                None => row,
            });
        };
        add("start of the first 50", "ms", median(&self.first), None);
        add("start of the last 50", "ms", median(&self.last), None);
        add(
            "start of the last 50 to that of the first",
            "times",
            median(&self.last) / median(&self.first),
            Some(QUARTER),
        );
        add("descriptors of the daemon per pod", "files", self.descriptors_per_pod, Some(DESCRIPTORS));
        add("inotify watches of all our processes", "watches", number(self.watches), Some(0.0));
        add("memory of the machine per pod (MemAvailable)", "MiB", self.available_mib_per_pod, Some(0.8));
        add("removal of all", "s", self.removed_in.as_secs_f64(), None);
        add("left over afterwards", "things", number(self.left_over.len()), Some(0.0));
    }
}

async fn grow(contender: &mut Contender, most: usize, seen: &mut Seen) -> Result<()> {
    // What the first pod of all makes for good is there afterwards.
    let warm = sequence(&mut contender.cri, &contender.image, "warm", 1).await?.1;
    remove_pods(&contender.cri, warm, 1).await?;
    let daemon = contender.daemon().context("our daemon")?;
    let before = settled(|| daemon.census(), |_| true).await?;
    let (free, watches) = (machine::available_kib(), watches(contender)?);
    let descriptors = descriptors(contender)?;
    let mut pods = Vec::new();
    for stage in STEPS.into_iter().filter(|step| step + STARTS <= most) {
        fill(contender, &mut pods, stage).await?;
        let (starts, more) = sequence(&mut contender.cri, &contender.image, &format!("at-{stage}"), STARTS).await?;
        if seen.first.is_empty() {
            seen.first.clone_from(&starts);
        }
        println!("  {stage} pods: start p50 {:.2} ms", median(&starts));
        seen.starts.push((stage, starts));
        pods.extend(more);
    }
    fill(contender, &mut pods, most.saturating_sub(STARTS)).await?;
    let (last, more) = sequence(&mut contender.cri, &contender.image, "last", STARTS.min(most)).await?;
    seen.last = last;
    if seen.first.is_empty() {
        seen.first.clone_from(&seen.last);
    }
    pods.extend(more);
    let count = number(pods.len());
    seen.descriptors_per_pod = number(self::descriptors(contender)?.saturating_sub(descriptors)) / count;
    seen.watches = self::watches(contender)?.saturating_sub(watches);
    let fell = free.saturating_sub(machine::available_kib());
    seen.available_mib_per_pod = number(usize::try_from(fell)?) / count / KIB_PER_MIB;
    println!("  {} pods are there", pods.len());
    let start = Instant::now();
    remove_pods(&contender.cri, pods, REMOVED_AT_ONCE).await?;
    seen.removed_in = start.elapsed();
    let daemon = contender.daemon().context("our daemon")?;
    let after = settled(|| daemon.census(), |census| before.changes(census).is_empty()).await?;
    seen.left_over = before.changes(&after);
    for line in &seen.left_over {
        println!("  left over: {line}");
    }
    Ok(())
}

/// Makes idle pods until there are so many.
async fn fill(contender: &Contender, pods: &mut Vec<(Pod, String)>, count: usize) -> Result<()> {
    let missing = count.saturating_sub(pods.len());
    let made = make_pods(&contender.cri, &contender.image, &format!("fill-{count}"), missing, AT_ONCE).await?;
    pods.extend(made);
    Ok(())
}

/// Makes pods one after the other, and tells how long each took.
async fn sequence(
    cri: &mut Cri,
    image: &str,
    prefix: &str,
    count: usize,
) -> Result<(Vec<Duration>, Vec<(Pod, String)>)> {
    let (mut taken, mut pods) = (Vec::new(), Vec::new());
    for number in 0..count {
        let start = Instant::now();
        let pod = cri.run_pod_named(&format!("{prefix}-{number}")).await?;
        let id = cri.run(&pod, &container("main", image, &["sleep", "100000"])).await?;
        taken.push(start.elapsed());
        pods.push((pod, id));
    }
    Ok((taken, pods))
}

/// Open files of the daemon.
fn descriptors(contender: &Contender) -> Result<usize> {
    let path = format!("/proc/{}/fd", contender.pid().context("the daemon's pid")?);
    Ok(fs::read_dir(&path).with_context(|| format!("listing {path}"))?.count())
}

/// inotify watches of the daemon and of all processes of pods.
fn watches(contender: &Contender) -> Result<usize> {
    let daemon = contender.pid().context("the daemon's pid")?;
    let processes = contender.supervisors()?;
    let mut count = 0;
    for pid in processes.into_iter().chain([daemon]) {
        // What ends meanwhile watches nothing.
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { continue };
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            count += text.lines().filter(|line| line.starts_with("inotify wd:")).count();
        }
    }
    Ok(count)
}

/// Counts until the count is good, or for as long as that may take.
async fn settled(take: impl Fn() -> Result<Census>, good: impl Fn(&Census) -> bool) -> Result<Census> {
    let end = Instant::now() + SETTLED_WITHIN;
    loop {
        let census = take()?;
        if good(&census) || Instant::now() > end {
            return Ok(census);
        }
        tokio::time::sleep(LOOK).await;
    }
}
