//! Limits of a scope, as systemd's properties; see `systemd.resource-control(5)`.

use podwright_cgroups::weight_of_shares;
use podwright_podsandbox::model::Resources;
use zbus::zvariant::Value;

/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;
/// The kernel's default period of a CPU quota.
const DEFAULT_PERIOD_MICROS: u64 = 100_000;
/// Highest number of a CPU or memory node: more than any kernel is built for.
const HIGHEST_NUMBER: usize = 65_535;
/// systemd rounds quotas to this.
const QUOTA_GRAIN_MICROS: u64 = 10_000;

/// Limits of a scope. `None` leaves systemd's default, and an update leaves what is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScopeLimits {
    memory_min_bytes: Option<u64>,
    memory_low_bytes: Option<u64>,
    memory_high_bytes: Option<u64>,
    memory_max_bytes: Option<u64>,
    memory_swap_max_bytes: Option<u64>,
    cpu_weight: Option<u64>,
    cpu_quota_per_second_micros: Option<u64>,
    cpu_quota_period_micros: Option<u64>,
    tasks_max: Option<u64>,
    allowed_cpus: Option<Vec<u8>>,
    allowed_memory_nodes: Option<Vec<u8>>,
}

impl From<&Resources> for ScopeLimits {
    fn from(resources: &Resources) -> Self {
        let memory = resources.memory_limit_bytes.filter(|bytes| *bytes != 0);
        let swap = resources.memory_swap_limit_bytes.filter(|bytes| *bytes != 0);
        // A file that is asked for by name is written last, so it holds here too.
        let file = |name: &str| resources.unified.get(name).and_then(|value| number_or_infinity(value));
        let weight = || resources.cpu_shares.filter(|shares| *shares != 0).map(weight_of_shares);
        Self {
            memory_min_bytes: file("memory.min"),
            memory_low_bytes: file("memory.low"),
            memory_high_bytes: file("memory.high"),
            memory_max_bytes: file("memory.max").or_else(|| memory.map(bytes_or_infinity)),
            memory_swap_max_bytes: file("memory.swap.max").or_else(|| swap_alone(swap?, memory)),
            cpu_weight: file("cpu.weight").or_else(weight),
            cpu_quota_per_second_micros: resources.cpu_quota_micros.filter(|quota| *quota != 0).map(|quota| {
                per_second(quota, resources.cpu_period_micros.filter(|p| *p != 0).unwrap_or(DEFAULT_PERIOD_MICROS))
            }),
            cpu_quota_period_micros: resources.cpu_period_micros.filter(|period| *period != 0),
            tasks_max: file("pids.max")
                .or_else(|| resources.pids_limit.filter(|limit| *limit > 0).map(bytes_or_infinity)),
            allowed_cpus: bit_mask(&resources.cpuset_cpus),
            allowed_memory_nodes: bit_mask(&resources.cpuset_mems),
        }
    }
}

impl ScopeLimits {
    pub(super) fn properties(&self) -> Vec<(&'static str, Value<'static>)> {
        let numbers = [
            ("MemoryMin", self.memory_min_bytes),
            ("MemoryLow", self.memory_low_bytes),
            ("MemoryHigh", self.memory_high_bytes),
            ("MemoryMax", self.memory_max_bytes),
            ("MemorySwapMax", self.memory_swap_max_bytes),
            ("CPUWeight", self.cpu_weight),
            ("CPUQuotaPerSecUSec", self.cpu_quota_per_second_micros),
            ("CPUQuotaPeriodUSec", self.cpu_quota_period_micros),
            ("TasksMax", self.tasks_max),
        ];
        let sets = [("AllowedCPUs", &self.allowed_cpus), ("AllowedMemoryNodes", &self.allowed_memory_nodes)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?))));
        let sets = sets.into_iter().filter_map(|(name, value)| Some((name, Value::from(value.clone()?))));
        numbers.chain(sets).collect()
    }
}

