//! Measures this function beside others that do the same job, each as a process of its own, and writes the chart into
//! `docs/bench/`, and the table and what an event costs into the README. `make bench` runs it.
//!
//! An optional argument is the number of cold starts of each (31 if not given).

mod chart;
mod cost;
mod cpu_share;
mod measure;
mod peers;
mod report;

use cpu_share::CpuShare;
use harness::Sqs;
use measure::{Bench, Samples};
use peers::Peer;
use std::{fs, path::Path, process::ExitCode};

const COLD_STARTS: usize = 31;
/// Each of them a process that answers [`measure::WARM_EVENTS`] events.
const WARM_RUNS: usize = 7;

// One thread for Lambda and SQS leaves the other cores to whoever is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the project");
    let cold_starts = match std::env::args().nth(1).map_or(Ok(COLD_STARTS), |argument| argument.parse()) {
        Ok(count @ 1..) => count,
        _ => {
            eprintln!("usage: bench [NUMBER OF COLD STARTS]");
            return ExitCode::FAILURE;
        }
    };

    let mut skipped = Vec::new();
    let mut peers: Vec<(Peer, Samples)> = Vec::new();
    for (name, made) in peers::all(root) {
        match made {
            Ok(peer) => peers.push((peer, Samples::default())),
            Err(reason) => {
                eprintln!("{name} is left out: {reason}");
                skipped.push((name, reason));
            }
        }
    }
    let cpu_share = CpuShare::of_128_mb();
    if let Err(reason) = &cpu_share {
        eprintln!("No start at 128 MB's share of CPU: {reason}");
    }

    let bench = Bench {
        sqs: Sqs::tls_beside(&peers::system_roots()).await,
        body: fs::read(root.join("events/payloads/contact-changed.json")).expect("the payload is in the repository"),
        cpu_share: cpu_share.as_ref().ok(),
    };
    // In turn, so that a noisy moment is no one's disadvantage.
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

    let report = report::Report::new(&peers, skipped, cpu_share.as_ref().err(), cold_starts);
    let text = report.text();
    println!("{text}");
    fs::write(root.join("docs/bench/results.svg"), chart::svg(&peers)).expect("docs/bench can be written to");
    let readme = root.join("README.md");
    let old = fs::read_to_string(&readme).expect("the project has a README");
    let new = replace(&replace(&old, "performance", &text), "cost", &cost::text(&peers, &report.machine));
    fs::write(&readme, new).expect("the README can be written to");
    eprintln!("wrote docs/bench/results.svg and README.md");
    ExitCode::SUCCESS
}

/// A document with another text between `<!-- NAME -->` and `<!-- end of NAME -->`.
fn replace(document: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = document.split_once(&begin).expect("the document has the place for it");
    let (_, after) = rest.split_once(&end).expect("the place has an end");
    format!("{before}{begin}\n{text}\n{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "a\n<!-- b -->\nold\n<!-- end of b -->\nc\n";
        let expected = "a\n<!-- b -->\n\nnew\n\n<!-- end of b -->\nc\n";
        assert_eq!(replace(document, "b", "new\n"), expected);
        assert_eq!(replace(expected, "b", "new\n"), expected);
    }
}
