//! `podwright check`: what the host must have, and what is on it that belongs to no pod. Works without a running daemon.

mod host;
mod mapping;
mod plugins;
mod room;

use std::path::Path;

use podwright_admin_api::v1::Leftover;

use crate::client;

/// How a line of the check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    /// Something will not work, and pods run.
    Warn,
    /// No pod will run.
    Fail,
}

/// One line of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    grade: Grade,
    subject: &'static str,
    /// What was found; with another grade than OK, also what to do.
    text: String,
}

impl Finding {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, subject, text: text.into() }
    }

    fn warn(subject: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, subject, text: text.into() }
    }

    fn fail(subject: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, subject, text: text.into() }
    }

    fn line(&self) -> String {
        let grade = match self.grade {
            Grade::Ok => "OK",
            Grade::Warn => "WARN",
            Grade::Fail => "FAIL",
        };
        format!("{grade:4}  {}: {}", self.subject, self.text)
    }
}

/// Prints the findings; whether nothing failed.
pub(crate) async fn run(state: &Path, root: &Path, repair: bool) -> bool {
    let mut findings = host::findings(state, root);
    findings.push(plugins::finding());
    findings.extend(room::findings(state, root));
    findings.extend(daemon(state, repair).await);
    for finding in &findings {
        println!("{}", finding.line());
    }
    findings.iter().all(|finding| finding.grade != Grade::Fail)
}

async fn daemon(state: &Path, repair: bool) -> Vec<Finding> {
    let version = match client::version(state).await {
        Ok(version) => version,
        Err(error) => return vec![Finding::warn("daemon", format!("{error:#}"))],
    };
    let mut findings = vec![Finding::ok(
        "daemon",
        format!("podwrightd {} answers, cgroup driver {}", version.version, version.cgroup_driver),
    )];
    match client::leftovers(state, repair).await {
        Ok(found) => {
            findings.extend(found.leftovers.iter().map(leftover));
            if found.leftovers.is_empty() {
                findings.push(Finding::ok("leftovers", "nothing that belongs to no record"));
            }
            findings.extend(found.not_checked.iter().map(|text| Finding::warn("not checked", text.as_str())));
        }
        Err(error) => findings.push(Finding::warn("leftovers", format!("{error:#}"))),
    }
    findings
}

fn leftover(left: &Leftover) -> Finding {
    let Leftover { kind, name, advice, removed, failure } = left;
    match (removed, failure.as_str()) {
        (true, _) => Finding::ok("leftover", format!("{kind} {name} belonged to no record and was removed")),
        (false, "") => Finding::warn("leftover", format!("{kind} {name} belongs to no record; {advice}")),
        (false, why) => Finding::warn(
            "leftover",
            format!("{kind} {name} belongs to no record and can not be removed: {why}; {advice}"),
        ),
    }
}
