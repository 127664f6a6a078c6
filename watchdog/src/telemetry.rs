//! The log line of a run, in CloudWatch's Embedded Metric Format.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use superoffice_webhook::log_line::{LogLine, is_zero};

/// The number of notes that a line contains at most.
const MAX_NOTES: usize = 20;
/// The length of a note at most, in characters. With [`MAX_NOTES`], a line stays far below CloudWatch's limit.
const MAX_NOTE: usize = 1000;

/// The result of a run, as far as it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Lambda's id of the invocation.
    pub request_id: String,
    /// `report` or `act`.
    pub mode: String,
    /// The tenant's state, if it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_state: Option<String>,
    /// `true` if the webhook for contacts is Active at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_active: Option<bool>,
    /// The number of deliveries that failed one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<i64>,
    /// The number of webhooks that were reactivated.
    pub reactivated: u64,
    /// The start of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The end of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The number of contacts that changed in the window.
    pub changed: u64,
    /// The number of contacts whose change did not arrive.
    pub missed: u64,
    /// The number of contacts that SuperOffice was asked to send again.
    pub resynced: u64,
    /// The time up to which every change is known to have arrived. The next window begins here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_until: Option<Timestamp>,
    /// The last contact that was compared, if time did not suffice for all. The next run continues here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_after: Option<i64>,
    /// The time of the oldest change that was missed so far, if the sweep is continued by the next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_missed: Option<Timestamp>,
    /// Facts for the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The number of further notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted_notes: Option<u64>,
    /// The reason why the run did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// Adds a note, as far as the line has room for it.
    pub fn note(&mut self, text: impl Into<String>) {
        if self.notes.len() == MAX_NOTES {
            *self.omitted_notes.get_or_insert_default() += 1;
            return;
        }
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(MAX_NOTE) {
            text.truncate(end);
        }
        self.notes.push(text);
    }
}

/// The line of a run.
pub type RunLine = LogLine<RunMetrics, Report>;

/// The metrics of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunMetrics {
    /// 1 if the run completed.
    #[serde(skip_serializing_if = "is_zero")]
    pub watchdog_ok: u64,
    /// 1 if the webhook for contacts is Active. Zero matters here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_active: Option<u64>,
    /// See [`Report::consecutive_errors`].
    #[serde(skip_serializing_if = "is_zero")]
    pub consecutive_errors: u64,
    /// See [`Report::reactivated`].
    #[serde(skip_serializing_if = "is_zero")]
    pub reactivated: u64,
    /// See [`Report::missed`].
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// See [`Report::resynced`].
    #[serde(skip_serializing_if = "is_zero")]
    pub resynced: u64,
}

/// Returns the line of a run.
pub fn line(report: &Report, function_name: &str, request_id: &str, now: Timestamp) -> RunLine {
    let metrics = RunMetrics {
        watchdog_ok: report.error.is_none().into(),
        webhook_active: report.webhook_active.map(u64::from),
        consecutive_errors: report.consecutive_errors.and_then(|count| count.try_into().ok()).unwrap_or(0),
        reactivated: report.reactivated,
        missed: report.missed,
        resynced: report.resynced,
    };
    LogLine::new(function_name, now, metrics, Report { request_id: request_id.to_owned(), ..report.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(report: &Report) -> Value {
        let line = line(report, "watchdog", "id", "2026-11-24T09:00:00Z".parse().unwrap());
        serde_json::from_str(&line.to_json()).unwrap()
    }

    #[test]
    fn completed_run_has_its_metrics_and_properties() {
        let report = Report {
            mode: "act".into(),
            webhook_active: Some(true),
            consecutive_errors: Some(3),
            reactivated: 2,
            since: "2026-11-24T07:58:00Z".parse().ok(),
            until: "2026-11-24T08:58:00Z".parse().ok(),
            changed: 12,
            missed: 7,
            resynced: 5,
            swept_until: "2026-11-24T08:00:00Z".parse().ok(),
            notes: vec!["a note".into()],
            ..Report::default()
        };
        let count = |name: &str| json!({"Name": name, "Unit": "Count"});
        assert_eq!(
            read(&report),
            json!({
                "_aws": {
                    "Timestamp": 1795510800000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "SuperOfficeWebhook",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [
                            count("ConsecutiveErrors"), count("Missed"), count("Reactivated"), count("Resynced"), count("WatchdogOk"),
                            count("WebhookActive"),
                        ],
                    }],
                },
                "FunctionName": "watchdog", "requestId": "id",
                "WatchdogOk": 1, "WebhookActive": 1, "ConsecutiveErrors": 3, "Reactivated": 2, "Missed": 7, "Resynced": 5,
                "mode": "act", "webhookActive": true, "consecutiveErrors": 3, "reactivated": 2,
                "since": "2026-11-24T07:58:00Z", "until": "2026-11-24T08:58:00Z", "changed": 12, "missed": 7, "resynced": 5,
                "sweptUntil": "2026-11-24T08:00:00Z", "notes": ["a note"],
            })
        );
    }

    #[test]
    fn notes_are_limited() {
        let mut report = Report::default();
        report.note("é".repeat(MAX_NOTE));
        report.note("é".repeat(MAX_NOTE + 1));
        assert_eq!(report.notes, ["é".repeat(MAX_NOTE), "é".repeat(MAX_NOTE)]);
        for _ in 2..MAX_NOTES {
            report.note("a note");
        }
        assert_eq!((report.notes.len(), report.omitted_notes), (MAX_NOTES, None));
        report.note("a note");
        report.note("a note");
        assert_eq!((report.notes.len(), report.omitted_notes), (MAX_NOTES, Some(2)));
    }

    #[test]
    fn failed_run_is_not_ok_and_inactive_webhook_is_zero() {
        let report = Report {
            mode: "report".into(),
            webhook_active: Some(false),
            consecutive_errors: Some(0),
            error: Some("no".into()),
            ..Report::default()
        };
        let line = read(&report);
        assert_eq!((line.get("WatchdogOk"), line.get("ConsecutiveErrors")), (None, None));
        assert_eq!((&line["WebhookActive"], &line["error"]), (&json!(0), &json!("no")));
        assert_eq!(
            line["_aws"]["CloudWatchMetrics"][0]["Metrics"],
            json!([{"Name": "WebhookActive", "Unit": "Count"}])
        );
        let line = read(&Report { webhook_active: None, ..report });
        assert_eq!((line.get("_aws"), &line["error"]), (None, &json!("no")));
    }
}
