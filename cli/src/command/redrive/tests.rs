//! Redrive against a quarantine queue and a destination in memory, both with faults.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Mutex;

use aws_sdk_sqs::types::MessageAttributeValue;
use proptest::prelude::*;
use superoffice_webhook::{MasterSecret, Secret, Verifier};

use super::*;

const SECRET: &str = "a secret for tests";

/// A failure of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The request has no effect.
    Rejected,
    /// The request has its effect, but its response is lost.
    ResponseLost,
}

/// The faults of successive requests. After the last one, requests succeed.
#[derive(Clone, Debug, Default)]
struct Faults(VecDeque<Option<Fault>>);

impl Faults {
    /// Returns the result of the next request whose effect is `effect`.
    fn apply<T>(&mut self, effect: impl FnOnce() -> T) -> Result<T, Fault> {
        match self.0.pop_front().flatten() {
            None => Ok(effect()),
            Some(Fault::Rejected) => Err(Fault::Rejected),
            Some(Fault::ResponseLost) => {
                effect();
                Err(Fault::ResponseLost)
            }
        }
    }
}

/// A quarantine queue in memory. A receipt handle is the message's id.
#[derive(Default)]
struct FakeQuarantine {
    is_fifo: bool,
    messages: RefCell<Vec<Stored>>,
    faults: RefCell<Faults>,
    /// The number of requests that change the queue.
    changes: Cell<usize>,
    copies: Cell<usize>,
    receives: Cell<usize>,
    /// The receive before which hidden messages become visible again.
    reappear_before: Option<usize>,
}

struct Stored {
    message: Message,
    is_hidden: bool,
}

impl FakeQuarantine {
    fn new(is_fifo: bool, messages: &[Message], faults: Faults) -> Self {
        let stored = |message: &Message| Stored { message: message.clone(), is_hidden: false };
        let messages = RefCell::new(messages.iter().map(stored).collect());
        Self { is_fifo, messages, faults: RefCell::new(faults), ..Self::default() }
    }

    fn apply<T>(&self, effect: impl FnOnce() -> T) -> Result<T, Failure> {
        self.faults.borrow_mut().apply(effect).map_err(|fault| format!("{fault:?}").into())
    }

    fn bodies(&self) -> Vec<String> {
        let mut bodies: Vec<_> =
            self.messages.borrow().iter().filter_map(|stored| Some(stored.message.body()?.to_owned())).collect();
        bodies.sort();
        bodies
    }

    fn has_hidden(&self) -> bool {
        self.messages.borrow().iter().any(|stored| stored.is_hidden)
    }
}

impl QuarantineQueue for &FakeQuarantine {
    async fn receive(&self) -> Result<Vec<Message>, Failure> {
        self.apply(|| {
            if self.is_fifo && self.has_hidden() {
                return Vec::new();
            }
            let mut messages = self.messages.borrow_mut();
            self.receives.update(|receives| receives + 1);
            if self.reappear_before == Some(self.receives.get()) {
                messages.iter_mut().for_each(|stored| stored.is_hidden = false);
            }
            let visible = messages.iter_mut().filter(|stored| !stored.is_hidden).take(10);
            visible
                .map(|stored| {
                    stored.is_hidden = true;
                    stored.message.clone()
                })
                .collect()
        })
    }

    async fn delete(&self, receipt_handle: &str) -> Result<(), Failure> {
        self.changes.update(|changes| changes + 1);
        self.apply(|| {
            self.messages.borrow_mut().retain(|stored| stored.message.receipt_handle() != Some(receipt_handle));
        })
    }

    async fn send_copy(&self, message: &Message) -> Result<String, Failure> {
        self.changes.update(|changes| changes + 1);
        self.apply(|| {
            self.copies.update(|copies| copies + 1);
            let id = format!("copy {} of {}", self.copies.get(), message.message_id().unwrap());
            let mut copy = message.clone();
            copy.message_id = Some(id.clone());
            copy.receipt_handle = Some(id.clone());
            self.messages.borrow_mut().push(Stored { message: copy, is_hidden: false });
            id
        })
    }

    async fn make_visible(&self, receipt_handle: &str) -> Result<(), Failure> {
        self.apply(|| {
            for stored in self.messages.borrow_mut().iter_mut() {
                if stored.message.receipt_handle() == Some(receipt_handle) {
                    stored.is_hidden = false;
                }
            }
        })
    }
}

/// An events queue in memory.
#[derive(Default)]
struct FakeEvents {
    bodies: Mutex<Vec<String>>,
    faults: Mutex<Faults>,
}

