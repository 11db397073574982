//! The order of strikes: every step once, shuffled, then all again in another order. The same seed gives the same order.

use crate::arena::Network;

/// Strikes at any moment, for each that is at a named point.
const MOMENTS: usize = 4;
/// Kills of shims in each round of all steps; half of them while the daemon is away.
const SHIMS: usize = 2;
/// Kills of the registry.
const REGISTRIES: usize = 2;
/// Kills of a plugin, for each command.
const PLUGINS: usize = 2;
/// A point is passed so often at most before it kills.
const MOST_PASSES: u64 = 3;

/// Points that come once, with the first pod.
const WITH_THE_FIRST: [&str; 2] = ["embedded host recorded", "embedded host addresses"];
/// Points that come once, with the last pod of all.
const WITH_THE_LAST: [&str; 2] = ["embedded table gone", "embedded addresses gone"];

/// Something to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strike {
    /// The daemon, at a fail point after it was passed some times.
    Point { name: String, passes: u32 },
    /// The daemon, so many milliseconds from now.
    Moment { after_ms: u64 },
    /// A shim, with the daemon there or away.
    Shim { daemon_away: bool },
    /// A plugin while it runs this command.
    Plugin { command: &'static str },
    /// The registry, so many milliseconds from now.
    Registry { after_ms: u64 },
}

impl Strike {
    /// Whether it is at what is done only with the last pod of all.
    pub(crate) fn is_at_the_last_pod(&self) -> bool {
        matches!(self, Self::Point { name, .. } if WITH_THE_LAST.contains(&name.as_str()))
    }

    /// Whether it is at what only pods of plugins come to.
    fn is_of_plugins(&self) -> bool {
        match self {
            Self::Point { name, .. } => name.starts_with("cni "),
            Self::Plugin { .. } => true,
            Self::Moment { .. } | Self::Shim { .. } | Self::Registry { .. } => false,
        }
    }

    /// Whether it is at what is done only with the first pod.
    pub(crate) fn is_at_the_first_pod(&self) -> bool {
        matches!(self, Self::Point { name, .. } if WITH_THE_FIRST.contains(&name.as_str()))
    }

    /// The step that it strikes.
    pub(crate) fn step(&self) -> String {
        match self {
            Self::Point { name, .. } => name.clone(),
            Self::Moment { .. } => "daemon at any moment".into(),
            Self::Shim { daemon_away: false } => "shim".into(),
            Self::Shim { daemon_away: true } => "shim while the daemon is away".into(),
            Self::Plugin { command } => format!("plugin in {command}"),
            Self::Registry { .. } => "registry".into(),
        }
    }
}

/// Names of all steps, of both networks.
pub(crate) fn all_steps(points: &[String]) -> Vec<String> {
    let mut random = Random::new(0);
    let mut steps: Vec<String> = Vec::new();
    for strike in [Network::Embedded, Network::Bridge].into_iter().flat_map(|n| deck(points, n, &mut random)) {
        if !steps.contains(&strike.step()) {
            steps.push(strike.step());
        }
    }
    steps
}

/// One of each strike, in order.
fn deck(points: &[String], network: Network, random: &mut Random) -> Vec<Strike> {
    let foreign = match network {
        Network::Embedded => "cni ",
        Network::Bridge => "embedded ",
    };
    let own = points.iter().filter(|point| !point.starts_with(foreign));
    let passes = |random: &mut Random| u32::try_from(random.below(MOST_PASSES)).unwrap_or_default();
    let mut deck: Vec<Strike> =
        own.map(|point| Strike::Point { name: point.clone(), passes: passes(random) }).collect();
    for strike in deck.iter_mut().filter(|strike| strike.is_at_the_first_pod() || strike.is_at_the_last_pod()) {
        if let Strike::Point { passes, .. } = strike {
            *passes = 0;
        }
    }
    deck.extend((0..MOMENTS).map(|_| Strike::Moment { after_ms: random.below(400) }));
    deck.extend((0..SHIMS).map(|n| Strike::Shim { daemon_away: n % 2 == 1 }));
    deck.extend((0..REGISTRIES).map(|_| Strike::Registry { after_ms: random.below(100) }));
    if network == Network::Bridge {
        deck.extend((0..PLUGINS).flat_map(|_| ["ADD", "DEL"]).map(|command| Strike::Plugin { command }));
    }
    deck
}

/// Strikes without end.
pub(crate) struct Schedule {
    points: Vec<String>,
    network: Network,
    random: Random,
    only: String,
    ahead: Vec<Strike>,
}

impl Schedule {
    pub(crate) fn new(points: &[String], network: Network, seed: u64, only: &str) -> Self {
        let mut schedule =
            Self { points: points.to_vec(), network, random: Random::new(seed), only: only.into(), ahead: Vec::new() };
        schedule.refill();
        schedule
    }

    fn refill(&mut self) {
        let mut deck = deck(&self.points, self.network, &mut self.random);
        deck.retain(|strike| strike.step().contains(&self.only));
        self.random.shuffle(&mut deck);
        // What only plugins have comes first: the other arena strikes the rest as well, and this one is slow.
        let network = self.network;
        deck.sort_by_key(|strike| network == Network::Bridge && strike.is_of_plugins());
        self.ahead.splice(0..0, deck);
    }

    /// Keeps a strike for later.
    pub(crate) fn put_off(&mut self, strike: Strike) {
        self.ahead.insert(0, strike);
    }

    /// Takes a strike that needs a host without pods, wherever it is in the order.
    pub(crate) fn take_first(&mut self) -> Option<Strike> {
        let place = self.ahead.iter().rposition(Strike::is_at_the_first_pod)?;
        let strike = self.ahead.remove(place);
        if self.ahead.is_empty() {
            self.refill();
        }
        Some(strike)
    }

    /// The next strike, which stays.
    pub(crate) fn peek(&self) -> Option<&Strike> {
        self.ahead.last()
    }

    /// Takes the next strike; `None` if there is nothing to be struck at all.
    pub(crate) fn take(&mut self) -> Option<Strike> {
        let strike = self.ahead.pop();
        if self.ahead.is_empty() {
            self.refill();
        }
        strike
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, not with, `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or_default();
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<String> {
        ["sandbox shim", "cni add ran", "embedded link"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_seed_gives_its_order_again() {
        let order = |seed| {
            let mut schedule = Schedule::new(&points(), Network::Bridge, seed, "");
            (0..40).map_while(|_| schedule.take()).collect::<Vec<_>>()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn every_step_is_struck_in_one_of_the_arenas() {
        let mut seen = Vec::new();
        for network in [Network::Embedded, Network::Bridge] {
            let mut schedule = Schedule::new(&points(), network, 3, "");
            seen.extend((0..30).map_while(|_| schedule.take()).map(|strike| strike.step()));
        }
        for step in all_steps(&points()) {
            assert!(seen.contains(&step), "{step}");
        }
    }

    #[test]
    fn nothing_is_struck_where_no_step_fits() {
        let mut schedule = Schedule::new(&points(), Network::Embedded, 3, "no such step");
        assert_eq!(schedule.take(), None);
    }
}
