//! A soak: many deliveries in one process leak neither memory nor files. `make soak` runs the long one.

use std::time::Duration;

use test_support::{Fault, Recording, RunningProcess, RuntimeApi, SqsServer, WebhookRequest};

use crate::function_process;

const SECRET: &str = "soak-secret";

/// Deliveries before the first measurement. Buffers, pools and the allocator's arenas then have their final size.
const WARM_UP: usize = 1000;

/// The allowed growth of memory after that, in bytes: ten bytes per delivery of the long soak.
const MAX_GROWTH: u64 = 1024 * 1024;

/// Sends a delivery of one of these kinds: forwarded, forged, test, ignored, quarantined, failed, or large.
async fn deliver(lambda: &RuntimeApi, number: usize) {
    let id = format!("{number:08x}-2222-4222-8222-222222222222");
    let event = |name: &str, more: &str| {
        format!(r#"{{"EventId":"{id}","Event":"{name}","PrimaryKey":{number},"ContextIdentifier":"Cust1"{more}}}"#)
    };
    let signed = |body: String| WebhookRequest::signed(body, SECRET);
    let (request, status) = match number % 20 {
        0 => (WebhookRequest::signed(event("contact.changed", ""), "forged"), 401),
        1 => (signed(event("test", "")), 200),
        2 => (signed(event("sale.created", "")), 200),
        3 => (signed(format!("{number} is no event")), 200),
        4 => (signed(event("contact.rejected", "")), 503),
        5 if number % 200 == 5 => {
            (signed(event("contact.changed", &format!(r#","X":"{}""#, "x".repeat(200_000)))), 200)
        }
        _ => (signed(event("contact.changed", "")), 200),
    };
    let event = if number.is_multiple_of(2) { request.http_api() } else { request.rest_api() };
    assert_eq!(lambda.invoke(event).await.response().status, status, "delivery {number}");
}

/// Waits until no more files are open than before. Connections close with a delay.
async fn wait_for_open_files(function: &RunningProcess, expected: usize) {
    for _ in 0..200 {
        if function.open_files() <= expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} files are open, {expected} before", function.open_files());
}

async fn soak(deliveries: usize) {
    let (lambda, sqs) = (RuntimeApi::start().await, SqsServer::start_tls().await);
    // lambda_runtime and glibc leak each trace id, which is known and not the subject of this test.
    lambda.use_constant_trace_id();
    sqs.record(Recording::Counts);
    sqs.inject(|request| {
        let is_rejected = request.message.as_ref()?.attribute("Event") == Some("contact.rejected");
        is_rejected.then_some(Fault::AccessDenied)
    });
    let queue = sqs.queue_url("events");
    let function = function_process(&lambda, &sqs)
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", &queue)
        .env("QUARANTINE_QUEUE_URL", sqs.queue_url("quarantine"))
        .start();
    for number in 0..WARM_UP {
        deliver(&lambda, number).await;
    }
    let (memory_before, files_before) = (function.resident_bytes(), function.open_files());
    assert!(memory_before > 0 && files_before > 0, "/proc cannot be read");
    for number in WARM_UP..WARM_UP + deliveries {
        if number % 100 == 77 {
            // Makes the function open another connection.
            sqs.script(&queue, [Fault::AcceptThenReset]);
        }
        deliver(&lambda, number).await;
        if number.is_multiple_of(10_000) {
            println!("{number} deliveries: {} KiB resident", function.resident_bytes() / 1024);
        }
    }
    wait_for_open_files(&function, files_before).await;
    let memory_after = function.resident_bytes();
    println!(
        "{deliveries} deliveries: {} KiB resident before, {} KiB after, {} KiB peak; {files_before} files open",
        memory_before / 1024,
        memory_after / 1024,
        function.peak_resident_bytes() / 1024
    );
    let growth = memory_after.saturating_sub(memory_before);
    assert!(growth < MAX_GROWTH, "{} KiB more", growth / 1024);
}

#[tokio::test]
async fn five_thousand_deliveries_leak_neither_memory_nor_files() {
    soak(5_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: make soak"]
async fn hundred_thousand_deliveries_leak_neither_memory_nor_files() {
    soak(100_000).await;
}
