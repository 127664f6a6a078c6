//! The table, as Markdown that is also readable as it is.

use crate::{
    measure::{Samples, WARM_EVENTS, percentile},
    peers::{EMPTY, FLOOR, FUNCTION, NODE, PYTHON, Peer, RUST_DEFAULT},
};
use jiff::Timestamp;
use std::{fmt::Write as _, fs};

const MB: f64 = 1_000_000.0;

pub(crate) struct Report<'a> {
    pub(crate) machine: String,
    peers: &'a [(Peer, Samples)],
    skipped: Vec<(&'static str, String)>,
    no_cpu_share: Option<&'a String>,
    cold_starts: usize,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        peers: &'a [(Peer, Samples)],
        skipped: Vec<(&'static str, String)>,
        no_cpu_share: Option<&'a String>,
        cold_starts: usize,
    ) -> Self {
        Self { machine: machine(), peers, skipped, no_cpu_share, cold_starts }
    }

    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n{}", self.table(), self.notes(), self.ratios())
    }

    fn table(&self) -> String {
        let head = [
            "",
            "init, ms",
            "first answer, ms",
            "cold in all, ms",
            "cold at 128 MB, ms",
            "warm p50, ms",
            "warm p99, ms",
            "CPU per event, ms",
            "peak RSS, MB",
            "artifact, MB (zipped)",
        ];
        let mut rows = vec![head.map(str::to_owned), head.map(|_| "---".to_owned())];
        for (peer, samples) in self.peers {
            let artifact = peer
                .artifact()
                .map_or(String::new(), |(size, zipped)| format!("{:.1} ({:.1})", size as f64 / MB, zipped as f64 / MB));
            let memory: Vec<f64> = samples.peak_rss.iter().map(|bytes| bytes / MB).collect();
            let name = if peer.name == FUNCTION { format!("**{FUNCTION}**") } else { peer.name.to_owned() };
            rows.push([
                name,
                spread(&samples.init),
                spread(&samples.first_answer),
                spread(&samples.cold),
                spread(&samples.cold_at_128_mb),
                spread(&samples.warm_p50),
                spread(&samples.warm_p99),
                spread(&samples.cpu),
                spread(&memory),
                artifact,
            ]);
        }
        markdown(&rows)
    }

    fn notes(&self) -> String {
        let mut notes = format!(
            "Medians (quartiles). {}. {} cold starts each, an event waiting; then {} processes each that answer {} \
             events after 200 to warm up; all in turn. Lambda and SQS, the latter over TLS, are played on loopback. \
             128 MB: held to 7.2 % of a core from the first poll on. Artifact: what is deployed; Node and Python come \
             with Lambda. The floor does the job on bare sockets, asks the queue nothing before the first event and writes no log; the empty function queues nothing.\n",
            self.machine,
            self.cold_starts,
            crate::WARM_RUNS,
            WARM_EVENTS,
        );
        for (name, reason) in &self.skipped {
            let _ = writeln!(notes, "\nNot measured: {name}: {reason}.");
        }
        if let Some(reason) = self.no_cpu_share {
            let _ = writeln!(notes, "\nNot measured: cold at 128 MB, for want of a control group: {reason}.");
        }
        notes
    }

    fn ratios(&self) -> String {
        let median = |name, column: fn(&Samples) -> &Vec<f64>| {
            let (_, samples) = self.peers.iter().find(|(peer, _)| peer.name == name)?;
            let values = column(samples);
            (!values.is_empty()).then(|| percentile(values, 50))
        };
        let cold: fn(&Samples) -> &Vec<f64> = |samples| &samples.cold;
        let faster = |what: &str, name, column| {
            let ratio = median(name, column).zip(median(FUNCTION, column)).map(|(other, own)| other / own);
            ratio.map(|ratio| [what.to_owned(), format!("{ratio:.1} times faster")])
        };
        let times = |what: &str, name, column| {
            let ratio = median(name, column).zip(median(FUNCTION, column)).map(|(other, own)| own / other);
            ratio.map(|ratio| [what.to_owned(), format!("{ratio:.2} times")])
        };
        let mut rows = vec![["this function".to_owned(), String::new()], ["---".to_owned(), "---".to_owned()]];
        rows.extend(
            [
                faster("cold, against Rust with default features", RUST_DEFAULT, cold),
                faster("cold at 128 MB, against the same", RUST_DEFAULT, |samples| &samples.cold_at_128_mb),
                faster("cold, against Node", NODE, cold),
                faster("cold, against Python", PYTHON, cold),
                times("cold, against the hand-written floor", FLOOR, cold),
                times("cold, against the empty function", EMPTY, cold),
                times("warm CPU per event, against Rust with default features", RUST_DEFAULT, |samples| &samples.cpu),
            ]
            .into_iter()
            .flatten(),
        );
        markdown(&rows)
    }
}

/// The median and the quartiles.
fn spread(samples: &[f64]) -> String {
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

/// A table whose columns are as wide as their cells.
pub(crate) fn markdown<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    rows.iter().fold(String::new(), |mut text, row| {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text + "|\n"
    })
}

/// What was measured on, and when.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([':', '\t', ' ']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Timestamp::now().strftime("%-d %B %Y");
    format!("{model}, {cores} cores, Linux {}, {date}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::{markdown, spread};

    #[test]
    fn a_spread_is_the_median_and_the_quartiles() {
        assert_eq!(spread(&[4.0, 2.0, 3.0, 1.0, 5.0]), "3.0 (2.0–4.0)");
        assert_eq!(spread(&[]), "–");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bc"], ["def", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(markdown(&rows), "| a   | bc |\n| def |    |\n");
    }
}