impl Queue for &FakeEvents {
    async fn send(&self, message: &QueueMessage, _: Option<&str>) -> Result<String, QueueError> {
        let sent = self.faults.lock().unwrap().apply(|| self.bodies.lock().unwrap().push(message.body.clone()));
        sent.map(|()| "sent".to_owned()).map_err(|_| QueueError::Timeout)
    }
}

impl FakeEvents {
    fn bodies(&self) -> Vec<String> {
        let mut bodies = self.bodies.lock().unwrap().clone();
        bodies.sort();
        bodies
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event,
    Base64,
    Ignored,
    Test,
    Malformed,
    Forged,
    UnknownEncoding,
    /// Signed with the secret derived for the event's tenant.
    Derived,
    /// Signed with the secret derived for another tenant.
    OtherTenant,
}

const KINDS: [Kind; 9] = [
    Kind::Event,
    Kind::Base64,
    Kind::Ignored,
    Kind::Test,
    Kind::Malformed,
    Kind::Forged,
    Kind::UnknownEncoding,
    Kind::Derived,
    Kind::OtherTenant,
];

impl Kind {
    /// Returns the body that SuperOffice sent.
    fn body(self, number: usize) -> String {
        let event = match self {
            Self::Malformed => return format!("malformed {number}"),
            Self::Ignored => "sale.changed",
            Self::Test => "test",
            _ => "contact.changed",
        };
        let tenant = match self {
            Self::Derived | Self::OtherTenant => r#","ContextIdentifier":"Cust/%1""#,
            _ => "",
        };
        format!(r#"{{"EventId":"{number}","Event":"{event}","PrimaryKey":{number}{tenant}}}"#)
    }

    /// Returns the quarantined message.
    fn message(self, number: usize) -> Message {
        let body = self.body(number);
        let secret = match self {
            Self::Forged => Secret::new("another secret").unwrap(),
            Self::Derived => master_secret().derive("Cust/%1"),
            Self::OtherTenant => master_secret().derive("Cust2"),
            _ => Secret::new(SECRET).unwrap(),
        };
        let signature = secret.sign(body.as_bytes()).to_string();
        let (body, encoding) = match self {
            Self::Base64 => (base64(&body), "base64"),
            Self::UnknownEncoding => (body, "latin1"),
            _ => (body, "utf-8"),
        };
        message(number, &body, encoding, &signature)
    }

    fn is_forwarded(self) -> bool {
        matches!(self, Self::Event | Self::Base64 | Self::Derived)
    }

    fn is_ignored(self) -> bool {
        matches!(self, Self::Ignored | Self::Test)
    }
}

fn master_secret() -> MasterSecret {
    "0123456789abcdef0123456789abcdef".parse().unwrap()
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn message(number: usize, body: &str, encoding: &str, signature: &str) -> Message {
    let attribute =
        |value: &str| MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap();
    Message::builder()
        .message_id(number.to_string())
        .receipt_handle(number.to_string())
        .body(body)
        .message_attributes("Encoding", attribute(encoding))
        .message_attributes("Signature", attribute(signature))
        .build()
}

fn messages(kinds: &[Kind]) -> Vec<Message> {
    kinds.iter().enumerate().map(|(number, kind)| kind.message(number)).collect()
}

/// Returns the sorted quarantine bodies of the messages whose kind fulfills the condition.
fn quarantine_bodies(kinds: &[Kind], condition: impl Fn(Kind) -> bool) -> Vec<String> {
    let numbered = kinds.iter().enumerate().filter(|(_, kind)| condition(**kind));
    let mut bodies: Vec<_> = numbered.map(|(number, kind)| kind.message(number).body.unwrap()).collect();
    bodies.sort();
    bodies
}

/// Returns the sorted bodies of the events that can be forwarded, as SuperOffice sent them.
fn event_bodies(kinds: &[Kind]) -> Vec<String> {
    let numbered = kinds.iter().enumerate().filter(|(_, kind)| kind.is_forwarded());
    let mut bodies: Vec<_> = numbered.map(|(number, kind)| kind.body(number)).collect();
    bodies.sort();
    bodies
}

fn run<'a, W: Write>(
    events: &'a FakeEvents,
    options: Options,
    is_fifo: bool,
    output: &'a mut Output<W>,
) -> Run<'a, &'a FakeEvents, W> {
    let handler = Handler {
        verifier: Verifier::new(Secret::new(SECRET).unwrap()).with_master(master_secret()),
        filter: Default::default(),
        format: Default::default(),
        events: WithFallback::new(events, None),
        quarantine: None,
    };
    Run { options, is_fifo, handler, output, seen: HashSet::new(), summary: Summary::default() }
}

/// Runs redrive. `interrupt_after` is the number of messages before Ctrl-C.
fn redrive(
    quarantine: &FakeQuarantine,
    events: &FakeEvents,
    options: Options,
    interrupt_after: Option<usize>,
) -> (Result<End, String>, Summary) {
    let mut output = Output::new(Vec::new());
    let mut run = run(events, options, quarantine.is_fifo, &mut output);
    let checks = Cell::new(0);
    let is_interrupted = || {
        checks.update(|checks| checks + 1);
        interrupt_after.is_some_and(|messages| checks.get() > messages)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(async {
        let queue = Quarantine::new(quarantine);
        let result = run.all(&queue, is_interrupted).await;
        queue.release().await;
        result.map_err(|error| error.to_string())
    });
    (result, run.summary)
}

/// Three rounds of all kinds: more messages than one receive returns.
fn all_kinds() -> Vec<Kind> {
    [KINDS; 3].concat()
}

#[test]
fn run_forwards_parsable_events_and_keeps_the_rest_visible() {
    for is_fifo in [false, true] {
        let kinds = all_kinds();
        let quarantine = FakeQuarantine::new(is_fifo, &messages(&kinds), Faults::default());
        let events = FakeEvents::default();
        let (result, summary) = redrive(&quarantine, &events, Options::default(), None);
        assert_eq!((result, summary), (Ok(End::Queue), Summary { forwarded: 9, deleted: 0, kept: 18 }));
        assert_eq!(events.bodies(), event_bodies(&kinds));
        assert_eq!(quarantine.bodies(), quarantine_bodies(&kinds, |kind| !kind.is_forwarded()));
        assert!(!quarantine.has_hidden());
    }
}

#[test]
fn delete_ignored_deletes_tests_and_unmatched_events() {
    for is_fifo in [false, true] {
        let kinds = all_kinds();
        let quarantine = FakeQuarantine::new(is_fifo, &messages(&kinds), Faults::default());
        let events = FakeEvents::default();
        let options = Options { delete_ignored: true, ..Options::default() };
        let (result, summary) = redrive(&quarantine, &events, options, None);
        assert_eq!((result, summary), (Ok(End::Queue), Summary { forwarded: 9, deleted: 6, kept: 12 }));
        let kept = quarantine_bodies(&kinds, |kind| !kind.is_forwarded() && !kind.is_ignored());
        assert_eq!(quarantine.bodies(), kept);
    }
}

#[test]
fn dry_run_changes_nothing() {
    for is_fifo in [false, true] {
        let kinds = all_kinds();
        let quarantine = FakeQuarantine::new(is_fifo, &messages(&kinds), Faults::default());
        let events = FakeEvents::default();
        let options = Options { dry_run: true, delete_ignored: true };
        let (result, summary) = redrive(&quarantine, &events, options, None);
        // A FIFO queue returns nothing behind the first ten messages while they are hidden.
        let expected = match is_fifo {
            true => Summary { forwarded: 4, deleted: 2, kept: 4 },
            false => Summary { forwarded: 9, deleted: 6, kept: 12 },
        };
        assert_eq!((result, summary), (Ok(End::Queue), expected));
        assert_eq!(quarantine.changes.get(), 0);
        assert!(!quarantine.has_hidden());
    }
}

#[test]
fn run_stops_when_no_queue_accepts_events() {
    let kinds = [Kind::Malformed, Kind::Event, Kind::Event];
    let quarantine = FakeQuarantine::new(false, &messages(&kinds), Faults::default());
    let events = FakeEvents::default();
    events.faults.lock().unwrap().0.push_back(Some(Fault::Rejected));
    let (result, summary) = redrive(&quarantine, &events, Options::default(), None);
    let error = "no queue accepts events (queue: timeout); the remaining messages stay in quarantine";
    assert_eq!((result, summary), (Err(error.to_owned()), Summary { forwarded: 0, deleted: 0, kept: 1 }));
    assert_eq!(quarantine.bodies(), quarantine_bodies(&kinds, |_| true));
    assert!(!quarantine.has_hidden());
}

#[test]
fn kept_messages_that_become_visible_again_do_not_end_the_run() {
    let kinds = [[Kind::Malformed; 10], [Kind::Event; 10]].concat();
    let quarantine =
        FakeQuarantine { reappear_before: Some(2), ..FakeQuarantine::new(false, &messages(&kinds), Faults::default()) };
    let events = FakeEvents::default();
    let (result, summary) = redrive(&quarantine, &events, Options::default(), None);
    assert_eq!((result, summary), (Ok(End::Queue), Summary { forwarded: 10, deleted: 0, kept: 10 }));
    assert!(!quarantine.has_hidden());
}

#[test]
fn failed_delete_ends_run_and_releases_message() {
    let faults = Faults([None, Some(Fault::Rejected)].into());
    let quarantine = FakeQuarantine::new(false, &messages(&[Kind::Event; 2]), faults);
    let events = FakeEvents::default();
    let (result, summary) = redrive(&quarantine, &events, Options::default(), None);
    let error = "0 forwarded: event 0, message sent, but the message is still in quarantine: Rejected";
    assert_eq!((result, summary), (Err(error.to_owned()), Summary::default()));
    assert_eq!(quarantine.bodies().len(), 2);
    assert!(!quarantine.has_hidden());
}

#[test]
fn interrupted_run_releases_received_messages() {
    let kinds = [Kind::Event; 5];
    let quarantine = FakeQuarantine::new(false, &messages(&kinds), Faults::default());
    let events = FakeEvents::default();
    let (result, summary) = redrive(&quarantine, &events, Options::default(), Some(2));
    assert_eq!((result, summary), (Ok(End::Interrupt), Summary { forwarded: 2, deleted: 0, kept: 0 }));
    assert_eq!(quarantine.bodies().len(), 3);
    assert!(!quarantine.has_hidden());
}

#[tokio::test]
async fn only_a_dry_run_ends_without_a_reader_and_needs_attention() {
    let messages = messages(&[Kind::Event, Kind::Event]);
    for (dry_run, end, forwarded) in [(true, End::Reader, 1), (false, End::Queue, 2)] {
        let quarantine = FakeQuarantine::new(false, &messages, Faults::default());
        let (events, options) = (FakeEvents::default(), Options { dry_run, delete_ignored: false });
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut output = Output::new(writer);
        let mut run = run(&events, options, false, &mut output);
        let ended = run.all(&Quarantine::new(&quarantine), || false).await.unwrap();
        assert_eq!((ended, run.summary.forwarded), (end, forwarded));
    }
    assert_eq!(End::Reader.status(Options::default()), Status::NeedsAttention);
    assert_eq!(End::Queue.status(Options::default()), Status::Well);
}

#[tokio::test]
async fn kept_message_has_reason() {
    let derived = master_secret().derive("Cust1");
    let derived_and_malformed = message(1, "malformed", "utf-8", &derived.sign(b"malformed").to_string());
    let event = Kind::Event.body(1);
    let utf_16: Vec<u8> = event.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let noncharacter = event.replace("contact.changed", "contact.\u{FFFE}");
    let encoded = |body: &[u8]| {
        let signature = Secret::new(SECRET).unwrap().sign(body).to_string();
        message(1, &base64(body), "base64", &signature)
    };
    for (message, reason) in [
        (Kind::Ignored.message(1), "not to be forwarded"),
        (Kind::Malformed.message(1), "not JSON: expected value at line 1 column 1"),
        (derived_and_malformed, "not JSON: expected value at line 1 column 1"),
        (encoded(&utf_16), "not UTF-8: encoded as UTF-16LE"),
        (encoded(noncharacter.as_bytes()), "contains U+FFFE or U+FFFF"),
        (Kind::Forged.message(1), "signature mismatch"),
        (Kind::OtherTenant.message(1), "signature mismatch"),
        (Kind::UnknownEncoding.message(1), "the Encoding attribute is neither utf-8 nor base64"),
    ] {
        let events = FakeEvents::default();
        let mut output = Output::new(Vec::new());
        let decision = run(&events, Options::default(), false, &mut output).decide(&message).await;
        assert_eq!(decision, Decision::Keep(reason.into()));
    }
}

#[tokio::test]
async fn run_writes_a_line_for_each_message() {
    let messages = messages(&[Kind::Event, Kind::Malformed, Kind::Derived]);
    let quarantine = FakeQuarantine::new(false, &messages, Faults::default());
    let events = FakeEvents::default();
    let mut output = Output::new(Vec::new());
    let mut run = run(&events, Options::default(), false, &mut output);
    run.all(&Quarantine::new(&quarantine), || false).await.unwrap();
    assert_eq!(
        String::from_utf8(output.into_writer()).unwrap(),
        "0 forwarded: event 0, message sent\n\
         1 kept: not JSON: expected value at line 1 column 1\n\
         2 forwarded: event 2, message sent\n"
    );
}

#[test]
fn report_names_message_and_result() {
    let forward = Decision::Forward { event_id: "7".into(), message_id: "m".into() };
    for (decision, dry_run, line) in [
        (&forward, false, "id forwarded: event 7, message m"),
        (&forward, true, "id would be forwarded: event 7"),
        (&Decision::Delete, false, "id deleted: not to be forwarded"),
        (&Decision::Delete, true, "id would be deleted: not to be forwarded"),
        (&Decision::Keep("signature mismatch".into()), true, "id kept: signature mismatch"),
    ] {
        assert_eq!(decision.report("id", dry_run), line);
    }
    let summary = Summary { forwarded: 1, deleted: 2, kept: 3 };
    assert_eq!(summary.report(false), "1 forwarded, 2 deleted, 3 kept");
    assert_eq!(summary.report(true), "1 would be forwarded, 2 would be deleted, 3 kept");
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    proptest::collection::vec(proptest::sample::select(KINDS.to_vec()), 0..25)
}

fn faults() -> impl Strategy<Value = Faults> {
    let fault = prop_oneof![
        8 => Just(None),
        1 => Just(Some(Fault::Rejected)),
        1 => Just(Some(Fault::ResponseLost)),
    ];
    proptest::collection::vec(fault, 0..40).prop_map(|faults| Faults(faults.into()))
}

proptest! {
    /// Any messages, any faults of either queue, and an interruption at any point.
    #[test]
    fn no_event_is_lost(
        kinds in kinds(),
        is_fifo: bool,
        delete_ignored: bool,
        quarantine_faults in faults(),
        event_faults in faults(),
        interrupt_after in proptest::option::of(0..30_usize),
    ) {
        let quarantine = FakeQuarantine::new(is_fifo, &messages(&kinds), quarantine_faults);
        let events = FakeEvents { faults: Mutex::new(event_faults), ..FakeEvents::default() };
        let options = Options { dry_run: false, delete_ignored };
        let _depends_on_faults = redrive(&quarantine, &events, options, interrupt_after);
        let (sent, kept) = (events.bodies(), quarantine.bodies());
        for (number, kind) in kinds.iter().enumerate() {
            let is_kept = kept.contains(&kind.message(number).body.unwrap());
            let is_safe = is_kept
                || (kind.is_forwarded() && sent.contains(&kind.body(number)))
                || (kind.is_ignored() && delete_ignored);
            prop_assert!(is_safe, "{kind:?} {number} is neither in quarantine nor forwarded");
        }
        for body in &sent {
            prop_assert!(event_bodies(&kinds).contains(body), "{body} should not be forwarded");
        }

        // A second run, without faults, completes the work.
        for stored in quarantine.messages.borrow_mut().iter_mut() {
            stored.is_hidden = false;
        }
        quarantine.faults.borrow_mut().0.clear();
        events.faults.lock().unwrap().0.clear();
        let (result, _) = redrive(&quarantine, &events, options, None);
        prop_assert_eq!(result, Ok(End::Queue));
        for body in event_bodies(&kinds) {
            prop_assert!(events.bodies().contains(&body), "{} is not forwarded", body);
        }
        let is_left = |kind: Kind| !(kind.is_forwarded() || kind.is_ignored() && delete_ignored);
        let mut left = quarantine.bodies();
        left.dedup();
        prop_assert_eq!(left, quarantine_bodies(&kinds, is_left));
        prop_assert!(!quarantine.has_hidden());
    }

    /// Unless a request fails, no message stays hidden, wherever the run is interrupted.
    #[test]
    fn no_message_stays_hidden(
        kinds in kinds(),
        is_fifo: bool,
        dry_run: bool,
        event_faults in faults(),
        interrupt_after in proptest::option::of(0..30_usize),
    ) {
        let quarantine = FakeQuarantine::new(is_fifo, &messages(&kinds), Faults::default());
        let events = FakeEvents { faults: Mutex::new(event_faults), ..FakeEvents::default() };
        let options = Options { dry_run, delete_ignored: false };
        let _depends_on_faults = redrive(&quarantine, &events, options, interrupt_after);
        prop_assert!(!quarantine.has_hidden());
    }
}
