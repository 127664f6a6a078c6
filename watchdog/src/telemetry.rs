//! The log lines of a run and of its visits. The run's line is in CloudWatch's Embedded Metric Format.

use jiff::Timestamp;
use recovery::record::Record;
use serde::{Deserialize, Serialize};
use superoffice_webhook::log_line::{LogLine, is_zero};

use crate::config::Mode;
use crate::state::{Carried, State};

/// The number of notes that a line contains at most.
const MAX_NOTES: usize = 20;
/// The length of a note at most, in characters.
const MAX_NOTE: usize = 1000;
/// The number of tenants that a run's line names at most, for each reason.
const MAX_NAMES: usize = 100;
/// The length of a line at most, in bytes. CloudWatch truncates longer lines.
pub(crate) const MAX_LINE: usize = 190_000;

/// Texts for the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Notes {
    /// The texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The number of further notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted_notes: Option<u64>,
}

impl Notes {
    /// Adds a note, as far as the line has room for it.
    pub fn add(&mut self, text: impl Into<String>) {
        if self.notes.len() == MAX_NOTES {
            *self.omitted_notes.get_or_insert_default() += 1;
            return;
        }
        self.notes.push(shortened(text.into()));
    }

    /// Removes all notes.
    fn omit(&mut self) {
        let count = u64::try_from(self.notes.len()).unwrap_or(u64::MAX);
        *self.omitted_notes.get_or_insert_default() += count;
        self.notes.clear();
    }
}

/// Limits the length of a text.
pub(crate) fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_NOTE) {
        text.truncate(end);
    }
    text
}

/// The result of a visit, as far as it got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// The tenant.
    pub tenant: String,
    /// Lambda's id of the invocation.
    pub request_id: String,
    /// `report` or `act`.
    pub mode: String,
    /// The tenant's state, if it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_state: Option<String>,
    /// `true` if the webhook for contacts, and those for further events, are Active at the end.
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
    /// The number of contacts and persons that changed in the window.
    pub changed: u64,
    /// The number of contacts and persons whose change did not arrive.
    pub missed: u64,
    /// The number of contacts and persons that SuperOffice was asked to send again.
    pub resynced: u64,
    /// Every change before this time is known to have arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived_until: Option<Timestamp>,
    /// The last record that was compared, if time did not suffice for all. The next visit continues here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_after: Option<Record>,
    /// Facts for the operator.
    #[serde(flatten)]
    pub notes: Notes,
    /// The reason why the visit did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The memory of the next visit.
    pub state: State,
}

impl Report {
    /// Creates an empty report of a visit.
    pub(crate) fn new(mode: Mode, tenant: &str, request_id: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            request_id: request_id.to_owned(),
            mode: mode.as_str().to_owned(),
            ..Self::default()
        }
    }

    /// Adds a note, as far as the line has room for it.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.add(text);
    }

    /// Returns the log line, without metrics.
    pub fn line(mut self, function_name: &str, now: Timestamp) -> String {
        let json = |report: &Self| LogLine::new(function_name, now, NoMetrics {}, report.clone()).to_json();
        let line = json(&self);
        if line.len() <= MAX_LINE {
            return line;
        }
        self.notes.omit();
        json(&self)
    }
}

/// The metrics of a line that has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NoMetrics {}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunReport {
    /// Lambda's id of the invocation.
    pub request_id: String,
    /// `report` or `act`.
    pub mode: String,
    /// The number of tenants that were visited.
    pub tenants: u64,
    /// The number of tenants whose visit did not complete, and of entries of the list that cannot be used.
    pub tenants_failed: u64,
    /// The number of tenants with a webhook that is not Active.
    pub webhooks_inactive: u64,
    /// The largest number of deliveries that failed one after another.
    pub consecutive_errors: u64,
    /// The number of webhooks that were reactivated.
    pub reactivated: u64,
    /// The number of contacts and persons that changed in the windows.
    pub changed: u64,
    /// The number of contacts and persons whose change did not arrive.
    pub missed: u64,
    /// The number of contacts and persons that SuperOffice was asked to send again.
    pub resynced: u64,
    /// The number of due tenants that were not visited for lack of time.
    #[serde(skip_serializing_if = "is_zero")]
    pub waiting: u64,
    /// Tenants whose visit did not complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Entries of the list that cannot be used, with the reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<String>,
    /// Facts for the operator.
    #[serde(flatten)]
    pub notes: Notes,
    /// The reason why the run did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of tenants whose states are known, if the log of earlier runs was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remembered: Option<u64>,
}

