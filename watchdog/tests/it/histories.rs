//! Random histories of several tenants: changes of contacts and persons, faults and runs.
//!
//! SuperOffice's clock differs for half of the tenants.
//!
//! Liveness: for each tenant whose last fault has cleared, every changed record arrives, whatever faults other tenants
//! have. Safety: nothing is sent for a record whose change has arrived, no other webhook is modified, and no webhook is
//! activated without a successful test.

use std::collections::BTreeMap;
use std::sync::Arc;

use fake_superoffice::{Fault, Kind, Outage, SuperOffice, TOKEN};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use recovery::record::Record;
use serde_json::json;
use superoffice_client::Archive;
use superoffice_webhook_watchdog::state::State;

use crate::support::{Tenants, name};

/// The pauses before the runs that follow when everything has arrived, in seconds. The last one is longer than the
/// period of its own log that a run reads.
const PAUSES_AFTERWARDS: [i64; 3] = [300, 300, 4000];

/// A step of a history. Numbers select a record among those of its kind that exist.
#[derive(Clone, Debug)]
enum Step {
    /// A step of one tenant.
    Of(usize, Event),
    /// The function acknowledges the next event, and it never reaches the queue.
    SwallowNext,
    Outage(Outage),
    Restart,
    Pass(i64),
    Run,
    /// A run whose time suffices for one record of each tenant.
    RunBriefly,
    /// Two runs at the same time.
    RunTwice,
}

/// A change or a fault of one tenant.
#[derive(Clone, Debug)]
enum Event {
    Create(Kind),
    Change(Kind, usize),
    SoftDelete(Kind, usize),
    Merge(Kind, usize, usize),
    /// The event of a change gets lost without a failed delivery.
    LoseChange(Kind, usize),
    /// Faults of SuperOffice's API.
    ApiFaults(Vec<Fault>),
    ChangeHost,
    /// Deliveries wait in SuperOffice.
    Hold(bool),
    Stop,
    Start,
    /// The tenant is suspended, or runs again.
    Suspend(bool),
    /// The credentials are rejected, or accepted again.
    Revoke(bool),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![2 => Just(Kind::Contact), 1 => Just(Kind::Person)]
}

fn event() -> impl Strategy<Value = Event> {
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
        4 => kind().prop_map(Event::Create),
        6 => (kind(), any::<usize>()).prop_map(|(kind, number)| Event::Change(kind, number)),
        2 => (kind(), any::<usize>()).prop_map(|(kind, number)| Event::SoftDelete(kind, number)),
        2 => (kind(), any::<usize>(), any::<usize>())
            .prop_map(|(kind, source, destination)| Event::Merge(kind, source, destination)),
        4 => (kind(), any::<usize>()).prop_map(|(kind, number)| Event::LoseChange(kind, number)),
        1 => prop::collection::vec(fault, 1..8).prop_map(Event::ApiFaults),
        1 => Just(Event::ChangeHost),
        2 => any::<bool>().prop_map(Event::Hold),
        1 => Just(Event::Stop),
        1 => Just(Event::Start),
        1 => any::<bool>().prop_map(Event::Suspend),
        1 => any::<bool>().prop_map(Event::Revoke),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let outage = prop_oneof![
        2 => Just(Outage::None),
        1 => Just(Outage::Queue),
        1 => Just(Outage::Permission),
        1 => Just(Outage::Endpoint),
        1 => Just(Outage::Gateway),
    ];
    prop_oneof![
        30 => (any::<usize>(), event()).prop_map(|(tenant, event)| Step::Of(tenant, event)),
        1 => Just(Step::SwallowNext),
        4 => outage.prop_map(Step::Outage),
        1 => Just(Step::Restart),
        4 => (1..1200_i64).prop_map(Step::Pass),
        1 => (3600..20_000_i64).prop_map(Step::Pass),
        6 => Just(Step::Run),
        3 => Just(Step::RunBriefly),
        2 => Just(Step::RunTwice),
    ]
}

/// The seconds that SuperOffice's clock is behind. An offset of one or two seconds the other way cannot be noticed.
fn slow_by() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => 1..120_i64, 1 => -120..=-3_i64]
}

/// The last change of each record, kept beside the fake.
type Changes = BTreeMap<Record, Timestamp>;

