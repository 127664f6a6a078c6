//! A soak: many deliveries in one process leave no memory and no file open. A short one here; `make soak` makes it long.

use std::time::Duration;

use harness::{Behaviour, Envelope, Lambda, Process, Recording, Running, Sqs};

const SECRET: &str = "soak-secret";
/// By then, buffers, pools and the allocator's arenas have the size that they keep.
const WARM_UP: usize = 1000;
/// What memory may grow by after that, in bytes. One byte leaked by each of 100,000 deliveries is a tenth of it.
const GROWTH: u64 = 1024 * 1024;

/// Deliveries of every kind: forwarded, forged, test, ignored, quarantined, failed, and some large ones.
async fn deliver(lambda: &Lambda, number: usize) {
    let id = format!("{number:08x}-2222-4222-8222-222222222222");
    let event = |name: &str, more: &str| {
        format!(r#"{{"EventId":"{id}","Event":"{name}","PrimaryKey":{number},"ContextIdentifier":"Cust1"{more}}}"#)
    };
    let (envelope, status) = match number % 20 {
        0 => (Envelope::signed(event("contact.changed", ""), "forged"), 401),
        1 => (Envelope::signed(event("test", ""), SECRET), 200),
        2 => (Envelope::signed(event("sale.created", ""), SECRET), 200),
        3 => (Envelope::signed(format!("{number} is no event"), SECRET), 200),
        4 => (Envelope::signed(event("contact.refused", ""), SECRET), 503),
        5 if number % 200 == 5 => {
            (Envelope::signed(event("contact.changed", &format!(r#","X":"{}""#, "x".repeat(200_000))), SECRET), 200)
        }
        _ => (Envelope::signed(event("contact.changed", ""), SECRET), 200),
    };
    let envelope = if number.is_multiple_of(2) { envelope.v2() } else { envelope.v1() };
    assert_eq!(lambda.invoke(envelope).await.response().status, status, "delivery {number}");
}

/// Connections come and go, so the files open are looked at until they are as few as they were.
async fn settle(function: &Running, files: usize) {
    for _ in 0..100 {
        if function.open_files() <= files {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} files are open, {files} were", function.open_files());
}

async fn soak(deliveries: usize) {
    let (lambda, sqs) = (Lambda::start().await, Sqs::tls().await);
    // What lambda_runtime and glibc keep of each trace id is not what is looked for.
    lambda.one_trace();
    sqs.record(Recording::Counts);
    sqs.behave(|request| match &request.message {
        Some(message) if message.attribute("Event") == Some("contact.refused") => Behaviour::AccessDenied,
        _ => Behaviour::Answer,
    });
    let queue = sqs.queue_url("events");
    let function = Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
        .envs(lambda.environment())
        .envs(sqs.environment())
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", &queue)
        .env("QUARANTINE_QUEUE_URL", sqs.queue_url("quarantine"))
        .start();
    for number in 0..WARM_UP {
        deliver(&lambda, number).await;
    }
    let (memory, files) = (function.resident(), function.open_files());
    for number in WARM_UP..WARM_UP + deliveries {
        if number % 100 == 77 {
            // So that opening a connection anew is part of it.
            sqs.script(&queue, [Behaviour::TakeThenReset]);
        }
        deliver(&lambda, number).await;
        if number.is_multiple_of(10_000) {
            println!("{number} deliveries: {} KiB resident", function.resident() / 1024);
        }
    }
    settle(&function, files).await;
    let after = function.resident();
    println!(
        "{deliveries} deliveries: {} KiB resident before, {} KiB after, {} KiB at most; {files} files open",
        memory / 1024,
        after / 1024,
        function.peak_resident() / 1024
    );
    assert!(after < memory + GROWTH, "{} KiB more", (after - memory) / 1024);
}

#[tokio::test]
async fn thousands_of_deliveries_leave_no_memory_and_no_file() {
    soak(5_000).await;
}

#[tokio::test]
#[ignore = "takes minutes: make soak"]
async fn a_hundred_thousand_deliveries_leave_no_memory_and_no_file() {
    soak(100_000).await;
}
