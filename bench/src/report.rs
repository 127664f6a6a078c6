//! The tables and the summary, in Markdown that is also readable as text.

use std::fmt::Write as _;
use std::fs;

use jiff::Timestamp;

use crate::measure::{Samples, percentile};
use crate::peers::{EMPTY, FLOOR, FUNCTION, NODE, PYTHON, Peer, RUST_DEFAULT};

pub(crate) const MB: f64 = 1_000_000.0;

/// The maximum length of a line.
const WIDTH: usize = 120;

pub(crate) struct Report<'a> {
    peers: &'a [(Peer, Samples)],
    skipped: Vec<(&'static str, String)>,
    no_cpu_share: Option<&'a String>,
    cold_starts: usize,
}

/// Selects one kind of samples.
type Column = fn(&Samples) -> &Vec<f64>;

const COLD: Column = |samples| &samples.cold;
const COLD_AT_128_MB: Column = |samples| &samples.cold_at_128_mb;
const CPU: Column = |samples| &samples.cpu;
const PEAK_RSS: Column = |samples| &samples.peak_rss;

impl<'a> Report<'a> {
    pub(crate) fn new(
        peers: &'a [(Peer, Samples)],
        skipped: Vec<(&'static str, String)>,
        no_cpu_share: Option<&'a String>,
        cold_starts: usize,
    ) -> Self {
        Self { peers, skipped, no_cpu_share, cold_starts }
    }

    /// Returns the tables for docs/benchmarks.md.
    pub(crate) fn tables(&self) -> String {
        [self.start(), self.warm(), self.notes(), self.comparison()].join("\n")
    }

    /// Returns the three figures for README.md.
    pub(crate) fn summary(&self) -> String {
        let cold = |column, name| {
            let (own, faster) = (self.median(FUNCTION, column)?, self.ratio(RUST_DEFAULT, FUNCTION, column));
            let than = "than the same job in Rust with default features";
            let faster = faster.map_or(String::new(), |ratio| format!(", {ratio:.1} times faster {than}"));
            Some(format!("- **{own:.1} ms** {name}{faster}.\n"))
        };
        let warm = || {
            let (memory, cpu) = (self.median(FUNCTION, PEAK_RSS)?, self.median(FUNCTION, CPU)?);
            Some(format!("- **{:.1} MB** of memory, {cpu:.2} ms of CPU per event.\n", memory / MB))
        };
        [cold(COLD, "cold start"), cold(COLD_AT_128_MB, "cold start at 128 MB"), warm()].into_iter().flatten().collect()
    }

    fn start(&self) -> String {
        let head = ["start", "init, ms", "first response, ms", "cold start, ms", "cold start at 128 MB, ms"];
        self.table(head, |_, samples| {
            [&samples.init, &samples.first_response, &samples.cold, &samples.cold_at_128_mb].map(|s| spread(s))
        })
    }

    fn warm(&self) -> String {
        let head = ["warm", "p50, ms", "p99, ms", "CPU per event, ms", "peak RSS, MB", "artifact, MB (zipped)"];
        self.table(head, |peer, samples| {
            let memory: Vec<f64> = samples.peak_rss.iter().map(|bytes| bytes / MB).collect();
            let artifact = peer.artifact().map(|sizes| (sizes.0 as f64 / MB, sizes.1 as f64 / MB));
            [
                spread(&samples.warm_p50),
                spread(&samples.warm_p99),
                spread(&samples.cpu),
                spread(&memory),
                artifact.map_or(String::new(), |(size, zipped)| format!("{size:.1} ({zipped:.1})")),
            ]
        })
    }

    /// Returns a table with one row per implementation. `M` is `N` - 1.
    fn table<const N: usize, const M: usize>(
        &self,
        head: [&str; N],
        cells: impl Fn(&Peer, &Samples) -> [String; M],
    ) -> String {
        let mut rows = vec![head.map(str::to_owned).to_vec(), vec!["---".to_owned(); N]];
        for (peer, samples) in self.peers {
            let name = if peer.name == FUNCTION { format!("**{FUNCTION}**") } else { peer.name.to_owned() };
            rows.push([name].into_iter().chain(cells(peer, samples)).collect());
        }
        markdown(&rows)
    }

    fn notes(&self) -> String {
        let mut notes = wrap(&format!("{} cold starts of each. {}.", self.cold_starts, machine()));
        for (name, reason) in &self.skipped {
            let _ = write!(notes, "\n{}", wrap(&format!("Not measured: {name}: {reason}.")));
        }
        if let Some(reason) = self.no_cpu_share {
            let text = format!("Not measured: cold starts at 128 MB, because no control group is available: {reason}.");
            let _ = write!(notes, "\n{}", wrap(&text));
        }
        notes
    }

    fn comparison(&self) -> String {
        let faster = |text: &str, name, column| {
            Some([text.to_owned(), format!("{:.1} times faster", self.ratio(name, FUNCTION, column)?)])
        };
        let times = |text: &str, name, column| {
            Some([text.to_owned(), format!("{:.2} times", self.ratio(FUNCTION, name, column)?)])
        };
        let mut rows = vec![vec!["this function".to_owned(), String::new()], vec!["---".to_owned(); 2]];
        rows.extend(
            [
                faster("cold start, compared with Rust with default features", RUST_DEFAULT, COLD),
                faster("cold start at 128 MB, compared with Rust with default features", RUST_DEFAULT, COLD_AT_128_MB),
                faster("cold start, compared with Node", NODE, COLD),
                faster("cold start, compared with Python", PYTHON, COLD),
                times("cold start, compared with the hand-written floor", FLOOR, COLD),
                times("cold start, compared with the empty function", EMPTY, COLD),
                times("CPU per event, compared with Rust with default features", RUST_DEFAULT, CPU),
                times("CPU per event, compared with the hand-written floor", FLOOR, CPU),
            ]
            .into_iter()
            .flatten()
            .map(Vec::from),
        );
        markdown(&rows)
    }

    /// Returns a median, if it was measured.
    fn median(&self, name: &str, column: Column) -> Option<f64> {
        let (_, samples) = self.peers.iter().find(|(peer, _)| peer.name == name)?;
        let values = column(samples);
        (!values.is_empty()).then(|| percentile(values, 50))
    }

    /// Returns the ratio of two medians, if both were measured.
    fn ratio(&self, dividend: &str, divisor: &str, column: Column) -> Option<f64> {
        Some(self.median(dividend, column)? / self.median(divisor, column)?)
    }
}

/// Returns the median and the quartiles.
pub(crate) fn spread(samples: &[f64]) -> String {
    if samples.is_empty() {
        return "–".into();
    }
    let [low, middle, high] = [25, 50, 75].map(|percent| percentile(samples, percent));
    let digits = match middle {
        ..1.0 => 2,
        ..30.0 => 1,
        _ => 0,
    };
    format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
}

/// Returns a table with aligned columns.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text + "|\n"
    })
}

/// Returns a paragraph whose lines are not longer than [`WIDTH`].
pub(crate) fn wrap(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// Returns the CPU and the date.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([':', '\t', ' ']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = Timestamp::now().strftime("%-d %B %Y");
    format!("{model}, {cores} cores, {date}")
}

#[cfg(test)]
mod tests {
    use super::{markdown, spread, wrap};

    #[test]
    fn spread_is_the_median_and_the_quartiles() {
        assert_eq!(spread(&[4.0, 2.0, 3.0, 1.0, 5.0]), "3.0 (2.0–4.0)");
        assert_eq!(spread(&[]), "–");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bc"], ["def", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(markdown(&rows), "| a   | bc |\n| def |    |\n");
    }

    #[test]
    fn long_lines_are_wrapped() {
        let word = "x".repeat(50);
        assert_eq!(wrap(&format!("{word} {word} {word}")), format!("{word} {word}\n{word}\n"));
    }
}
