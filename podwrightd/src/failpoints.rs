//! Fail points of a whole daemon, for tests: their list, and arming one from the environment. Builds for people have none of it.

use anyhow::Context as _;
use podwright_podsandbox::Engine;

/// `NAME` or `NAME=N`: this process kills itself when it comes to the point, after it passed it `N` times.
const VARIABLE: &str = "PODWRIGHT_FAILPOINT";

/// All points, one in a line.
pub(crate) fn list() -> String {
    let others = [podwright_imageservice::FAIL_POINTS, podwright_cni::FAIL_POINTS].concat();
    let mut points = Engine::all_fail_points();
    points.extend(others.into_iter().map(str::to_owned));
    points.into_iter().map(|point| point + "\n").collect()
}

/// Arms what the environment names.
pub(crate) fn arm_from_environment() -> anyhow::Result<()> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(()) };
    let (point, passes) = text.split_once('=').unwrap_or((&text, "0"));
    anyhow::ensure!(list().lines().any(|known| known == point), "{VARIABLE}: there is no point {point:?}");
    let passes = passes.parse().with_context(|| format!("{VARIABLE}: {passes:?} is no number of passes"))?;
    podwright_sys::arm_fail_point(point, passes);
    tracing::warn!(point, passes, "this daemon will kill itself");
    Ok(())
}
