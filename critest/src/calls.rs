//! Calls of a kubelet as a text: what it asked and what it was answered, without the types of the CRI.
//!
//! A fixture holds such a text; the test that replays it has its substitutions in [`Names`]. How a message is written is
//! [`message`]'s part, when two answers are the same [`compare`]'s.

pub mod compare;
pub mod message;
pub mod raw;

use anyhow::{Context, Result, bail};

pub use compare::Names;
use message::{Field, parse};

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `RuntimeService/Version`.
    pub method: String,
    /// The request.
    pub request: Vec<Field>,
    /// The answer, or the code of its error.
    pub answer: Result<Vec<Field>, i32>,
    /// Paths of the node that the request names and that were there: directories end with a slash.
    pub paths: Vec<String>,
}

impl Call {
    /// As a fixture has it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for path in &self.paths {
            text.push_str(&format!("path {path}\n"));
        }
        text.push_str(&format!("call {}\n{}", self.method, message::text(&self.request)));
        match &self.answer {
            Ok(fields) => text.push_str(&format!("answer\n{}", message::text(fields))),
            Err(code) => text.push_str(&format!("error {code}\n")),
        }
        text
    }

    /// Whether it asks for measures, which are others each time.
    #[must_use]
    pub fn is_measure(&self) -> bool {
        self.method.ends_with("Stats") || self.method.ends_with("FsInfo") || self.method.ends_with("Metrics")
    }

    /// Whether it only looks.
    #[must_use]
    pub fn is_read(&self) -> bool {
        let name = self.method.rsplit('/').next().unwrap_or_default();
        ["List", "Version", "Runtime", "Image"].iter().any(|start| name.starts_with(start))
            || name == "Status"
            || name == "PodSandboxStatus"
            || name.starts_with("ContainerSta")
            || name.starts_with("PodSandboxSta")
    }
}

/// Reads a fixture. Lines that start with `#` are words for readers.
///
/// # Errors
/// It is none; the text names the line.
pub fn read(text: &str) -> Result<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    let mut paths = Vec::new();
    let mut body = String::new();
    // From the end, so that a head finds its lines collected.
    let mut answer = None;
    for (number, line) in text.lines().enumerate().collect::<Vec<_>>().into_iter().rev() {
        let words = line.split_once(' ').unwrap_or((line, ""));
        let fields = |body: &str| parse(body).with_context(|| format!("line {}", number + 1));
        match words {
            ("answer", "") => answer = Some(Ok(fields(&std::mem::take(&mut body))?)),
            ("error", code) => answer = Some(Err(code.parse().with_context(|| format!("line {}", number + 1))?)),
            ("call", method) => {
                let Some(answer) = answer.take() else { bail!("line {}: a call without an answer", number + 1) };
                if let Some(later) = calls.last_mut() {
                    later.paths = std::mem::take(&mut paths);
                }
                let request = fields(&std::mem::take(&mut body))?;
                calls.push(Call { method: method.into(), request, answer, paths: Vec::new() });
            }
            ("path", path) => paths.insert(0, path.to_owned()),
            _ if line.starts_with('#') => {}
            _ => body.insert_str(0, &format!("{line}\n")),
        }
    }
    if let Some(first) = calls.last_mut() {
        first.paths = paths;
    }
    calls.reverse();
    Ok(calls)
}

#[cfg(test)]
mod tests;