/// A list like `0-3,7` as bits, the lowest number first. `None` for an empty one, and for one that the kernel refused before.
fn bit_mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last > HIGHEST_NUMBER {
            return None;
        }
        for number in first..=last {
            mask.resize(mask.len().max(number / 8 + 1), 0);
            if let Some(byte) = mask.get_mut(number / 8) {
                *byte |= 1 << (number % 8);
            }
        }
    }
    Some(mask).filter(|mask| !mask.is_empty())
}

/// A number as files of cgroup v2 take it; `None` for what the kernel will refuse.
fn number_or_infinity(value: &str) -> Option<u64> {
    match value.trim() {
        "max" => Some(INFINITY),
        number => number.parse().ok(),
    }
}

fn bytes_or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// The CRI counts memory and swap together, systemd swap alone.
fn swap_alone(total: i64, memory: Option<i64>) -> Option<u64> {
    match memory {
        _ if total < 0 => Some(INFINITY),
        Some(memory) if memory > 0 => u64::try_from(total.saturating_sub(memory)).ok(),
        _ => None,
    }
}

/// A quota per period as one per second, rounded up to what systemd keeps.
fn per_second(quota: i64, period_micros: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else { return INFINITY };
    let micros = quota.saturating_mul(1_000_000) / period_micros;
    micros.div_ceil(QUOTA_GRAIN_MICROS).saturating_mul(QUOTA_GRAIN_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_properties_in_systemds_units() {
        let limits = ScopeLimits::from(&Resources {
            memory_limit_bytes: Some(64 << 20),
            memory_swap_limit_bytes: Some(96 << 20),
            cpu_shares: Some(1024),
            cpu_quota_micros: Some(25_000),
            cpu_period_micros: Some(50_000),
            pids_limit: Some(10),
            cpuset_cpus: "0-2,9".into(),
            ..Resources::default()
        });
        let expected = ScopeLimits {
            memory_min_bytes: None,
            memory_low_bytes: None,
            memory_high_bytes: None,
            memory_max_bytes: Some(64 << 20),
            memory_swap_max_bytes: Some(32 << 20),
            cpu_weight: Some(100),
            cpu_quota_per_second_micros: Some(500_000),
            cpu_quota_period_micros: Some(50_000),
            tasks_max: Some(10),
            allowed_cpus: Some(vec![0b111, 0b10]),
            allowed_memory_nodes: None,
        };
        assert_eq!(limits, expected);
        assert_eq!(limits.properties().len(), 7);
    }

    #[test]
    fn files_asked_for_by_name_are_properties_too() {
        let files = [("memory.high", "1048576"), ("memory.min", "max"), ("pids.max", "9"), ("memory.low", "rubbish")];
        let unified = files.map(|(file, value)| (file.to_owned(), value.to_owned())).into();
        let limits = ScopeLimits::from(&Resources { unified, pids_limit: Some(7), ..Resources::default() });
        let expected = ScopeLimits {
            memory_high_bytes: Some(1 << 20),
            memory_min_bytes: Some(INFINITY),
            tasks_max: Some(9),
            ..ScopeLimits::default()
        };
        assert_eq!(limits, expected);
    }

    #[test]
    fn what_is_unlimited_or_not_asked_for_is_said_so() {
        let unlimited = Resources { cpu_quota_micros: Some(-1), memory_limit_bytes: Some(-1), ..Resources::default() };
        let limits = ScopeLimits::from(&unlimited);
        assert_eq!((limits.cpu_quota_per_second_micros, limits.memory_max_bytes), (Some(INFINITY), Some(INFINITY)));
        let none =
            Resources { cpu_shares: Some(0), memory_limit_bytes: Some(0), pids_limit: Some(0), ..Resources::default() };
        assert!(ScopeLimits::from(&none).properties().is_empty());
    }

    #[test]
    fn quotas_round_up_and_do_not_overflow() {
        assert_eq!(per_second(1_001, 100_000), 20_000);
        assert_eq!(
            per_second(i64::MAX, 1_000),
            u64::MAX / 1_000 / QUOTA_GRAIN_MICROS * QUOTA_GRAIN_MICROS + QUOTA_GRAIN_MICROS
        );
    }
}
