//! Earlier runs, as the watchdog's own log reports them. There is no other memory.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use recovery::logs::{LogError, Logs};

use crate::telemetry::RunLine;

/// Lets CloudWatch leave out other lines. It only saves transfer: every line is checked here.
const FILTER: &str = "{ ($.WatchdogOk = 1) || ($.Reactivated >= 1) }";
/// The periods that are searched for a completed run, the most likely one first. The last one is longer than the
/// longest window: a first run sweeps an hour, but a run after a long pause sweeps the whole window.
const PERIODS: [SignedDuration; 3] =
    [SignedDuration::from_hours(1), SignedDuration::from_hours(24), SignedDuration::from_hours(90 * 24)];
/// The longest time that a sweep looks back. After that, SuperOffice deletes soft-deleted contacts by default.
pub const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The facts about earlier runs that decide what this run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The time up to which every change is known to have arrived.
    pub swept_until: Option<Timestamp>,
    /// The sweep that the last completed run left unfinished.
    pub unfinished: Option<Unfinished>,
    /// The time of the last reactivation. Found if it was within the last hour, which is always searched.
    pub reactivated: Option<Timestamp>,
    /// The time of the latest completed run.
    latest: Option<Timestamp>,
}

/// A sweep that compared a part of the contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The last contact that was compared.
    pub after: i64,
    /// The end of the window.
    pub until: Timestamp,
    /// The time of the oldest change that was missed so far.
    pub oldest_missed: Option<Timestamp>,
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
                ControlFlow::Continue(())
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

    /// Reads a line. The latest line of each kind counts.
    fn add(&mut self, line: &str) {
        let Some(line) = RunLine::parse(line) else {
            return;
        };
        let Some(written) = line.written_at() else {
            return;
        };
        let (metrics, report) = (line.metrics, line.properties);
        if metrics.watchdog_ok > 0 && report.swept_until.is_some() && self.latest.is_none_or(|latest| latest <= written)
        {
            self.latest = Some(written);
            self.swept_until = report.swept_until;
            let unfinished = report.swept_after.zip(report.until);
            self.unfinished =
                unfinished.map(|(after, until)| Unfinished { after, until, oldest_missed: report.oldest_missed });
        }
        if metrics.reactivated > 0 {
            self.reactivated = self.reactivated.max(Some(written));
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
        assert_eq!((history.swept_until, history.unfinished), (time("2026-11-24T07:30:00Z"), None));
        assert_eq!(history.reactivated, time("2026-11-24T09:00:00Z"));
        // Lines of different log streams may be out of order.
        history.add(
            &json!({"_aws": {"Timestamp": 1795510800000_i64}, "sweptUntil": "2026-11-24T08:00:00Z", "WatchdogOk": 1})
                .to_string(),
        );
        assert_eq!(history.swept_until, time("2026-11-24T07:30:00Z"));
    }

    #[test]
    fn unfinished_sweep_is_remembered_until_a_later_run_completes_it() {
        let mut history = History::default();
        let line = |timestamp: i64, properties: serde_json::Value| {
            let mut line =
                json!({"_aws": {"Timestamp": timestamp}, "sweptUntil": "2026-11-24T08:00:00Z", "WatchdogOk": 1});
            line.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
            line.to_string()
        };
        let until = "2026-11-24T09:00:00Z";
        history.add(&line(1, json!({"sweptAfter": 41, "until": until, "oldestMissed": "2026-11-24T08:30:00Z"})));
        let expected =
            Unfinished { after: 41, until: time(until).unwrap(), oldest_missed: time("2026-11-24T08:30:00Z") };
        assert_eq!(history.unfinished, Some(expected));
        history.add(&line(2, json!({"sweptAfter": 50, "until": until})));
        assert_eq!(history.unfinished, Some(Unfinished { after: 50, oldest_missed: None, ..expected }));
        history.add(&line(3, json!({"until": until})));
        assert_eq!(history.unfinished, None);
    }
}
