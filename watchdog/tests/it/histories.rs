//! Random histories of changes, faults and runs.
//!
//! SuperOffice's clock differs in half of them.
//!
//! Liveness: after the last fault has cleared, every changed contact arrives. Safety: nothing is sent for a contact
//! whose change has arrived, no other webhook is modified, and no webhook is activated without a successful test.

use std::collections::BTreeMap;

use fake_superoffice::{Fault, Outage, START};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::TestBed;

/// A step of a history. Numbers select a contact among those that exist.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Change(usize),
    SoftDelete(usize),
    Merge(usize, usize),
    /// The event of a change gets lost without a failed delivery.
    LoseChange(usize),
    /// The function acknowledges the next event, and it never reaches the queue.
    SwallowNext,
    Outage(Outage),
    /// Faults of SuperOffice's API.
    ApiFaults(Vec<Fault>),
    ChangeHost,
    /// Deliveries wait in SuperOffice.
    Hold(bool),
    Stop,
    Start,
    Restart,
    Pass(i64),
    Run,
    /// A run whose time suffices for one contact.
    RunBriefly,
}

fn step() -> impl Strategy<Value = Step> {
    let outage = prop_oneof![
        2 => Just(Outage::None),
        1 => Just(Outage::Queue),
        1 => Just(Outage::Permission),
        1 => Just(Outage::Endpoint),
        1 => Just(Outage::Gateway),
    ];
    let fault = prop_oneof![
        Just(Fault::Status(500)),
        Just(Fault::Status(503)),
        Just(Fault::Status(400)),
        Just(Fault::Status(401)),
        Just(Fault::StatusAfterEffect(502)),
        Just(Fault::Throttle(0)),
        Just(Fault::None),
    ];
    prop_oneof![
        4 => Just(Step::Create),
        6 => any::<usize>().prop_map(Step::Change),
        2 => any::<usize>().prop_map(Step::SoftDelete),
        2 => any::<(usize, usize)>().prop_map(|(source, destination)| Step::Merge(source, destination)),
        4 => any::<usize>().prop_map(Step::LoseChange),
        1 => Just(Step::SwallowNext),
        4 => outage.prop_map(Step::Outage),
        1 => prop::collection::vec(fault, 1..8).prop_map(Step::ApiFaults),
        1 => Just(Step::ChangeHost),
        2 => any::<bool>().prop_map(Step::Hold),
        1 => Just(Step::Stop),
        1 => Just(Step::Start),
        1 => Just(Step::Restart),
        3 => (1..1200_i64).prop_map(Step::Pass),
        6 => Just(Step::Run),
        3 => Just(Step::RunBriefly),
    ]
}

/// The seconds by which SuperOffice's clock is behind. An offset of one or two seconds the other way cannot be noticed.
fn slow_by() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => 1..120_i64, 1 => -120..=-3_i64]
}

/// The last change of each contact, kept beside the fake.
type Changes = BTreeMap<i64, Timestamp>;

struct History {
    bed: TestBed,
    /// The seconds between two steps. SuperOffice stores whole seconds: two changes of a contact within one cannot be
    /// told apart. If its clock is ahead, the offset is known to a second only.
    gap: i64,
    /// SuperOffice's clock is ahead.
    is_ahead: bool,
    changes: Changes,
    alive: Vec<i64>,
    stopped: bool,
    /// A test succeeds.
    is_reachable: bool,
    /// The number of requests that were checked.
    checked: usize,
}

impl History {
    async fn start(slow_by: i64) -> Self {
        let bed = TestBed::start_slow(START.parse().unwrap(), slow_by, &[("MAX_RESYNCS", "4")]).await;
        bed.superoffice.add_webhook(json!({
            "Name": "superoffice-webhook", "Events": ["contact.changed"], "TargetUrl": "https://other.example.com",
            "State": "TooManyErrors",
        }));
        // The first run looks back an hour, and every later one to the last.
        bed.run().await;
        let checked = bed.superoffice.requests().len();
        let (is_ahead, gap) = (slow_by < 0, if slow_by < 0 { 3 } else { 1 });
        Self {
            bed,
            gap,
            is_ahead,
            changes: Changes::new(),
            alive: Vec::new(),
            stopped: false,
            is_reachable: true,
            checked,
        }
    }

    fn select(&self, number: usize) -> Option<i64> {
        (!self.alive.is_empty()).then(|| self.alive[number % self.alive.len()])
    }

    fn changed(&mut self, contact: i64) {
        self.changes.insert(contact, self.bed.superoffice.clock().now());
    }