impl RunReport {
    /// Counts a visit.
    pub(crate) fn add(&mut self, visit: &Report) {
        self.tenants += 1;
        if visit.error.is_some() {
            self.tenants_failed += 1;
            if self.failed.len() < MAX_NAMES {
                self.failed.push(visit.tenant.clone());
            }
        }
        self.webhooks_inactive += u64::from(visit.webhook_active == Some(false));
        let errors = visit.consecutive_errors.and_then(|count| count.try_into().ok()).unwrap_or(0);
        self.consecutive_errors = self.consecutive_errors.max(errors);
        self.reactivated += visit.reactivated;
        self.changed += visit.changed;
        self.missed += visit.missed;
        self.resynced += visit.resynced;
    }

    /// Counts an entry of the list that cannot be used.
    pub(crate) fn add_unusable(&mut self, entry: impl std::fmt::Display) {
        self.tenants_failed += 1;
        if self.unusable.len() < MAX_NAMES {
            self.unusable.push(shortened(entry.to_string()));
        }
    }

    /// Returns the log line with the metrics, and before it further lines with the states that do not fit into it.
    pub fn lines(&self, carried: Vec<Vec<Carried>>, function_name: &str, now: Timestamp) -> Vec<String> {
        let (mode, request_id) = (&self.mode, &self.request_id);
        let mut parts = carried.into_iter();
        let own = parts.next().unwrap_or_default();
        let further = parts.map(|carried| {
            let properties = Remainder { mode, request_id, carried };
            LogLine::new(function_name, now, NoMetrics {}, properties).to_json()
        });
        let mut lines: Vec<String> = further.collect();
        let metrics = RunMetrics {
            watchdog_ok: self.error.is_none().into(),
            tenants: self.tenants,
            tenants_failed: self.tenants_failed,
            webhooks_inactive: self.webhooks_inactive,
            consecutive_errors: self.consecutive_errors,
            reactivated: self.reactivated,
            missed: self.missed,
            resynced: self.resynced,
        };
        let json = |report: &Self, carried| {
            let properties = RunProperties { report, carried };
            LogLine::new(function_name, now, metrics.clone(), properties).to_json()
        };
        let line = json(self, &own);
        if line.len() > MAX_LINE {
            let mut short = Self { failed: Vec::new(), unusable: Vec::new(), ..self.clone() };
            short.notes.omit();
            lines.push(json(&short, &own));
        } else {
            lines.push(line);
        }
        lines
    }
}

#[derive(Serialize)]
struct RunProperties<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    #[serde(skip_serializing_if = "<[Carried]>::is_empty")]
    carried: &'a [Carried],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remainder<'a> {
    mode: &'a str,
    request_id: &'a str,
    carried: Vec<Carried>,
}