fn record(kind: Kind, id: i64) -> Record {
    match kind {
        Kind::Contact => Record::contact(id),
        Kind::Person => Record::person(id),
    }
}

/// Returns the record of an event.
fn record_of(event: &str, id: i64) -> Record {
    let archive = Archive::of_entity(event.split_once('.').unwrap().0).unwrap();
    Record { archive, id }
}

/// Returns the record that a call signals.
fn signaled(path: &str) -> Option<Record> {
    let (entity, id) = path.strip_prefix("Webhook/")?.split_once(".resync/")?;
    Some(Record { archive: Archive::of_entity(entity).unwrap(), id: id.parse().unwrap() })
}

/// A tenant, and everything about it that is kept beside the fake.
struct Subject {
    superoffice: Arc<SuperOffice>,
    name: String,
    /// SuperOffice's clock is ahead.
    is_ahead: bool,
    changes: Changes,
    alive: Vec<(Kind, i64)>,
    stopped: bool,
    /// The number of requests that were checked.
    checked: usize,
    /// The other webhook at first.
    other: String,
}

impl Subject {
    fn select(&self, kind: Kind, number: usize) -> Option<i64> {
        let alive: Vec<i64> = self.alive.iter().filter(|(other, _)| *other == kind).map(|(_, id)| *id).collect();
        (!alive.is_empty()).then(|| alive[number % alive.len()])
    }

    fn changed(&mut self, kind: Kind, id: i64) {
        self.changes.insert(record(kind, id), self.superoffice.clock().now());
    }

    fn gone(&mut self, kind: Kind, id: i64) {
        self.alive.retain(|other| *other != (kind, id));
        self.changed(kind, id);
    }

    fn state(&self) -> String {
        self.superoffice.webhooks()[0].state().to_owned()
    }

    fn other(&self) -> String {
        format!("{:?}", self.superoffice.webhooks().last())
    }

    fn take(&mut self, event: &Event) {
        let superoffice = Arc::clone(&self.superoffice);
        let main = superoffice.webhooks()[0].id;
        match event {
            Event::Create(kind) => {
                let id = superoffice.create(*kind);
                self.alive.push((*kind, id));
                self.changed(*kind, id);
            }
            Event::Change(kind, number) => {
                if let Some(id) = self.select(*kind, *number) {
                    superoffice.change(*kind, id);
                    self.changed(*kind, id);
                }
            }
            Event::SoftDelete(kind, number) => {
                if let Some(id) = self.select(*kind, *number) {
                    superoffice.soft_delete(*kind, id);
                    self.gone(*kind, id);
                }
            }
            Event::Merge(kind, source, destination) => {
                if let (Some(source), Some(destination)) =
                    (self.select(*kind, *source), self.select(*kind, *destination))
                    && source != destination
                {
                    superoffice.merge(*kind, source, destination);
                    self.gone(*kind, source);
                    self.changed(*kind, destination);
                }
            }
            Event::LoseChange(kind, number) => {
                if let Some(id) = self.select(*kind, *number) {
                    superoffice.change_silently(*kind, id);
                    self.changed(*kind, id);
                }
            }
            Event::ApiFaults(faults) => superoffice.script("", faults.clone()),
            Event::ChangeHost => superoffice.change_host(),
            // An event from the future does not show that it is late.
            Event::Hold(_) if self.is_ahead => {}
            Event::Hold(held) => superoffice.pause_sender(*held),
            Event::Stop => {
                superoffice.set_property(main, "State", json!("Stopped"));
                self.stopped = true;
            }
            Event::Start => {
                superoffice.set_property(main, "State", json!("Active"));
                self.stopped = false;
            }
            Event::Suspend(suspended) => superoffice.set_running(!suspended),
            Event::Revoke(true) => superoffice.revoke_token(TOKEN),
            Event::Revoke(false) => superoffice.accept_token(TOKEN),
        }
    }

    /// Clears every fault of the tenant.
    fn recover(&mut self) {
        self.superoffice.clear_faults();
        self.superoffice.pause_sender(false);
        self.take(&Event::Revoke(false));
        self.take(&Event::Suspend(false));
        if self.stopped {
            self.take(&Event::Start);
        }
    }
}

