//! Errors and warnings, where callers look for them: the file of --log, in runc's form, and stderr.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Error;
use serde_json::json;

use crate::arguments::LogFormat;
use crate::clock;

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    /// A log in `file`, or on stderr.
    pub(crate) fn new(file: Option<PathBuf>, format: LogFormat) -> Self {
        Self { file: file.filter(|file| !file.as_os_str().is_empty()), format }
    }

    /// What made the call fail. Callers show stderr to people and read the file.
    pub(crate) fn error(&self, error: &Error) {
        let text = format!("{error:#}");
        self.write("error", &text);
        if self.file.is_some() {
            eprintln!("{text}");
        }
    }

    /// What is worth knowing though the call goes on.
    pub(crate) fn warning(&self, text: &str) {
        self.write("warning", text);
    }

    fn write(&self, level: &str, text: &str) {
        let line = self.line(level, text);
        let Some(path) = &self.file else {
            eprint!("{line}");
            return;
        };
        let written =
            File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            eprintln!("cannot write to the log {}: {error}", path.display());
        }
    }

    fn line(&self, level: &str, text: &str) -> String {
        match self.format {
            LogFormat::Json => format!("{}\n", json!({"level": level, "msg": text, "time": clock::now()})),
            LogFormat::Text => format!("time=\"{}\" level={level} msg={text:?}\n", clock::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_is_one_object_whatever_the_text() {
        let log = Log::new(None, LogFormat::Json);
        let line = log.line("error", "a \"b\"\nc");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (line.matches('\n').count(), &value["level"], &value["msg"]),
            (1, &json!("error"), &json!("a \"b\"\nc"))
        );
    }
}
