//! Audits that end at any step, and two audits at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bed::{Bed, INVOCATION, Variant, Wired, counts};

/// Prepares a tenant whose table lacks contacts and has surplus rows, on several pages. Three contacts contradict the
/// list, so that their rows get no stamp.
async fn prepared() -> Bed {
    let bed = Bed::filled(12).await;
    bed.crm().save(2, "Changed");
    bed.crm().remove(3);
    bed.crm().set_deleted(8, true);
    bed.create([13, 14]);
    bed.office().unlisted.borrow_mut().extend([6, 12]);
    bed.office().marked.borrow_mut().insert(9);
    bed.crm().save(9, "Changed");
    bed.office().delay.set(Duration::from_millis(10));
    bed.pass_hours(1);
    bed.office().rows.set(5);
    bed.crm().take_calls();
    bed
}

fn count(calls: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    calls.into_iter().for_each(|call| *counts.entry(call).or_default() += 1);
    counts
}

#[tokio::test(start_paused = true)]
async fn audit_that_is_interrupted_anywhere_continues_without_a_gap() {
    let mut steps = 0;
    loop {
        let bed = prepared().await;
        let versions = || {
            let rows = bed.table.rows("Cust1/contact").into_iter();
            rows.map(|(id, row)| (id, row.version)).collect::<BTreeMap<_, _>>()
        };
        let before = versions();
        let table = Wired::new(&bed.table, Variant::AsItIs);
        table.answers.set(steps);
        bed.run_with(&table).await;
        let is_whole = table.answers.get() > 0;
        let written: Vec<_> = versions().into_iter().filter(|(id, version)| before.get(id) != Some(version)).collect();
        bed.reads();
        let report = bed.audit_to_the_end().await;
        assert_eq!((bed.is_equal(), report.metrics.audit_failed), (true, 0), "{steps}");
        // No read that was written is repeated.
        let reads = bed.reads();
        let repeated: Vec<_> = written.iter().filter(|(id, _)| reads.contains(&format!("contact {id}"))).collect();
        assert_eq!(repeated, [&(0, 0); 0], "{steps}");
        if is_whole {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
}

#[tokio::test(start_paused = true)]
async fn audit_that_skips_a_page_after_an_interruption_is_found() {
    let mut found = 0;
    for steps in 0..30 {
        let bed = prepared().await;
        let table = Wired::new(&bed.table, Variant::SkipsPageAfterInterruption);
        table.answers.set(steps);
        bed.run_with(&table).await;
        table.answers.set(usize::MAX);
        bed.audit_to_the_end_with(&table).await;
        found += usize::from(!bed.is_equal());
    }
    assert!(found > 0);
}

#[tokio::test(start_paused = true)]
async fn position_is_written_after_a_hundred_contacts_and_a_page() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=250);
    let table = Wired::new(&bed.table, Variant::AsItIs);
    let mut runs = 0;
    while !bed.is_equal() {
        bed.run_with(&table).await;
        runs += 1;
    }
    assert!(table.positions.get() >= 250 / 100 + runs, "{}", table.positions.get());
    // A turn ends every few seconds, and each end is written.
    assert!(table.positions.get() < 20, "{}", table.positions.get());
}

#[tokio::test(start_paused = true)]
async fn two_audits_at_the_same_time_repeat_little_and_lose_nothing() {
    for offset in (0..6000).step_by(97) {
        let bed = prepared().await;
        bed.office().delay.set(Duration::from_millis(40));
        let second = async {
            tokio::time::sleep(Duration::from_millis(offset)).await;
            bed.run().await
        };
        let (first, second) = tokio::join!(bed.run(), second);
        let rest = if bed.state("Cust1").running.is_some() { bed.audit_to_the_end().await } else { bed.run().await };
        assert!(bed.is_equal(), "{offset}");
        let completed = [&first, &second, &rest].map(|report| counts(report).2);
        assert_eq!(completed.iter().sum::<u64>(), 1, "{offset}");
        let reads = count(bed.reads());
        assert!(reads.values().all(|times| *times <= 3), "{offset}: {reads:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn run_that_loses_the_position_leaves_the_tenant() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=500);
    let other = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        bed.begin("Cust1", false).await.unwrap()
    };
    let begun = tokio::time::Instant::now();
    let first = async {
        bed.run().await;
        begun.elapsed()
    };
    let (elapsed, _) = tokio::join!(first, other);
    assert!(elapsed < Duration::from_secs(10) && elapsed < INVOCATION, "{elapsed:?}");
}
