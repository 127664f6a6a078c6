//! The cost of an event by the size of its body, in the function and in a consumer, and the cost of a rejection by the
//! number of tenants.

#![expect(clippy::unwrap_used, reason = "an unexpected error ends the benchmark")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use serde_json::{Map, json};
use superoffice_webhook::function::{
    DeliveryRecord, EventFilter, Handler, Outcome, Queue, QueueError, Request, WithFallback,
};
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::{MasterSecret, QueuedEvent, SIGNATURE_HEADER, Secret, TenantSecrets, Verifier};

/// A queue that drops every message.
struct Sink;

impl Queue for Sink {
    async fn send(&self, message: &QueueMessage, _: Option<&str>) -> Result<String, QueueError> {
        black_box(message);
        Ok("id".into())
    }
}

/// Returns an event with `FieldValues` up to a size.
fn body(bytes: usize) -> Vec<u8> {
    let event = |fields: Map<_, _>| {
        json!({
            "EventId": "b7d1c3c2-7f0e-4a58-8a35-0d9f4f6f2c90",
            "Timestamp": "2026-03-16T08:20:41.6812131Z",
            "Event": "contact.changed",
            "PrimaryKey": 994_863,
            "Entity": "contact",
            "FieldValues": fields,
            "ContextIdentifier": "Cust12345",
            "WebhookName": "Contacts to the data platform",
        })
        .to_string()
    };
    let mut fields = Map::new();
    let (mut size, mut number) = (event(fields.clone()).len(), 0);
    while size < bytes {
        let (name, value) = (format!("x_extra_field_{number}"), format!("[DT:09/16/2025 14:22:14.{number:07}]"));
        size += name.len() + value.len() + 6;
        number += 1;
        fields.insert(name, value.into());
    }
    event(fields).into_bytes()
}

fn cost_by_size(criterion: &mut Criterion) {
    let secret = Secret::new("a secret").unwrap();
    let verifier = Verifier::new(secret.clone());
    for (name, bytes) in [("1 kB", 1_000), ("64 kB", 64_000), ("900 kB", 900_000)] {
        let body = body(bytes);
        let signature = secret.sign(&body).to_string();
        let mut group = criterion.benchmark_group("body");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("authenticate", name), |bencher| {
            bencher.iter_batched(
                || body.clone(),
                |body| verifier.authenticate("/webhook", black_box(body), [&signature]),
                BatchSize::LargeInput,
            );
        });
        for (benchmark, format) in
            [("handle", MessageFormat::SuperOffice), ("handle, CloudEvents", MessageFormat::CloudEvents)]
        {
            let handler = Handler {
                verifier: verifier.clone(),
                filter: EventFilter::default(),
                format,
                events: WithFallback::new(Sink, None),
                quarantine: None,
            };
            let mut request = Request { body: body.clone(), ..Request::default() };
            request.method = "POST".parse().unwrap();
            request.headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
            group.bench_function(BenchmarkId::new(benchmark, name), |bencher| {
                bencher.iter_batched(
                    || request.clone(),
                    |request| {
                        let mut record = DeliveryRecord::default();
                        let outcome = handler.handle(request, None, &mut record).now_or_never().unwrap().unwrap();
                        assert!(matches!(outcome, Outcome::Forwarded { .. }), "{outcome:?}");
                    },
                    BatchSize::LargeInput,
                );
            });
        }
        let text = std::str::from_utf8(&body).unwrap();
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| QueuedEvent::from_message(black_box(text), |_| None).unwrap());
        });
        group.finish();
    }
}

/// Measures requests with a forged signature, which anyone can send. With derived secrets, each request names another
/// of 10,000 tenants.
fn rejection_by_tenants(criterion: &mut Criterion) {
    let secret = |text: &str| Secret::new(text).unwrap();
    let listed = (0..100).map(|number| (format!("Cust{number}"), vec![secret(&format!("secret {number}"))]));
    let listed = TenantSecrets::new(listed).unwrap();
    let master: MasterSecret = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let plain = vec!["/webhook".to_owned()];
    let tenants: Vec<String> = (0..10_000).map(|number| format!("/webhook/Cust{number}")).collect();
    for (size, bytes) in [("3 KiB", 3 << 10), ("1 MiB", 1 << 20)] {
        let body = body(bytes);
        let signature = secret("forged").sign(&body).to_string();
        let mut group = criterion.benchmark_group("rejection");
        for (name, verifier, paths) in [
            ("1 secret", Verifier::new(secret("shared")), &plain),
            ("100 listed tenants", Verifier::with_tenants(Some(secret("shared")), None, listed.clone()), &plain),
            ("10,000 derived tenants", Verifier::default().with_master(master.clone()), &tenants),
        ] {
            let mut paths = paths.iter().cycle();
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_batched(
                    || (body.clone(), paths.next().unwrap()),
                    |(body, path)| verifier.authenticate(path, black_box(body), [&signature]).unwrap_err(),
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, cost_by_size, rejection_by_tenants);
criterion_main!(benches);
