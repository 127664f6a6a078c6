//! The delivery of an event, as a line of the function's log reports it.

use jiff::{SignedDuration, Timestamp};
use superoffice_client::Archive;
use superoffice_webhook::log_line::{FAILED, FORWARDED, IGNORED, RequestLine};
use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;

use crate::record::Record;

/// Selects the lines of deliveries that were forwarded, ignored or failed. It only saves transfer: a reader checks each
/// line.
pub const FILTER: &str = r#"{ ($.outcome = "forwarded") || ($.outcome = "ignored") || ($.outcome = "failed") }"#;
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
    /// Returns `true` if the event is not older than a change of its record. SuperOffice's clock is ahead of AWS's by
    /// `ahead`.
    ///
    /// The event's own time counts, not that of its line: a repeated delivery reports an old event, and the record may
    /// have changed since.
    pub fn reports(&self, changed_at: Timestamp, ahead: SignedDuration) -> bool {
        // Not every column has a fraction of a second.
        self.occurred(ahead) >= whole_seconds(changed_at)
    }

    /// Returns the time of the event by SuperOffice's clock.
    fn occurred(&self, ahead: SignedDuration) -> Timestamp {
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

/// Removes the fraction of a second.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Parses the tenant, if it is named, and the delivery of a line. The result is `None` unless the line reports an event
/// of a contact or a person that was forwarded or ignored, or any event whose delivery failed.
pub(crate) fn parse(filed: Timestamp, line: &str) -> Option<(Option<String>, Delivery)> {
    let line = RequestLine::parse(line)?;
    let (request, written) = (&line.properties, line.written_at().unwrap_or(filed));
    let event = request.event.as_deref()?;
    let archive = event.split_once('.').and_then(|(entity, _)| Archive::of_entity(entity));
    // The name that on-site installations use, if they name themselves at all.
    let named = request.context_identifier.as_deref().filter(|tenant| *tenant != UNNAMED_TENANT);
    let outcome = match request.outcome.as_ref() {
        FORWARDED => Outcome::Forwarded,
        IGNORED => Outcome::Ignored,
        FAILED => Outcome::Failed,
        _ => return None,
    };
    if archive.is_none() && outcome != Outcome::Failed {
        return None;
    }
    let is_resync = archive.is_some_and(|archive| event.eq_ignore_ascii_case(&archive.resync()));
    let delay = delay(line.metrics.delivery_delay.and_then(|delay| delay.as_f64()));
    let delivery = Delivery { archive, outcome, is_resync, primary_key: request.primary_key, written, delay };
    Some((named.map(str::to_owned), delivery))
}

/// The delivery of an event.
#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    /// The entity of the event; `None` for an entity whose lost events are not recovered.
    pub(crate) archive: Option<&'static Archive>,
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
        Some(Record { archive: self.archive?, id: self.primary_key? })
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

    fn read(line: &str) -> Option<Handled> {
        parse("2026-11-24T09:00:10Z".parse().unwrap(), line)?.1.handled()
    }

    fn handled(written: &str, delay: Option<i64>) -> Option<Handled> {
        let delay = delay.map(SignedDuration::from_millis);
        Some(Handled { record: Record::contact(7), written: written.parse().unwrap(), delay })
    }

    #[test]
    fn handled_contact_events_are_found() {
        for outcome in ["forwarded", "ignored"] {
            let line = json!({"outcome": outcome, "event": "Contact.changed", "primaryKey": 7});
            assert_eq!(read(&format!("{line}\n")), handled("2026-11-24T09:00:10Z", None));
        }
        let line = json!({
            "_aws": {"Timestamp": 1795510800000_i64},
            "outcome": "forwarded", "event": "contact.resync", "primaryKey": 7, "DeliveryDelay": 1500,
        });
        assert_eq!(read(&line.to_string()), handled("2026-11-24T09:00:00Z", Some(1500)));
    }

    #[test]
    fn handled_events_of_persons_are_found() {
        for event in ["person.changed", "Person.Consented", "person.resync"] {
            let line = json!({"outcome": "forwarded", "event": event, "primaryKey": 7});
            assert_eq!(read(&line.to_string()).map(|handled| handled.record), Some(Record::person(7)));
        }
        let line = json!({"outcome": "ignored", "event": "person.resync", "primaryKey": 7});
        assert_eq!(read(&line.to_string()), None);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "REPORT RequestId: 1".to_owned(),
            json!({"outcome": "failed", "event": "contact.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "ignored", "event": "Contact.resync", "primaryKey": 7}).to_string(),
            json!({"outcome": "quarantined", "event": "contact.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "forwarded", "event": "sale.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "failed", "event": "sale.changed", "primaryKey": 7}).to_string(),
            json!({"outcome": "forwarded", "event": "contact.changed"}).to_string(),
            json!({"outcome": "forwarded", "primaryKey": 7}).to_string(),
            json!({"event": "contact.changed", "primaryKey": 7}).to_string(),
        ] {
            assert_eq!(read(&line), None, "{line}");
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
    fn event_reports_each_change_of_its_second() {
        // Written at 09:00:01.0009, about an event at 09:00:00.
        let line = json!({
            "_aws": {"Timestamp": 1795510801000_i64},
            "outcome": "forwarded", "event": "contact.changed", "primaryKey": 7, "DeliveryDelay": 1000.9,
        });
        let handled = read(&line.to_string()).unwrap();
        for (changed_at, expected) in [
            ("2026-11-24T08:59:59.999Z", true),
            ("2026-11-24T09:00:00Z", true),
            ("2026-11-24T09:00:00.999Z", true),
            ("2026-11-24T09:00:01Z", false),
        ] {
            assert_eq!(handled.reports(changed_at.parse().unwrap(), SignedDuration::ZERO), expected, "{changed_at}");
        }
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
