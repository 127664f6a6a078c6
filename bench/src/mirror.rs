//! The mirror's cold start and memory, beside the mirror with the AWS SDK's defaults.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use test_support::{AnswerServer, CompletedInvocation, Invocation, Process, RunningProcess, RuntimeApi, TIMEOUT};

use crate::cpu_share::CpuShare;
use crate::measure::{ms, percentile};
use crate::peers::{self, system_roots};
use crate::report::{MB, markdown, spread, wrap};

/// The memory of the function in its template, in MB.
const MEMORY: u32 = 256;
/// The number of batches before the memory is measured.
const BATCHES: usize = 200;
/// The number of processes of each program whose memory is measured.
const WARM_RUNS: usize = 7;

/// A program, with its measurements in milliseconds or megabytes.
struct Program {
    name: &'static str,
    file: PathBuf,
    init: Vec<f64>,
    first_response: Vec<f64>,
    cold: Vec<f64>,
    /// Init with a full core, plus the first response with the CPU share of the function's memory.
    cold_at_share: Vec<f64>,
    peak_rss: Vec<f64>,
}

impl Program {
    fn new(name: &'static str, file: PathBuf) -> Self {
        let [init, first_response, cold, cold_at_share, peak_rss] = [const { Vec::new() }; 5];
        Self { name, file, init, first_response, cold, cold_at_share, peak_rss }
    }

    fn start(&self, server: &AnswerServer, lambda: &RuntimeApi) -> RunningProcess {
        Process::new(&self.file)
            .current_dir("/")
            .envs(lambda.environment())
            .env("SSL_CERT_FILE", server.roots_file())
            .env("AWS_ENDPOINT_URL", server.url())
            .env("MIRROR_TABLE", "contacts")
            .env("SUPEROFFICE_URL", format!("{}/Cust12345", server.url()))
            .env("SUPEROFFICE_ACCESS_TOKEN", "token")
            .start()
    }

    /// Measures a cold start with a batch waiting.
    async fn cold(&mut self, server: &AnswerServer) {
        let lambda = RuntimeApi::start().await;
        let batch = lambda.send(batch());
        let function = self.start(server, &lambda);
        let invocation = completed(batch, &function).await;
        let first_poll = lambda.first_poll().await;
        self.init.push(ms(first_poll - function.started()));
        self.first_response.push(ms(invocation.completed - first_poll));
        self.cold.push(ms(invocation.completed - function.started()));
        function.kill().await;
    }

    /// Measures a cold start with the CPU share of the function's memory. As in Lambda, init has a full core.
    async fn cold_at_share(&mut self, server: &AnswerServer, share: &CpuShare) {
        let lambda = RuntimeApi::start().await;
        let function = self.start(server, &lambda);
        let first_poll = lambda.first_poll().await;
        share.limit(function.pid());
        let invocation = completed(lambda.send(batch()), &function).await;
        self.cold_at_share.push(ms(first_poll - function.started()) + ms(invocation.duration()));
        function.kill().await;
    }

    /// Measures the peak of the resident memory after some batches.
    async fn memory(&mut self, server: &AnswerServer) {
        let lambda = RuntimeApi::start().await;
        let function = self.start(server, &lambda);
        for _ in 0..BATCHES {
            completed(lambda.send(batch()), &function).await;
        }
        self.peak_rss.push(function.peak_resident_bytes() as f64 / MB);
        function.kill().await;
    }

    fn row(&self) -> Vec<String> {
        let size = fs::metadata(&self.file).unwrap().len() as f64 / MB;
        let columns = [&self.init, &self.first_response, &self.cold, &self.cold_at_share, &self.peak_rss];
        let figures = columns.into_iter().map(|samples| spread(samples));
        [self.name.to_owned()].into_iter().chain(figures).chain([format!("{size:.1}")]).collect()
    }
}

/// A batch with one event.
fn batch() -> String {
    let event = json!({"EventId": "1", "Event": "contact.changed", "PrimaryKey": 7, "ContextIdentifier": "Cust12345"});
    json!({"Records": [{
        "messageId": "m1", "body": event.to_string(), "attributes": {"MessageGroupId": "Cust12345/contact/7"},
        "eventSourceARN": "arn:aws:sqs:eu-north-1:123456789012:events.fifo", "messageAttributes": {},
    }]})
    .to_string()
}

/// The answers of SuperOffice, and of a table without a row.
fn answer(path: &str, action: Option<&str>) -> String {
    match action {
        Some(_) => "{}".to_owned(),
        None if path.ends_with("/Contact/7") => json!({"ContactId": 7, "Name": "Company"}).to_string(),
        None => panic!("an unexpected request for {path}"),
    }
}

/// Waits until a batch is handled.
///
/// # Panics
/// If the row was not written: a program that fails cannot be measured.
async fn completed(batch: Invocation, function: &RunningProcess) -> CompletedInvocation {
    let Some(invocation) = batch.completed_within(TIMEOUT).await else {
        panic!("the mirror does not respond: {:?}", function.stderr_lines());
    };
    let response = String::from_utf8_lossy(invocation.result.as_ref().unwrap());
    assert_eq!(response, r#"{"batchItemFailures":[]}"#, "{:?}", function.stdout_lines());
    invocation
}

/// Measures the mirror and its variant in turns. Returns the table for docs/benchmarks.md.
pub(crate) async fn text(root: &Path, cold_starts: usize) -> String {
    let built = peers::member(root, "mirror").and_then(|own| Ok((own, peers::peer(root, "mirror-default")?)));
    let (own, default) = match built {
        Ok(built) => built,
        Err(reason) => return format!("\n{}\n", wrap(&format!("Not measured: {reason}."))),
    };
    let mut programs = [Program::new("**mirror**", own), Program::new("mirror, SDK's defaults", default)];
    let server = AnswerServer::start(&system_roots(), answer).await;
    let share = CpuShare::of_mb(MEMORY);
    for run in 1..=cold_starts {
        eprint!("\rmirror: cold start {run} of {cold_starts} ");
        for program in &mut programs {
            program.cold(&server).await;
            if let Ok(share) = &share {
                program.cold_at_share(&server, share).await;
            }
        }
    }
    eprintln!();
    for _ in 0..WARM_RUNS {
        for program in &mut programs {
            program.memory(&server).await;
        }
    }
    let share = format!("cold start at {MEMORY} MB, ms");
    let head = ["mirror", "init, ms", "first response, ms", "cold start, ms", &share, "peak RSS, MB", "artifact, MB"];
    let mut rows = vec![head.map(str::to_owned).to_vec(), vec!["---".to_owned(); head.len()]];
    rows.extend(programs.iter().map(Program::row));
    let ratio = |column: fn(&Program) -> &Vec<f64>| {
        let [own, default] = [&programs[0], &programs[1]].map(|program| percentile(column(program), 50));
        default / own
    };
    let text = format!(
        "{cold_starts} cold starts of each: from the start of the process to the response for a batch with one event. The \
         memory is that after {BATCHES} batches. With the SDK's defaults, a cold start takes {:.1} times as long, and the \
         process needs {:.2} times the memory.",
        ratio(|program| &program.cold),
        ratio(|program| &program.peak_rss)
    );
    format!("\n{}\n{}\n", markdown(&rows), wrap(&text))
}

#[cfg(test)]
mod tests {
    use super::MEMORY;

    #[test]
    fn memory_is_that_of_the_template() {
        let template = include_str!("../../mirror/template.yaml");
        assert!(template.contains(&format!("      MemorySize: {MEMORY}\n")));
    }
}
