//! The function's log as the record of handled events.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use superoffice_client::Archive;
use superoffice_webhook::log_line::{FAILED, FORWARDED, IGNORED, RequestLine};

use crate::logs::{LogError, Logs};
use crate::record::Record;
use crate::shared_log::{SharedLog, hash};

/// Lets CloudWatch leave out what is of no interest. It only saves transfer: every line is checked here.
pub(crate) const FILTER: &str = r#"{ ($.outcome = "forwarded") || ($.outcome = "ignored") || ($.outcome = "failed") }"#;
/// Offsets below this are treated as zero: the `Date` header has whole seconds.
const NOTICEABLE_OFFSET: SignedDuration = SignedDuration::from_secs(2);
/// The error of a measured offset between the clocks.
const OFFSET_PRECISION: SignedDuration = SignedDuration::from_secs(1);
/// The precision of a line's time. The function logs the delay more precisely.
const LINE_PRECISION: SignedDuration = SignedDuration::from_millis(1);
/// The longest plausible delay of a delivery. If it is longer, the event's time cannot be compared with the log's.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(14 * 24);

/// An event of a record that the function forwarded, or ignored as it is configured to. An ignored `contact.resync` or
/// `person.resync` does not count: it was sent to recover a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The record.
    pub record: Record,
    /// The time of the line, by AWS's clock.
    pub written: Timestamp,
    /// The time from the event to the line. Unknown if the event has no time, a time in the future, or one that is not
    /// plausible.
    delay: Option<SignedDuration>,
}

impl Handled {
    /// Returns the time of the event by SuperOffice's clock, which is ahead of AWS's by `ahead`.
    ///
    /// A delivery that was repeated reports an old event, after which the record may have changed again.
    pub fn occurred(&self, ahead: SignedDuration) -> Timestamp {
        let occurred = match self.delay {
            // The line's time has whole milliseconds, and the delay has not. Without the added millisecond, an event at the
            // start of a second would fall into the second before.
            Some(delay) => self.written.saturating_add(LINE_PRECISION - delay),
            // An event from the future is younger than its line.
            None if ahead >= NOTICEABLE_OFFSET => self.written.saturating_add(ahead + OFFSET_PRECISION),
            None => return self.written,
        };
        occurred.unwrap_or(self.written)
    }
}

/// The log of the function, for one tenant.
#[derive(Clone, Debug)]
pub struct DeliveryLog(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The log is read for this tenant alone.
    Own { logs: Logs, log_group: String, tenant: Option<String> },
    /// The log was read for all tenants.
    Shared { log: Arc<SharedLog>, tenant: String },
}

impl DeliveryLog {
    /// Creates the log of a tenant, or of every tenant if `tenant` is `None`. Nothing is read yet.
    pub fn new(logs: Logs, log_group: impl Into<String>, tenant: Option<&str>) -> Self {
        Self(Source::Own { logs, log_group: log_group.into(), tenant: tenant.map(str::to_owned) })
    }

    /// Uses what was read for all tenants.
    pub(crate) fn shared(log: Arc<SharedLog>, tenant: String) -> Self {
        Self(Source::Shared { log, tenant })
    }

    /// Passes the events that were handled since a point in time to `found`, until it breaks. A shared log passes what
    /// was read so far.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn handled(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Handled) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let mut pass = |delivery: &Delivery| match delivery.handled() {
            Some(handled) => found(handled),
            None => ControlFlow::Continue(()),
        };
        match &self.0 {
            Source::Own { .. } => self.read(since, |_, _, delivery| pass(delivery)).await,
            Source::Shared { log, tenant } => {
                log.each(tenant, since, |line| pass(&line.delivery));
                Ok(())
            }
        }
    }

    /// Passes the ids of the events that were forwarded or ignored since a point in time to `found`, until it breaks. A
    /// shared log keeps no ids, so it passes none.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn event_ids(
        &self,
        since: Timestamp,
        mut found: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let Source::Own { logs, log_group, .. } = &self.0 else {
            return Ok(());
        };
        logs.read(log_group, FILTER, since, |_, line| {
            let line = RequestLine::parse(line);
            let request = line.as_ref().map(|line| &line.properties);
            let arrived = request.filter(|request| matches!(request.outcome.as_ref(), FORWARDED | IGNORED));
            arrived.and_then(|request| request.event_id.as_deref()).map_or(ControlFlow::Continue(()), &mut found)
        })
        .await
    }

    /// Removes each record whose event at or after the record's time was handled. The log is read from `since`, and
    /// SuperOffice's clock is ahead of AWS's by `ahead`. The local clock, by which that is measured, is assumed to
    /// agree with AWS's.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn remove_handled(
        &self,
        since: Timestamp,
        ahead: SignedDuration,
        records: &mut HashMap<Record, Timestamp>,
    ) -> Result<(), LogError> {
        self.handled(since, |handled| {
            let at = records.get(&handled.record);
            if at.is_some_and(|at| handled.occurred(ahead) >= *at) {
                records.remove(&handled.record);
            }
            if records.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
    }

    /// Passes the deliveries of records' events since a point in time to `found`, each with the time under which
    /// CloudWatch files the line, and a hash of the line. A log that is shared is read up to the present first.
    pub(crate) async fn deliveries(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Timestamp, u64, &Delivery),
    ) -> Result<(), LogError> {
        match &self.0 {
            Source::Own { .. } => {
                let found = |filed, line: &str, delivery: &Delivery| {
                    found(filed, hash(line), delivery);
                    ControlFlow::Continue(())
                };
                self.read(since, found).await
            }
            Source::Shared { log, tenant } => {
                log.refresh().await?;
                log.each(tenant, since, |line| {
                    found(line.filed, line.id, &line.delivery);
                    ControlFlow::Continue(())
                });
                Ok(())
            }
        }
    }

    /// Reads the log for this tenant alone.
    async fn read(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Timestamp, &str, &Delivery) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let Source::Own { logs, log_group, tenant } = &self.0 else {
            return Ok(());
        };
        logs.read(log_group, FILTER, since, |filed, line| match read_line(filed, line) {
            Some((named, delivery)) if is_of(tenant.as_deref(), named.as_deref()) => found(filed, line, &delivery),
            _ => ControlFlow::Continue(()),
        })
        .await
    }
}

