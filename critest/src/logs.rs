//! Log files in the CRI's format, read strictly.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One entry of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Whether the line ends here.
    pub full: bool,
    /// The text.
    pub text: Vec<u8>,
}

/// Reads a log file.
///
/// # Errors
/// The file is not there, or an entry is not as kubelet expects it.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    parse_log(&bytes).with_context(|| format!("in {}", path.display()))
}

/// Reads what a log file holds so far: an entry without its line feed is still being written.
///
/// # Errors
/// The file is not there, or an entry is not as kubelet expects it.
pub fn read_growing_log(path: &Path) -> Result<Vec<LogLine>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').and_then(|end| bytes.get(..end)).unwrap_or_default();
    parse_log(whole).with_context(|| format!("in {}", path.display()))
}

fn parse_log(bytes: &[u8]) -> Result<Vec<LogLine>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(parse).collect()
}

fn parse(line: &[u8]) -> Result<LogLine> {
    let shown = || String::from_utf8_lossy(line).into_owned();
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut next = || parts.next().with_context(|| format!("an entry with too few fields: {}", shown()));
    let [time, stream, tag] = [next()?, next()?, next()?].map(|part| String::from_utf8_lossy(part).into_owned());
    let text = next()?.to_vec();
    ensure!(time.len() >= 20 && time.as_bytes().get(10) == Some(&b'T'), "no time at the start of: {}", shown());
    ensure!(stream == "stdout" || stream == "stderr", "no stream in: {}", shown());
    ensure!(tag == "F" || tag == "P", "no tag in: {}", shown());
    Ok(LogLine { time, stream, full: tag == "F", text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_strictly() {
        let line = parse(b"2026-11-21T04:00:00.123456789Z stderr P a b").unwrap();
        assert_eq!((line.stream.as_str(), line.full, line.text.as_slice()), ("stderr", false, b"a b".as_slice()));
        for bad in ["", "x stdout F y", "2026-11-21T04:00:00.1Z out F y", "2026-11-21T04:00:00.1Z stdout X y"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
