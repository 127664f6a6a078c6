//! Compares the function with equivalent implementations, and writes the results into README.md, docs/benchmarks.md and
//! docs/benchmarks.svg. `make bench` runs it.
//!
//! An optional argument is the number of cold starts of each implementation.

#![expect(clippy::unwrap_used, reason = "an unexpected error ends the benchmark")]

mod chart;
mod cost;
mod cpu_share;
mod measure;
mod mirror;
mod peers;
mod report;
mod watchdog;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use test_support::{SqsServer, project_root};

use crate::cpu_share::CpuShare;
use crate::measure::{Bench, Samples};
use crate::peers::{FUNCTION, Peer};
use crate::report::Report;

const COLD_STARTS: usize = 31;

/// The number of processes of each implementation that are measured warm.
const WARM_RUNS: usize = 7;

// One thread for Lambda and SQS leaves the other cores to the measured process.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cold_starts = match std::env::args().nth(1).map_or(Ok(COLD_STARTS), |argument| argument.parse()) {
        Ok(count @ 1..) => count,
        _ => {
            eprintln!("usage: bench [NUMBER OF COLD STARTS]");
            return ExitCode::FAILURE;
        }
    };
    let root = project_root();

    let mut skipped = Vec::new();
    let mut peers: Vec<(Peer, Samples)> = Vec::new();
    for (name, peer) in peers::all(root) {
        match peer {
            Ok(peer) => peers.push((peer, Samples::default())),
            Err(reason) => {
                eprintln!("Skipped: {name}: {reason}");
                skipped.push((name, reason));
            }
        }
    }
    let cpu_share = CpuShare::of_mb(128);
    if let Err(reason) = &cpu_share {
        eprintln!("Skipped: cold starts at 128 MB: {reason}");
    }

    let bench = Bench {
        sqs: SqsServer::start_tls_with_roots(&peers::system_roots()).await,
        body: fs::read(root.join("events/payloads/contact-changed.json")).unwrap(),
        cpu_share: cpu_share.as_ref().ok(),
    };
    // The implementations take turns, so that other load affects all of them.
    for run in 1..=cold_starts {
        eprint!("\rcold start {run} of {cold_starts} ");
        for (peer, samples) in &mut peers {
            bench.cold(peer, samples).await;
            bench.cold_at_128_mb(peer, samples).await;
        }
    }
    eprintln!();
    for run in 1..=WARM_RUNS {
        eprint!("\rwarm run {run} of {WARM_RUNS} ");
        for (peer, samples) in &mut peers {
            bench.warm(peer, samples).await;
        }
    }
    eprintln!();
    let rejection_line = match peers.iter().find(|(peer, _)| peer.name == FUNCTION) {
        Some((peer, _)) => bench.rejection_line(peer).await,
        None => 0.0,
    };

    let report = Report::new(&peers, skipped, cpu_share.as_ref().err(), cold_starts);
    println!("{}\n{}", report.tables(), report.summary());
    fs::write(root.join("docs/benchmarks.svg"), chart::svg(&peers)).unwrap();
    replace_section(&root.join("docs/benchmarks.md"), "tables", &format!("\n{}\n", report.tables()));
    replace_section(&root.join("docs/benchmarks.md"), "cost", &format!("\n{}\n", cost::text(&peers, rejection_line)));
    replace_section(&root.join("docs/watchdog.md"), "watchdog", &watchdog::text());
    replace_section(&root.join("README.md"), "summary", &report.summary());
    replace_section(&root.join("docs/benchmarks.md"), "mirror", &mirror::text(root, cold_starts).await);
    eprintln!("wrote README.md, docs/benchmarks.md, docs/benchmarks.svg and docs/watchdog.md");
    ExitCode::SUCCESS
}

fn replace_section(document: &Path, name: &str, text: &str) {
    let old = fs::read_to_string(document).unwrap();
    fs::write(document, with_section(&old, name, text)).unwrap();
}

/// Returns a document with another text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
fn with_section(document: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let (before, rest) = document.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::with_section;

    #[test]
    fn only_the_section_is_replaced() {
        let document = "a\n<!-- bench:b -->\nold\n<!-- /bench:b -->\nc\n";
        let expected = "a\n<!-- bench:b -->\nnew\n<!-- /bench:b -->\nc\n";
        assert_eq!(with_section(document, "b", "new\n"), expected);
        assert_eq!(with_section(expected, "b", "new\n"), expected);
    }
}