/// Returns `true` if a line that names a tenant belongs to `tenant`.
fn is_of(tenant: Option<&str>, named: Option<&str>) -> bool {
    tenant.zip(named).is_none_or(|(tenant, named)| tenant.eq_ignore_ascii_case(named))
}

/// Reads the tenant, if it is named, and the delivery of a line; `None` unless the line reports an event of a contact
/// or a person that was forwarded, ignored or failed.
pub(crate) fn read_line(filed: Timestamp, line: &str) -> Option<(Option<String>, Delivery)> {
    let line = RequestLine::parse(line)?;
    let (request, written) = (&line.properties, line.written_at().unwrap_or(filed));
    let event = request.event.as_deref()?;
    let archive = Archive::of_entity(event.split_once('.')?.0)?;
    // The name that on-site installations use, if they name themselves at all.
    let named = request.context_identifier.as_deref().filter(|tenant| *tenant != "Default");
    let outcome = match request.outcome.as_ref() {
        FORWARDED => Outcome::Forwarded,
        IGNORED => Outcome::Ignored,
        FAILED => Outcome::Failed,
        _ => return None,
    };
    let is_resync = event.eq_ignore_ascii_case(&archive.resync());
    let delay = delay(line.metrics.delivery_delay.and_then(|delay| delay.as_f64()));
    let delivery = Delivery { archive, outcome, is_resync, primary_key: request.primary_key, written, delay };
    Some((named.map(str::to_owned), delivery))
}

/// The delivery of an event of a record.
#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    /// The entity of the event.
    pub(crate) archive: &'static Archive,
    pub(crate) outcome: Outcome,
    /// The event is the one that signals make SuperOffice send, `contact.resync`.
    pub(crate) is_resync: bool,
    pub(crate) primary_key: Option<i64>,
    /// The time of the line, by AWS's clock.
    pub(crate) written: Timestamp,
    delay: Option<SignedDuration>,
}

impl Delivery {
    /// Returns the record that the event is about.
    pub(crate) fn record(&self) -> Option<Record> {
        self.primary_key.map(|id| Record { archive: self.archive, id })
    }

    /// Returns the event, if it was handled.
    pub(crate) fn handled(&self) -> Option<Handled> {
        match self.outcome {
            Outcome::Forwarded => {}
            Outcome::Ignored if !self.is_resync => {}
            Outcome::Ignored | Outcome::Failed => return None,
        }
        Some(Handled { record: self.record()?, written: self.written, delay: self.delay })
    }
}

/// The outcome of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Forwarded,
    Ignored,
    Failed,
}

