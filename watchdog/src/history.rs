//! Earlier runs, as the watchdog's own log reports them. There is no other memory.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use superoffice_webhook_admin::ledger::{LogError, Logs};

/// Lets CloudWatch leave out other lines. It only saves transfer: every line is checked here.
const FILTER: &str = "{ ($.WatchdogOk = 1) || ($.Reactivated >= 1) }";
/// The periods that are searched for a completed sweep, the most likely one first.
const PERIODS: [SignedDuration; 3] = [SignedDuration::from_hours(1), SignedDuration::from_hours(24), LONGEST_WINDOW];
/// The longest time that a sweep looks back. After that, SuperOffice deletes soft-deleted contacts by default.
pub const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The facts about earlier runs that decide what this run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The time up to which every change is known to have arrived.
    pub swept_until: Option<Timestamp>,
    /// The time of the last reactivation within the hour that was searched, or longer ago.
    pub reactivated: Option<Timestamp>,
}

/// The fields of a log line that matter here.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "_aws")]
    aws: Metadata,
    #[serde(rename = "sweptUntil")]
    swept_until: Option<Timestamp>,
    #[serde(rename = "WatchdogOk")]
    ok: Option<f64>,
    #[serde(rename = "Reactivated")]
    reactivated: Option<f64>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "Timestamp")]
    timestamp: i64,
}

impl History {
    /// Reads the log, no further back than necessary.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be read.
    pub async fn read(logs: &Logs, log_group: &str, now: Timestamp) -> Result<Self, LogError> {
        let mut history = Self::default();
        for period in PERIODS {
            history = Self::default();
            let since = now.saturating_sub(period).unwrap_or(now);
            let lines = logs.read(log_group, FILTER, since, |_, line| {
                history.add(line);
                true
            });
            match lines.await {
                // Lambda creates the log group for the first line.
                Err(error) if error.is_missing() => break,
                result => result?,
            }
            if history.swept_until.is_some() {
                break;
            }
        }
        Ok(history)
    }

    /// Takes a line into account. The latest line of each kind counts.
    fn add(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Line>(line.trim()) else {
            return;
        };
        if line.ok.is_some_and(|ok| ok >= 1.0) && line.swept_until.is_some() {
            self.swept_until = line.swept_until;
        }
        if line.reactivated.is_some_and(|count| count >= 1.0) {
            self.reactivated = self.reactivated.max(Timestamp::from_millisecond(line.aws.timestamp).ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn time(text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    #[test]
    fn latest_lines_count() {
        let mut history = History::default();
        for line in [
            "REPORT RequestId: 1".to_owned(),
            json!({"sweptUntil": "2026-11-24T07:00:00Z"}).to_string(),
            json!({"_aws": {"Timestamp": 1795510800000_i64}, "sweptUntil": "2026-11-24T08:00:00Z", "WatchdogOk": 1, "Reactivated": 2}).to_string(),
            json!({"_aws": {"Timestamp": 1795511100000_i64}, "sweptUntil": "2026-11-24T07:30:00Z", "WatchdogOk": 1}).to_string(),
            json!({"_aws": {"Timestamp": 1795511400000_i64}, "sweptUntil": "2026-11-24T09:00:00Z"}).to_string(),
            json!({"_aws": {"Timestamp": 1795511400000_i64}, "WatchdogOk": 1}).to_string(),
        ] {
            history.add(&line);
        }
        // A later sweep can go back further: it found a contact that is still missed.
        assert_eq!(history.swept_until, time("2026-11-24T07:30:00Z"));
        assert_eq!(history.reactivated, time("2026-11-24T09:00:00Z"));
    }
}
