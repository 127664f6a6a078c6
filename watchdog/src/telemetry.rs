//! The log line of a run, in CloudWatch's Embedded Metric Format.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The number of notes that a line contains at most.
const MAX_NOTES: usize = 20;
/// The length of a note at most, in characters. With [`MAX_NOTES`], a line stays far below CloudWatch's limit.
const MAX_NOTE: usize = 1000;

/// The result of a run, as far as it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `report` or `act`.
    pub mode: &'static str,
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
    /// The begin of the window.
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

/// Returns the log line of a run, without a line feed.
pub fn line(report: &Report, function_name: &str, request_id: &str, now: Timestamp) -> String {
    let metrics: Vec<(&str, i64)> = [
        ("WatchdogOk", report.error.is_none().then_some(1)),
        // Zero is a fact here; other zeros are omitted, because they cost money.
        ("WebhookActive", report.webhook_active.map(i64::from)),
        ("ConsecutiveErrors", report.consecutive_errors.filter(|count| *count > 0)),
        ("Reactivated", count(report.reactivated)),
        ("Missed", count(report.missed)),
        ("Resynced", count(report.resynced)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let definitions: Vec<Value> = metrics.iter().map(|(name, _)| json!({"Name": name, "Unit": "Count"})).collect();
    let mut line = Map::new();
    // A failed run can have no metrics, and a directive needs at least one.
    if !metrics.is_empty() {
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": "SuperOfficeWebhook",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": definitions,
                }],
            }),
        );
    }
    line.insert("FunctionName".into(), json!(function_name));
    line.extend(metrics.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
    line.insert("requestId".into(), json!(request_id));
    if let Ok(Value::Object(report)) = serde_json::to_value(report) {
        line.extend(report);
    }
    Value::Object(line).to_string()
}

fn count(value: u64) -> Option<i64> {
    i64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(report: &Report) -> Value {
        serde_json::from_str(&line(report, "watchdog", "id", "2026-11-24T09:00:00Z".parse().unwrap())).unwrap()
    }

    #[test]
    fn completed_run_has_its_metrics_and_properties() {
        let report = Report {
            mode: "act",
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
                            count("WatchdogOk"), count("WebhookActive"), count("ConsecutiveErrors"), count("Reactivated"),
                            count("Missed"), count("Resynced"),
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
            mode: "report",
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
