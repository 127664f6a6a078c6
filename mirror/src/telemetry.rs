//! The line that the mirror writes to its log for each invocation.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use superoffice_webhook::log_line::{LogLine, is_zero};

use crate::failure::Failure;
use crate::row::Key;
use crate::visit::Outcome;

/// The number of reasons in a line at most.
const MAX_REASONS: usize = 100;
/// The number of a tenant's characters in a line at most. A message of the queue can contain any name.
const MAX_TENANT: usize = 100;

/// The facts about an invocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Lambda's id of the invocation.
    pub request_id: String,
    /// The metrics.
    #[serde(skip)]
    pub metrics: Metrics,
    /// The number of messages.
    pub messages: usize,
    /// The number of messages that are received again.
    pub failed_messages: usize,
    /// The failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The records that an audit found to be different.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Mended>,
    /// The number of further failures.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted_reasons: u64,
}

/// A failure: fixed words, a status, an id and a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The record.
    #[serde(flatten)]
    pub key: Option<Key>,
    /// The reason.
    pub reason: String,
}

/// A record that an audit found to be different, and has mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// The tenant.
    pub tenant: String,
    /// The record.
    #[serde(flatten)]
    pub key: Key,
}

/// The metrics of an invocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metrics {
    /// The number of records that were written because they are new or have changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub written: u64,
    /// The number of records that were replaced by a tombstone.
    #[serde(skip_serializing_if = "is_zero")]
    pub removed: u64,
    /// The number of records that had not changed.
    #[serde(skip_serializing_if = "is_zero")]
    pub unchanged: u64,
    /// The number of messages that failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub mirror_failed: u64,
    /// The number of tenants whose SuperOffice throttled.
    #[serde(skip_serializing_if = "is_zero")]
    pub mirror_throttled: u64,
    /// The time from the oldest handled event to its write, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror_lag: Option<i64>,
    /// The number of records that an audit found to be different, and has mended.
    #[serde(skip_serializing_if = "is_zero")]
    pub audit_differences: u64,
    /// The number of records that failed in an audit, of reasons that ended or braked an audit, and of unusable entries
    /// of the list of tenants.
    #[serde(skip_serializing_if = "is_zero")]
    pub audit_failed: u64,
    /// The number of audits that have reached the end without a failed or withheld record.
    #[serde(skip_serializing_if = "is_zero")]
    pub audit_completed: u64,
    /// The hours since the oldest last completion of all tenants, rounded down to tenths.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_hours")]
    pub audit_age: Option<f64>,
}

/// Serializes hours, without a fraction if there is none.
fn serialize_hours<S: Serializer>(hours: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    let hours = hours.unwrap_or_default();
    if hours.fract() == 0.0 { serializer.serialize_u64(hours as u64) } else { serializer.serialize_f64(hours) }
}

impl Report {
    /// Adds a failure, as far as the line has room for it.
    pub fn add_reason(&mut self, tenant: Option<&str>, key: Option<Key>, failure: &Failure) {
        if self.reasons.len() == MAX_REASONS {
            self.omitted_reasons += 1;
            return;
        }
        let tenant = tenant.map(|tenant| tenant.chars().take(MAX_TENANT).collect());
        self.reasons.push(Reason { tenant, key, reason: failure.to_string() });
    }

    /// Adds a failure of an audit.
    pub fn fail_audit(&mut self, tenant: Option<&str>, key: Option<Key>, failure: &Failure) {
        self.metrics.audit_failed += 1;
        self.add_reason(tenant, key, failure);
    }

    /// Adds a record that an audit found to be different, as far as the line has room for it.
    pub fn add_difference(&mut self, tenant: &str, key: Key) {
        self.metrics.audit_differences += 1;
        if self.differences.len() < MAX_REASONS {
            self.differences.push(Mended { tenant: tenant.to_owned(), key });
        }
    }

    /// Adds a record that was written. `oldest` is the time of its oldest event.
    pub fn add_row(&mut self, outcome: Outcome, oldest: Option<Timestamp>, written_at: Timestamp) {
        self.add_outcome(outcome);
        // A clock that is behind SuperOffice's would make the time negative.
        let lag = oldest.map(|oldest| written_at.as_millisecond() - oldest.as_millisecond()).filter(|lag| *lag >= 0);
        self.metrics.mirror_lag = self.metrics.mirror_lag.max(lag);
    }

    /// Counts a record that was written.
    pub fn add_outcome(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Written => &mut self.metrics.written,
            Outcome::Removed => &mut self.metrics.removed,
            Outcome::Unchanged => &mut self.metrics.unchanged,
        };
        *count += 1;
    }

    /// Returns the line without a line feed.
    pub fn line(&self, function_name: &str, request_id: &str, now: Timestamp) -> String {
        let failed = u64::try_from(self.failed_messages).unwrap_or(u64::MAX);
        let metrics = Metrics { mirror_failed: failed, ..self.metrics.clone() };
        let report = Self { request_id: request_id.to_owned(), ..self.clone() };
        LogLine::new(function_name, now, metrics, report).to_json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_of_an_audit_has_a_fraction_only_if_it_needs_one() {
        for (age, expected) in [(0.0, "\"AuditAge\":0,"), (48.0, "\"AuditAge\":48,"), (2.1, "\"AuditAge\":2.1,")] {
            let metrics = Metrics { audit_age: Some(age), ..Metrics::default() };
            let line = Report { metrics, ..Report::default() }.line("mirror", "id", Timestamp::UNIX_EPOCH);
            assert!(line.contains(expected), "{line}");
        }
        assert!(!Report::default().line("mirror", "id", Timestamp::UNIX_EPOCH).contains("AuditAge"));
    }
}