struct History {
    bed: Tenants,
    /// The seconds between two steps. SuperOffice stores whole seconds: two changes of a contact within one cannot be
    /// told apart. If its clock is ahead, the offset is known to a second only.
    gap: i64,
    subjects: Vec<Subject>,
    /// A test succeeds.
    is_reachable: bool,
}

impl History {
    async fn start(slow_by: &[i64], records: usize) -> Self {
        let variables = [("MAX_RESYNCS", "4"), ("SYNC_ENTITIES", "contact,person")];
        let mut bed = Tenants::start(slow_by, &variables).await;
        bed.limit_records(records);
        let mut subjects = Vec::new();
        for (number, superoffice) in bed.tenants.iter().enumerate() {
            superoffice.add_webhook(json!({
                "Name": "superoffice-webhook", "Events": ["contact.changed"], "TargetUrl": "https://other.example.com",
                "State": "TooManyErrors",
            }));
            let mut subject = Subject {
                superoffice: Arc::clone(superoffice),
                name: name(number),
                is_ahead: slow_by[number] < 0,
                changes: Changes::new(),
                alive: Vec::new(),
                stopped: false,
                checked: 0,
                other: String::new(),
            };
            subject.other = subject.other();
            subjects.push(subject);
        }
        // The first run looks back an hour, and every later one to the last.
        bed.run().await;
        let gap = if slow_by.iter().any(|slow_by| *slow_by < 0) { 3 } else { 1 };
        Self { bed, gap, subjects, is_reachable: true }
    }

    async fn take(&mut self, step: &Step) {
        self.bed.pass(self.gap);
        match step {
            Step::Of(tenant, event) => {
                let number = tenant % self.subjects.len();
                self.subjects[number].take(event);
            }
            Step::SwallowNext => self.bed.function.lose_next(),
            Step::Outage(outage) => self.set_outage(*outage),
            Step::Restart => self.bed.restart(),
            Step::Pass(seconds) => self.bed.pass(*seconds),
            Step::Run | Step::RunBriefly | Step::RunTwice => self.run(step).await,
        }
        self.bed.idle().await;
    }

    fn set_outage(&mut self, outage: Outage) {
        self.bed.function.set_outage(outage);
        self.is_reachable = !matches!(outage, Outage::Endpoint | Outage::Gateway);
    }

    /// Runs the watchdog and checks what it did.
    async fn run(&mut self, step: &Step) {
        let before: Vec<_> =
            self.subjects.iter().map(|subject| (self.missing(subject), subject.state() == "Active")).collect();
        match step {
            Step::RunBriefly => self.bed.run_briefly().await,
            Step::RunTwice => self.bed.run_twice().await,
            _ => assert_eq!(self.bed.run().await.error, None),
        }
        for (subject, (missing, was_active)) in self.subjects.iter_mut().zip(before) {
            let requests = subject.superoffice.requests().split_off(subject.checked);
            subject.checked += requests.len();
            let mut tested = false;
            for request in &requests {
                let call = format!("{} {}", request.method, request.path);
                tested |= call == "POST Webhook/Test";
                if call.starts_with("PATCH Webhook/") {
                    assert!(tested && self.is_reachable, "an activation without a successful test");
                    assert_eq!(request.body.as_array().unwrap().last().unwrap()["value"], "Active");
                }
                if let Some(record) = signaled(&request.path) {
                    assert!(
                        missing.contains_key(&record),
                        "{record} of {} was signaled, although nothing is missing",
                        subject.name
                    );
                    assert!(was_active || tested, "a signal to a webhook that is not active");
                }
            }
            if subject.stopped {
                assert_eq!(subject.state(), "Stopped");
                assert!(requests.iter().all(|request| signaled(&request.path).is_none()));
            }
        }
    }

    /// The records without an event in the queue that is as young as their last change. An older event that is late
    /// does not count.
    fn missing(&self, subject: &Subject) -> Changes {
        let mut missing = subject.changes.clone();
        for arrival in self.bed.function.arrivals().iter().filter(|arrival| arrival.tenant == subject.name) {
            let arrived = record_of(&arrival.event, arrival.primary_key);
            missing.retain(|record, at| *record != arrived || arrival.occurred < *at);
        }
        missing
    }

