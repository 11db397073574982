//! `list` and `ps`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::arguments::{ListFormat, ListOptions, PsOptions};
use crate::container;
use crate::status;
use crate::store::Store;

/// Prints all containers below --root. One that is removed meanwhile, or can not be read, does not hide the others.
pub(crate) fn containers(store: &Store, options: &ListOptions) -> Result<()> {
    let mut states = Vec::new();
    for id in store.ids()? {
        let Ok((place, record)) = store.find(&id) else { continue };
        if let Ok(state) = status::state(&place, &record) {
            states.push(state);
        }
    }
    if options.quiet {
        states.iter().filter_map(|state| state.get("id")?.as_str()).for_each(|id| println!("{id}"));
        return Ok(());
    }
    if options.format == ListFormat::Json {
        println!("{}", json!(states));
        return Ok(());
    }
    println!("{:<32} {:>10} {:<10} {:<32} BUNDLE", "ID", "PID", "STATUS", "CREATED");
    for state in states {
        let text = |key: &str| state.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let pid = state.get("pid").map(ToString::to_string).unwrap_or_default();
        println!("{:<32} {pid:>10} {:<10} {:<32} {}", text("id"), text("status"), text("created"), text("bundle"));
    }
    Ok(())
}

/// Prints the processes of a container.
pub(crate) fn processes(store: &Store, options: &PsOptions) -> Result<()> {
    let (_, record) = store.find(&options.id)?;
    let pids: Vec<i32> =
        container::cgroup(&record)?.processes()?.into_iter().map(rustix::process::Pid::as_raw_pid).collect();
    if options.format == ListFormat::Json {
        println!("{}", json!(pids));
        return Ok(());
    }
    let words = if options.words.is_empty() { vec!["-ef".to_owned()] } else { options.words.clone() };
    let output = Command::new("ps").args(&words).output().context("running ps(1)")?;
    ensure!(output.status.success(), "ps {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    print!("{}", chosen(&String::from_utf8_lossy(&output.stdout), &pids)?);
    Ok(())
}

/// The head and the lines of these pids.
fn chosen(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|word| word == "PID").context("ps prints no column PID")?;
    let is_chosen = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(head).chain(lines.filter(is_chosen)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_container_are_shown() {
        let table = "UID PID CMD\nroot 7 seven 8\nroot 8 eight\n";
        assert_eq!(chosen(table, &[8]).unwrap(), "UID PID CMD\nroot 8 eight\n");
        assert!(chosen("UID CMD\n", &[8]).is_err());
    }
}