    async fn take(&mut self, step: &Step) {
        self.bed.pass(self.gap);
        let superoffice = std::sync::Arc::clone(&self.bed.superoffice);
        let main = superoffice.webhooks()[0].id;
        match step {
            Step::Create => {
                let contact = superoffice.create_contact();
                self.alive.push(contact);
                self.changed(contact);
            }
            Step::Change(number) => {
                if let Some(contact) = self.select(*number) {
                    superoffice.change_contact(contact);
                    self.changed(contact);
                }
            }
            Step::SoftDelete(number) => {
                if let Some(contact) = self.select(*number) {
                    superoffice.soft_delete_contact(contact);
                    self.alive.retain(|other| *other != contact);
                    self.changed(contact);
                }
            }
            Step::Merge(source, destination) => {
                if let (Some(source), Some(destination)) = (self.select(*source), self.select(*destination))
                    && source != destination
                {
                    superoffice.merge_contacts(source, destination);
                    self.alive.retain(|other| *other != source);
                    self.changed(source);
                    self.changed(destination);
                }
            }
            Step::LoseChange(number) => {
                if let Some(contact) = self.select(*number) {
                    superoffice.change_contact_silently(contact);
                    self.changed(contact);
                }
            }
            Step::SwallowNext => self.bed.function.lose_next(),
            Step::Outage(outage) => self.set_outage(*outage),
            Step::ApiFaults(faults) => superoffice.script("", faults.clone()),
            Step::ChangeHost => superoffice.change_host(),
            // An event from the future does not show that it is late.
            Step::Hold(_) if self.is_ahead => {}
            Step::Hold(held) => superoffice.pause_sender(*held),
            Step::Stop => {
                superoffice.set_property(main, "State", json!("Stopped"));
                self.stopped = true;
            }
            Step::Start => {
                superoffice.set_property(main, "State", json!("Active"));
                self.stopped = false;
            }
            Step::Restart => self.bed.restart(),
            Step::Pass(seconds) => self.bed.pass(*seconds),
            Step::Run => self.run(false).await,
            Step::RunBriefly => self.run(true).await,
        }
        superoffice.idle().await;
    }

    fn set_outage(&mut self, outage: Outage) {
        self.bed.function.set_outage(outage);
        self.is_reachable = !matches!(outage, Outage::Endpoint | Outage::Gateway);
    }

    /// Runs the watchdog and checks what it did.
    async fn run(&mut self, briefly: bool) {
        let missing_before = self.missing();
        let active_before = self.bed.state(0) == "Active";
        if briefly {
            self.bed.run_briefly().await;
        } else {
            self.bed.run().await;
        }
        let requests = self.bed.superoffice.requests().split_off(self.checked);
        self.checked += requests.len();
        let mut tested = false;
        for request in &requests {
            let call = format!("{} {}", request.method, request.path);
            tested |= call == "POST Webhook/Test";
            if call.starts_with("PATCH Webhook/") {
                assert!(tested && self.is_reachable, "an activation without a successful test");
                assert_eq!(request.body.as_array().unwrap().last().unwrap()["value"], "Active");
            }
            if let Some(contact) = request.path.strip_prefix("Webhook/contact.resync/") {
                let contact: i64 = contact.parse().unwrap();
                assert!(
                    missing_before.contains_key(&contact),
                    "contact {contact} was signaled, although nothing is missing"
                );
                assert!(active_before || tested, "a signal to a webhook that is not active");
            }
        }
        if self.stopped {
            assert_eq!(self.bed.state(0), "Stopped");
            assert!(!requests.iter().any(|request| request.path.contains("contact.resync")));
        }
    }

    /// The contacts without an event in the queue that is as young as their last change. An older event that is late
    /// does not count.
    fn missing(&self) -> Changes {
        let mut missing = self.changes.clone();
        for arrival in self.bed.function.arrivals() {
            missing.retain(|contact, at| *contact != arrival.primary_key || arrival.occurred < *at);
        }
        missing
    }

    /// Clears every fault, and runs the watchdog on its schedule.
    async fn recover(&mut self) {
        self.set_outage(Outage::None);
        self.bed.function.keep_next();
        self.bed.superoffice.clear_faults();
        self.bed.superoffice.pause_sender(false);
        self.bed.superoffice.idle().await;
        if self.stopped {
            self.take(&Step::Start).await;
        }
        // At most an hour until the webhook may be reactivated again, then four contacts a run.
        let runs = 13 + self.changes.len().div_ceil(4);
        self.bed.superoffice.clear_requests();
        self.checked = 0;
        for _ in 0..runs {
            self.bed.pass(300);
            self.run(false).await;
        }
    }
}

async fn check(slow_by: i64, steps: Vec<Step>) {
    let mut history = History::start(slow_by).await;
    let other = format!("{:?}", history.bed.superoffice.webhooks().last());
    for step in &steps {
        history.take(step).await;
    }
    history.recover().await;
    assert_eq!(history.missing(), Changes::new(), "missing after recovery");
    assert_eq!(history.bed.state(0), "Active");

    let mut signals = history.bed.signals();
    signals.sort_unstable();
    let count = signals.len();
    signals.dedup();
    assert_eq!(signals.len(), count, "a contact was signaled twice after the last fault");
    assert_eq!(format!("{:?}", history.bed.superoffice.webhooks().last()), other, "another webhook was modified");
    let reactivations: Vec<i64> = history
        .bed
        .lines()
        .iter()
        .filter(|line| line["Reactivated"].as_i64().is_some())
        .map(|line| line["_aws"]["Timestamp"].as_i64().unwrap())
        .collect();
    assert!(reactivations.windows(2).all(|pair| pair[1] - pair[0] >= 3_600_000), "{reactivations:?}");
}

#[test]
fn every_changed_contact_arrives_and_nothing_else_is_signaled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = std::env::var("HISTORIES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() });
    runner
        .run(&(slow_by(), prop::collection::vec(step(), 1..40)), |(slow_by, steps)| {
            runtime.block_on(check(slow_by, steps));
            Ok(())
        })
        .unwrap();
}
