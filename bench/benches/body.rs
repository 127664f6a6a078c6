//! How the cost of an event grows with its body: verifying, decoding, and building the message.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, json};
use std::hint::black_box;
use superoffice_webhook::{
    event::Event,
    message::{MessageFormat, QueueMessage},
    signature::{Secret, Verifier},
};

const PRIMARY_KEY: i64 = 994_863;

/// An event whose `FieldValues` fill it up to a size.
fn body(bytes: usize) -> Vec<u8> {
    let event = |fields: Map<_, _>| {
        json!({
            "EventId": "b7d1c3c2-7f0e-4a58-8a35-0d9f4f6f2c90",
            "Timestamp": "2026-03-16T08:20:41.6812131Z",
            "Event": "contact.changed",
            "PrimaryKey": PRIMARY_KEY,
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
    let secret = Secret::new("a secret").expect("it is not empty");
    let verifier = Verifier::new(secret.clone());
    for (name, bytes) in [("1 kB", 1_000), ("64 kB", 64_000), ("900 kB", 900_000)] {
        let body = body(bytes);
        let signature = secret.sign(&body).to_string();
        let verified = verifier.verify(body.clone(), [&signature]).expect("it is signed");
        let event = Event::parse(verified.clone()).expect("it is an event");
        let mut group = criterion.benchmark_group("body");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("verify", name), |bencher| {
            bencher.iter_batched(
                || body.clone(),
                |body| verifier.verify(black_box(body), [&signature]),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter_batched(|| verified.clone(), |body| Event::parse(black_box(body)), BatchSize::LargeInput);
        });
        for (format_name, format) in
            [("message", MessageFormat::SuperOffice), ("message, CloudEvents", MessageFormat::CloudEvents)]
        {
            group.bench_function(BenchmarkId::new(format_name, name), |bencher| {
                bencher.iter_batched(
                    || event.clone(),
                    |event| QueueMessage::for_event(black_box(event), PRIMARY_KEY, format),
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, cost_by_size);
criterion_main!(benches);
