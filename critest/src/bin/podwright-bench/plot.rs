//! The distributions as a picture: for each row of times and each contender a box from p50 to p95, with a line up to p99.

use std::fmt::Write as _;

use crate::lane::Lane;
use crate::report::{Report, Row};

const LABELS: f64 = 420.0;
const WIDTH: f64 = 620.0;
const LINE: f64 = 18.0;
const COLOURS: [&str; 4] = ["#2a6fbb", "#c4572e", "#5b8c3a", "#8b5aa8"];

/// An SVG; each row has a scale of its own, from 0.
pub(crate) fn svg(report: &Report) -> String {
    let rows: Vec<&Row> =
        report.rows().iter().filter(|row| row.lanes().iter().any(|lane| lane.samples.len() > 1)).collect();
    let lines: usize = rows.iter().map(|row| row.lanes().len() + 2).sum();
    let height = LINE * (crate::sample::number(lines) + 1.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        LABELS + WIDTH + 120.0
    );
    let mut top = LINE;
    for row in rows {
        top = draw(&mut text, row, top);
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, row: &Row, mut top: f64) -> f64 {
    let longest = row.lanes().iter().map(|lane| lane.samples.at(99)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = WIDTH / longest;
    // Writing to a String does not fail.
    let _ =
        writeln!(text, "<text x=\"8\" y=\"{top}\" font-weight=\"bold\">{} ({})</text>", escaped(&row.name), row.unit);
    for (Lane { name, samples, .. }, colour) in row.lanes().iter().zip(COLOURS.iter().cycle()) {
        top += LINE;
        let [p50, p95, p99] = [50, 95, 99].map(|percent| samples.at(percent) * scale);
        let middle = top - 4.0;
        let _ = writeln!(
            text,
            "<text x=\"24\" y=\"{top}\">{}</text>\n\
             <line x1=\"{LABELS}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"{colour}\"/>\n\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{top}\">{:.2} / {:.2} / {:.2}</text>",
            escaped(name),
            LABELS + p99,
            LABELS + p50,
            middle - 5.0,
            (p95 - p50).max(1.0),
            LABELS + p99 + 6.0,
            samples.at(50),
            samples.at(95),
            samples.at(99),
        );
    }
    top + 2.0 * LINE
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lane::Lanes;
    use crate::report::Better;

    #[test]
    fn rows_of_times_are_drawn_and_names_are_escaped() {
        let mut report = Report::default();
        let row = |name: &str, times: u64| {
            let mut lanes = Lanes::of(["a<b"]);
            (1..=times).for_each(|ms| lanes.push(0, Duration::from_millis(ms)));
            Row::new(name, "ms", Better::Less, lanes)
        };
        report.add(row("exec & more", 4));
        report.add(row("one number", 1));
        let picture = svg(&report);
        assert!(picture.contains("exec &amp; more (ms)") && picture.contains("a&lt;b"), "{picture}");
        assert!(!picture.contains("one number"), "a single number has no distribution");
    }
}
