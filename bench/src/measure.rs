//! One measurement of one function: a process of its own each time.

use crate::{cpu_share::CpuShare, peers::Peer};
use harness::{Answered, Envelope, Lambda, PATIENCE, Recording, Running, Sqs};
use std::time::Duration;

const SECRET: &str = "sample-secret-do-not-use-in-production";
/// Events before a warm run is measured, so that nothing happens for the first time in it.
const WARM_UP_EVENTS: usize = 200;
/// Events in a warm run.
pub(crate) const WARM_EVENTS: usize = 1000;

/// What was measured of one function, in milliseconds or bytes; an element a run.
#[derive(Default)]
pub(crate) struct Samples {
    /// From its start to its first poll for an event.
    pub(crate) init: Vec<f64>,
    /// From the first poll to the first answer.
    pub(crate) first_answer: Vec<f64>,
    /// Both, an event waiting from before the start.
    pub(crate) cold: Vec<f64>,
    /// The same, at 128 MB's share of CPU from the first poll on.
    pub(crate) cold_at_128_mb: Vec<f64>,
    /// Of a warm run, from handing out an event to its answer: the median, and the 99th percentile.
    pub(crate) warm_p50: Vec<f64>,
    pub(crate) warm_p99: Vec<f64>,
    /// CPU time for an event of a warm run.
    pub(crate) cpu: Vec<f64>,
    /// The most memory it had, after a warm run.
    pub(crate) peak_rss: Vec<f64>,
    /// What it writes to its log for an event.
    pub(crate) log_bytes: Vec<f64>,
}

/// What every measurement needs.
pub(crate) struct Bench<'a> {
    pub(crate) sqs: Sqs,
    pub(crate) body: Vec<u8>,
    pub(crate) cpu_share: Option<&'a CpuShare>,
}

impl Bench<'_> {
    /// A cold start with an event waiting.
    pub(crate) async fn cold(&self, peer: &Peer, samples: &mut Samples) {
        let lambda = Lambda::start().await;
        let event = lambda.send(self.event());
        let function = self.start(peer, &lambda);
        let answered = answered(peer, event, &function).await;
        let polled = lambda.first_poll().await;
        samples.init.push(ms(polled - function.started()));
        samples.first_answer.push(ms(answered.answered - polled));
        samples.cold.push(ms(answered.answered - function.started()));
        function.kill().await;
    }

    /// A cold start at 128 MB: the init phase has a whole core there, and what follows has not.
    pub(crate) async fn cold_at_128_mb(&self, peer: &Peer, samples: &mut Samples) {
        let Some(cpu_share) = self.cpu_share else { return };
        let lambda = Lambda::start().await;
        let function = self.start(peer, &lambda);
        let polled = lambda.first_poll().await;
        cpu_share.hold(function.pid());
        let answered = answered(peer, lambda.send(self.event()), &function).await;
        samples.cold_at_128_mb.push(ms(polled - function.started()) + ms(answered.took()));
        function.kill().await;
    }

    /// One event after the other.
    pub(crate) async fn warm(&self, peer: &Peer, samples: &mut Samples) {
        let lambda = Lambda::start().await;
        let function = self.start(peer, &lambda);
        for _ in 0..WARM_UP_EVENTS {
            answered(peer, lambda.send(self.event()), &function).await;
        }
        let cpu = function.cpu_time();
        let mut took = Vec::with_capacity(WARM_EVENTS);
        for _ in 0..WARM_EVENTS {
            took.push(ms(answered(peer, lambda.send(self.event()), &function).await.took()));
        }
        samples.cpu.push(ms(function.cpu_time() - cpu) / WARM_EVENTS as f64);
        samples.peak_rss.push(function.peak_resident() as f64);
        samples.log_bytes.extend(function.lines().last().map(|line| line.len() as f64 + 1.0));
        samples.warm_p50.push(percentile(&took, 50));
        samples.warm_p99.push(percentile(&took, 99));
        function.kill().await;
    }

    fn event(&self) -> String {
        Envelope::signed(self.body.clone(), SECRET).v2()
    }

    fn start(&self, peer: &Peer, lambda: &Lambda) -> Running {
        self.sqs.record(Recording::Counts);
        peer.process(&self.sqs)
            .envs(lambda.environment())
            .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
            .env("QUEUE_URL", self.sqs.queue_url("events"))
            .start()
    }
}

/// The answer to an event, which must be that the event was forwarded: whoever fails is not measured.
async fn answered(peer: &Peer, event: harness::Invocation, function: &Running) -> Answered {
    let Some(answered) = event.answered_within(PATIENCE).await else {
        panic!("{} does not answer: {:?}", peer.name, function.error_lines());
    };
    let response = answered.response();
    let expected = if peer.queues { r#""messageId""# } else { "nothing" };
    assert!(response.status == 200 && response.body.contains(expected), "{}: {response:?}", peer.name);
    answered
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The value that so many percent of the samples are at or below.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0, 50, 99, 100].map(|percent| percentile(&samples, percent)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 50), 2.0);
    }
}