/// Reads a delay; `None` if it is not plausible.
fn delay(milliseconds: Option<f64>) -> Option<SignedDuration> {
    let delay = SignedDuration::try_from_secs_f64(milliseconds? / 1000.0).ok()?;
    Some(delay).filter(|delay| !delay.is_negative() && *delay <= LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use superoffice_webhook::log_line::Request;

    /// CloudWatch would leave out every line if the filter named another field.
    #[test]
    fn filter_names_the_field_and_the_values_that_the_function_writes() {
        for outcome in [FORWARDED, IGNORED, FAILED] {
            let request = serde_json::to_value(Request { outcome: outcome.into(), ..Request::default() }).unwrap();
            assert_eq!(request["outcome"], outcome);
            assert!(FILTER.contains(&format!(r#"($.outcome = "{outcome}")"#)), "{outcome}");
        }
    }

    fn read(tenant: Option<&str>, line: &str) -> Option<Handled> {
        let (named, delivery) = read_line("2026-11-24T09:00:10Z".parse().unwrap(), line)?;
        is_of(tenant, named.as_deref()).then(|| delivery.handled())?
    }

    fn handled(written: &str, delay: Option<i64>) -> Option<Handled> {
        let delay = delay.map(SignedDuration::from_millis);
        Some(Handled { record: Record::contact(7), written: written.parse().unwrap(), delay })
    }

    #[test]
    fn handled_contact_events_are_found() {
        for outcome in ["forwarded", "ignored"] {
            let line = json!({"outcome": outcome, "event": "Contact.changed", "primaryKey": 7});
            assert_eq!(read(None, &format!("{line}\n")), handled("2026-11-24T09:00:10Z", None));
        }
        let line = json!({
            "_aws": {"Timestamp": 1795510800000_i64},
            "outcome": "forwarded", "event": "contact.resync", "primaryKey": 7, "DeliveryDelay": 1500,
        });
        assert_eq!(read(None, &line.to_string()), handled("2026-11-24T09:00:00Z", Some(1500)));
    }

    #[test]
    fn handled_events_of_persons_are_found() {
        for event in ["person.changed", "Person.Consented", "person.resync"] {
            let line = json!({"outcome": "forwarded", "event": event, "primaryKey": 7});
            assert_eq!(read(None, &line.to_string()).map(|handled| handled.record), Some(Record::person(7)));
        }
        let line = json!({"outcome": "ignored", "event": "person.resync", "primaryKey": 7});
        assert_eq!(read(None, &line.to_string()), None);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "REPORT RequestId: 1".to_owned(),
            json!({"outcome": "failed", "event": "contact.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "ignored", "event": "Contact.resync", "primaryKey": 7}).to_string(),
            json!({"outcome": "quarantined", "event": "contact.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "forwarded", "event": "sale.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "forwarded", "event": "contact.changed"}).to_string(),
            json!({"outcome": "forwarded", "primaryKey": 7}).to_string(),
            json!({"event": "contact.changed", "primaryKey": 7}).to_string(),
        ] {
            assert_eq!(read(None, &line), None, "{line}");
        }
    }

    #[test]
    fn other_tenants_are_passed_over() {
        let line = |tenant: serde_json::Value| {
            let mut line = json!({"outcome": "forwarded", "event": "contact.changed", "primaryKey": 7});
            line["contextIdentifier"] = tenant;
            line
        };
        assert!(read(Some("Cust1"), &line(json!("cust1")).to_string()).is_some());
        assert!(read(Some("Cust1"), &line(json!("Cust2")).to_string()).is_none());
        assert!(read(None, &line(json!("Cust2")).to_string()).is_some());
        // An on-site installation does not name itself.
        for unnamed in [json!(null), json!("Default")] {
            assert!(read(Some("Cust1"), &line(unnamed).to_string()).is_some());
        }
    }

    #[test]
    fn implausible_delays_are_disregarded() {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        assert_eq!(delay(None), None);
        assert_eq!(delay(Some(-1.0)), None);
        assert_eq!(delay(Some(0.0)), Some(SignedDuration::ZERO));
        assert_eq!(delay(Some(1_209_600_000.0)), Some(days(14)));
        assert_eq!(delay(Some(1_209_600_001.0)), None);
        assert_eq!(delay(Some(f64::MAX)), None);
    }

    #[test]
    fn event_at_the_begin_of_a_second_belongs_to_this_second() {
        // Written at 09:00:01.0009, about an event at 09:00:00.
        let line = json!({
            "_aws": {"Timestamp": 1795510801000_i64},
            "outcome": "forwarded", "event": "contact.changed", "primaryKey": 7, "DeliveryDelay": 1000.9,
        });
        let occurred = read(None, &line.to_string()).unwrap().occurred(SignedDuration::ZERO);
        assert_eq!(occurred.as_second(), 1_795_510_800);
    }

    #[test]
    fn event_is_older_than_its_line_unless_it_came_from_the_future() {
        let occurred = |delay, ahead| {
            let handled = handled("2026-11-24T09:00:00Z", delay).unwrap();
            handled.occurred(SignedDuration::from_millis(ahead)).to_string()
        };
        for ahead in [-60_000, 0, 60_000] {
            assert_eq!(occurred(Some(1500), ahead), "2026-11-24T08:59:58.501Z");
        }
        assert_eq!(occurred(None, 0), "2026-11-24T09:00:00Z");
        assert_eq!(occurred(None, -60_000), "2026-11-24T09:00:00Z");
        assert_eq!(occurred(None, 1999), "2026-11-24T09:00:00Z");
        assert_eq!(occurred(None, 2000), "2026-11-24T09:00:03Z");
    }
}