/// The metrics of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunMetrics {
    /// 1 if the run completed.
    #[serde(skip_serializing_if = "is_zero")]
    watchdog_ok: u64,
    #[serde(skip_serializing_if = "is_zero")]
    tenants: u64,
    #[serde(skip_serializing_if = "is_zero")]
    tenants_failed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    webhooks_inactive: u64,
    #[serde(skip_serializing_if = "is_zero")]
    consecutive_errors: u64,
    #[serde(skip_serializing_if = "is_zero")]
    reactivated: u64,
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    resynced: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::state::Missing;

    fn now() -> Timestamp {
        "2026-11-24T09:00:00Z".parse().unwrap()
    }

    fn visit() -> Report {
        Report {
            webhook_active: Some(true),
            consecutive_errors: Some(3),
            reactivated: 2,
            since: "2026-11-24T07:58:00Z".parse().ok(),
            until: "2026-11-24T08:58:00Z".parse().ok(),
            changed: 12,
            missed: 7,
            resynced: 5,
            arrived_until: "2026-11-24T08:00:00Z".parse().ok(),
            ..Report::new(Mode::Act, "Cust1", "id")
        }
    }

    #[test]
    fn line_of_a_visit_has_properties_and_no_metrics() {
        let mut report = visit();
        report.note("a note");
        report.state.completed = Some(now());
        assert_eq!(
            serde_json::from_str::<Value>(&report.line("watchdog", now())).unwrap(),
            json!({
                "FunctionName": "watchdog", "requestId": "id", "tenant": "Cust1", "mode": "act", "webhookActive": true,
                "consecutiveErrors": 3, "reactivated": 2, "since": "2026-11-24T07:58:00Z", "until": "2026-11-24T08:58:00Z",
                "changed": 12, "missed": 7, "resynced": 5, "arrivedUntil": "2026-11-24T08:00:00Z", "notes": ["a note"],
                "state": {"completed": "2026-11-24T09:00:00Z"},
            })
        );
    }

    #[test]
    fn line_of_a_run_has_the_metrics_that_are_not_zero() {
        let mut report = RunReport { request_id: "id".into(), mode: "act".into(), ..RunReport::default() };
        report.add(&visit());
        let failed = Report { consecutive_errors: Some(9), webhook_active: Some(false), ..visit() };
        report.add(&Report { tenant: "Cust2".into(), error: Some("no".into()), ..failed });
        report.add_unusable("tenant Cust3: no");
        report.remembered = Some(2);
        let lines = report.lines(Vec::new(), "watchdog", now());
        let count = |name: &str| json!({"Name": name, "Unit": "Count"});
        let names = [
            "ConsecutiveErrors",
            "Missed",
            "Reactivated",
            "Resynced",
            "Tenants",
            "TenantsFailed",
            "WatchdogOk",
            "WebhooksInactive",
        ];
        assert_eq!(lines.len(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&lines[0]).unwrap(),
            json!({
                "_aws": {
                    "Timestamp": 1795510800000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "SuperOfficeWebhook", "Dimensions": [["FunctionName"]], "Metrics": names.map(count),
                    }],
                },
                "FunctionName": "watchdog", "requestId": "id", "mode": "act",
                "WatchdogOk": 1, "Tenants": 2, "TenantsFailed": 2, "WebhooksInactive": 1, "ConsecutiveErrors": 9,
                "Reactivated": 4, "Missed": 14, "Resynced": 10,
                "tenants": 2, "tenantsFailed": 2, "webhooksInactive": 1, "consecutiveErrors": 9, "reactivated": 4,
                "changed": 24, "missed": 14, "resynced": 10, "failed": ["Cust2"], "unusable": ["tenant Cust3: no"],
                "remembered": 2,
            })
        );
    }

    #[test]
    fn run_that_failed_is_not_ok() {
        let report = RunReport { error: Some("no".into()), ..RunReport::default() };
        let line: Value = serde_json::from_str(&report.lines(Vec::new(), "watchdog", now())[0]).unwrap();
        assert_eq!((line.get("_aws"), line.get("WatchdogOk"), &line["error"]), (None, None, &json!("no")));
    }

    #[test]
    fn notes_are_limited() {
        let mut notes = Notes::default();
        notes.add("é".repeat(MAX_NOTE));
        notes.add("é".repeat(MAX_NOTE + 1));
        assert_eq!(notes.notes, ["é".repeat(MAX_NOTE), "é".repeat(MAX_NOTE)]);
        for _ in 2..MAX_NOTES {
            notes.add("a note");
        }
        assert_eq!((notes.notes.len(), notes.omitted_notes), (MAX_NOTES, None));
        notes.add("a note");
        notes.add("a note");
        assert_eq!((notes.notes.len(), notes.omitted_notes), (MAX_NOTES, Some(2)));
    }

    #[test]
    fn no_line_exceeds_200_kb() {
        let missing = vec![Missing::from((Record::person(i64::MAX), 1_795_510_800, 1)); 1500];
        let mut report = visit();
        report.state.missing.clone_from(&missing);
        report.state.older = Some(crate::state::Older { unreported: missing, ..Default::default() });
        // A control character has six bytes in JSON.
        (0..MAX_NOTES).for_each(|_| report.note("\u{1}".repeat(MAX_NOTE)));
        let line = report.clone().line("watchdog", now());
        assert!(line.len() < MAX_LINE, "{}", line.len());
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (read["omittedNotes"].as_u64(), read["state"]["missing"].as_array().unwrap().len()),
            (Some(20), 1500)
        );

        let mut run = RunReport::default();
        (0..1000).for_each(|number| run.add_unusable(format!("{number} {}", "\u{1}".repeat(MAX_NOTE))));
        let carried = vec![vec![Carried { tenant: "Cust1".into(), state: report.state }]; 2];
        let lines = run.lines(carried, "watchdog", now());
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() < MAX_LINE && line.contains("carried")));
        assert!(lines[1].contains("\"TenantsFailed\":1000"));
    }
}
