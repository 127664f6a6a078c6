//! The measurements. Each starts a new process.

use std::time::Duration;

use test_support::sample_events::SAMPLE_SECRET;
use test_support::{
    CompletedInvocation, Invocation, Recording, RunningProcess, RuntimeApi, SqsServer, TIMEOUT, WebhookRequest,
};

use crate::cpu_share::CpuShare;
use crate::peers::Peer;

/// The number of events before a warm measurement.
const WARM_UP_EVENTS: usize = 200;

/// The number of events in a warm measurement.
const WARM_EVENTS: usize = 1000;

/// The measurements of one implementation, in milliseconds or bytes, one per run.
#[derive(Default)]
pub(crate) struct Samples {
    /// From the start of the process to its first poll for an event.
    pub(crate) init: Vec<f64>,
    /// From the first poll to the first response.
    pub(crate) first_response: Vec<f64>,
    /// From the start of the process to the first response, with an event waiting.
    pub(crate) cold: Vec<f64>,
    /// Init with a full core, plus the first response with the CPU share of 128 MB.
    pub(crate) cold_at_128_mb: Vec<f64>,
    /// The median response time of a warm run.
    pub(crate) warm_p50: Vec<f64>,
    /// The 99th percentile of the response times of a warm run.
    pub(crate) warm_p99: Vec<f64>,
    /// CPU time per event of a warm run.
    pub(crate) cpu: Vec<f64>,
    /// The peak of the resident memory after a warm run.
    pub(crate) peak_rss: Vec<f64>,
    /// The size of the log line of an event.
    pub(crate) log_bytes: Vec<f64>,
}

/// The surroundings of all measurements.
pub(crate) struct Bench<'a> {
    pub(crate) sqs: SqsServer,
    pub(crate) body: Vec<u8>,
    pub(crate) cpu_share: Option<&'a CpuShare>,
}

impl Bench<'_> {
    /// Measures a cold start with an event waiting.
    pub(crate) async fn cold(&self, peer: &Peer, samples: &mut Samples) {
        let lambda = RuntimeApi::start().await;
        let event = lambda.send(self.event());
        let function = self.start(peer, &lambda);
        let invocation = completed(peer, event, &function).await;
        let first_poll = lambda.first_poll().await;
        samples.init.push(ms(first_poll - function.started()));
        samples.first_response.push(ms(invocation.completed - first_poll));
        samples.cold.push(ms(invocation.completed - function.started()));
        function.kill().await;
    }

    /// Measures a cold start with 128 MB. As in Lambda, only the init phase has a full core.
    pub(crate) async fn cold_at_128_mb(&self, peer: &Peer, samples: &mut Samples) {
        let Some(cpu_share) = self.cpu_share else { return };
        let lambda = RuntimeApi::start().await;
        let function = self.start(peer, &lambda);
        let first_poll = lambda.first_poll().await;
        cpu_share.limit(function.pid());
        let invocation = completed(peer, lambda.send(self.event()), &function).await;
        samples.cold_at_128_mb.push(ms(first_poll - function.started()) + ms(invocation.duration()));
        function.kill().await;
    }

    /// Measures one event after the other in a warm process.
    pub(crate) async fn warm(&self, peer: &Peer, samples: &mut Samples) {
        let lambda = RuntimeApi::start().await;
        let function = self.start(peer, &lambda);
        for _ in 0..WARM_UP_EVENTS {
            completed(peer, lambda.send(self.event()), &function).await;
        }
        let cpu_before = function.cpu_time();
        let mut durations = Vec::with_capacity(WARM_EVENTS);
        for _ in 0..WARM_EVENTS {
            durations.push(ms(completed(peer, lambda.send(self.event()), &function).await.duration()));
        }
        samples.cpu.push(ms(function.cpu_time() - cpu_before) / WARM_EVENTS as f64);
        samples.peak_rss.push(function.peak_resident_bytes() as f64);
        samples.log_bytes.extend(function.stdout_lines().last().map(|line| line.len() as f64 + 1.0));
        samples.warm_p50.push(percentile(&durations, 50));
        samples.warm_p99.push(percentile(&durations, 99));
        function.kill().await;
    }

    /// Returns the size of the log line of a forged request with the longest headers that are logged, in bytes.
    pub(crate) async fn rejection_line(&self, peer: &Peer) -> f64 {
        let lambda = RuntimeApi::start().await;
        let function = self.start(peer, &lambda);
        let request = WebhookRequest::signed(self.body.clone(), "another secret");
        let long = "x".repeat(1000);
        let request = ["X-SuperOffice-Event", "X-SuperOffice-EventId", "X-SuperOffice-Retry"]
            .into_iter()
            .fold(request, |request, name| request.header(name, &long));
        let invocation = lambda.send(request.http_api().to_string()).completed_within(TIMEOUT).await;
        assert_eq!(invocation.map(|invocation| invocation.response().status), Some(401), "a forged request");
        let size = function.stdout_lines().last().map(|line| line.len() as f64 + 1.0);
        function.kill().await;
        size.unwrap()
    }

    fn event(&self) -> String {
        WebhookRequest::signed(self.body.clone(), SAMPLE_SECRET).http_api().to_string()
    }

    fn start(&self, peer: &Peer, lambda: &RuntimeApi) -> RunningProcess {
        self.sqs.record(Recording::Counts);
        peer.process(&self.sqs)
            .envs(lambda.environment())
            .env("SUPEROFFICE_WEBHOOK_SECRET", SAMPLE_SECRET)
            .env("QUEUE_URL", self.sqs.queue_url("events"))
            .start()
    }
}

/// Waits for the response to an event.
///
/// # Panics
/// If the event was not forwarded: an implementation that fails cannot be measured.
async fn completed(peer: &Peer, event: Invocation, function: &RunningProcess) -> CompletedInvocation {
    let Some(invocation) = event.completed_within(TIMEOUT).await else {
        panic!("{} does not respond: {:?}", peer.name, function.stderr_lines());
    };
    let response = invocation.response();
    let expected = if peer.queues { r#""messageId""# } else { "nothing" };
    assert!(response.status == 200 && response.body.contains(expected), "{}: {response:?}", peer.name);
    invocation
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Returns the sample that the given percentage of all samples does not exceed.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0, 50, 99, 100].map(|percent| percentile(&samples, percent)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50), 2.0);
    }
}