    /// Clears every fault, except those of the tenant that stays broken, and runs the watchdog until nothing is left to
    /// do.
    async fn recover(&mut self, broken: Option<usize>) {
        self.set_outage(Outage::None);
        self.bed.function.keep_next();
        for (number, subject) in self.subjects.iter_mut().enumerate() {
            match broken == Some(number) {
                true => subject.take(&Event::Revoke(true)),
                false => subject.recover(),
            }
        }
        self.bed.idle().await;
        for subject in &mut self.subjects {
            subject.superoffice.clear_requests();
            subject.checked = 0;
        }
        // At most an hour until the webhook may be reactivated again, then four records a run. A window that is older
        // than two hours takes a run more for each range of records.
        let records = self.subjects.iter().map(|subject| subject.changes.len()).max().unwrap_or(0);
        let mut left = 16 + 2 * records;
        while left > 0 && !self.is_recovered(broken) {
            self.run_after(300).await;
            left -= 1;
        }
        // Nothing is left to do, so these runs show that the watchdog does nothing.
        for pause in PAUSES_AFTERWARDS {
            self.run_after(pause).await;
        }
    }

    async fn run_after(&mut self, seconds: i64) {
        self.bed.pass(seconds);
        self.run(&Step::Run).await;
    }

    /// Returns `true` if every change has arrived, every webhook is Active, and no tenant's state has work for the next
    /// run. The tenant that stays broken is left out.
    fn is_recovered(&self, broken: Option<usize>) -> bool {
        let latest: BTreeMap<String, State> =
            self.bed.visits().into_iter().map(|visit| (visit.tenant, visit.state)).collect();
        let has_work = |state: &State| {
            state.has_failed || !state.missing.is_empty() || state.unfinished.is_some() || state.older.is_some()
        };
        self.subjects.iter().enumerate().filter(|(number, _)| broken != Some(*number)).all(|(_, subject)| {
            self.missing(subject).is_empty()
                && subject.state() == "Active"
                && latest.get(&subject.name).is_some_and(|state| !has_work(state))
        })
    }
}

async fn check(slow_by: Vec<i64>, broken: Option<usize>, records: usize, steps: Vec<Step>) {
    let broken = broken.map(|broken| broken % slow_by.len()).filter(|_| slow_by.len() > 1);
    let mut history = History::start(&slow_by, records).await;
    for step in &steps {
        history.take(step).await;
    }
    history.recover(broken).await;
    for (number, subject) in history.subjects.iter().enumerate() {
        assert_eq!(subject.other(), subject.other, "another webhook was modified");
        let mut signals = history.bed.signals(number);
        signals.sort_unstable();
        let count = signals.len();
        signals.dedup();
        assert_eq!(signals.len(), count, "a record was signaled twice after the last fault");
        if broken != Some(number) {
            assert_eq!(history.missing(subject), Changes::new(), "missing after recovery");
            assert_eq!(subject.state(), "Active");
        }
        let visits = history.bed.visits();
        let own = visits.iter().filter(|visit| visit.tenant == subject.name && visit.reactivated > 0);
        let reactivations: Vec<i64> = own.map(|visit| visit.state.reactivated.unwrap().as_second()).collect();
        assert!(
            reactivations.windows(2).all(|pair| pair[1] - pair[0] >= 3600 || pair[1] == pair[0]),
            "{reactivations:?}"
        );
    }
}

#[test]
fn every_changed_record_arrives_and_nothing_else_is_signaled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = std::env::var("HISTORIES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let mut runner =
        TestRunner::new(Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() });
    let tenants = prop::collection::vec(slow_by(), 1..4);
    let records = prop_oneof![Just(3_usize), Just(1500)];
    let steps = prop::collection::vec(step(), 1..60);
    runner
        .run(&(tenants, any::<Option<usize>>(), records, steps), |(slow_by, broken, records, steps)| {
            runtime.block_on(check(slow_by, broken, records, steps));
            Ok(())
        })
        .unwrap();
}

/// A random history found that a range was compared with the log before its changes were listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_range_that_begins_in_the_same_run_arrive() {
    let create = || Step::Of(0, Event::Create(Kind::Contact));
    let delete = Step::Of(0, Event::SoftDelete(Kind::Contact, 3));
    let outage = [Step::Outage(Outage::Queue), create(), create(), delete, Step::Pass(8684)];
    check(vec![0], None, 3, [create(), create()].into_iter().chain(outage).collect()).await;
}
