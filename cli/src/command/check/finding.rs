//! The result of one check, and the report of all.

use std::io::Write;

use serde_json::json;
use tenants::UnusableEntry;

use crate::exit::Status;
use crate::output::{Format, Output};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The name of the check.
    check: &'static str,
    /// The observation, in one line.
    message: String,
    /// The command or page that mends it; `None` if all is well.
    action: Option<String>,
    /// The reason why a tenant was not checked.
    error: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, message: message.into(), action: None, error: None }
    }

    pub(super) fn wrong(check: &'static str, message: impl Into<String>, action: impl Into<String>) -> Self {
        Self { check, message: one_line(&message.into()), action: Some(action.into()), error: None }
    }

    /// Describes an entry of the list of tenants that cannot be used.
    pub(super) fn unusable(entry: &UnusableEntry) -> Self {
        let action = "Correct the parameter: docs/tenants.md#the-list-of-tenants";
        Self { error: Some(entry.to_string()), ..Self::wrong("tenant", entry.reason.to_string(), action) }
    }

    pub(super) fn is_ok(&self) -> bool {
        self.action.is_none()
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The lines of a run.
pub(super) struct Report<'a, W> {
    output: &'a mut Output<W>,
    format: Format,
    /// There is a list of tenants, so each object has a tenant.
    has_list: bool,
    is_well: bool,
}

impl<'a, W: Write> Report<'a, W> {
    pub(super) fn new(output: &'a mut Output<W>, format: Format, has_list: bool) -> Self {
        Self { output, format, has_list, is_well: true }
    }

    /// Prints a finding. `tenant` is `None` for a finding about the stack, or without a list of tenants.
    pub(super) fn add(&mut self, tenant: Option<&str>, finding: Finding) {
        let is_ok = finding.is_ok();
        let Finding { check, message, action, error } = finding;
        self.is_well &= is_ok;
        if self.format.json {
            let mut line = json!({"check": check, "ok": is_ok, "message": message, "action": action});
            if self.has_list {
                line["tenant"] = tenant.into();
            }
            if let Some(error) = error {
                line["error"] = error.into();
            }
            return self.output.line(line);
        }
        let tenant = tenant.map(|tenant| format!("{tenant} ")).unwrap_or_default();
        match action {
            None => self.output.line(format_args!("ok     {tenant}{check}: {message}")),
            Some(action) => self.output.line(format_args!("WRONG  {tenant}{check}: {message}. {action}")),
        }
    }

    pub(super) fn add_all(&mut self, tenant: Option<&str>, findings: Vec<Finding>) {
        findings.into_iter().for_each(|finding| self.add(tenant, finding));
    }

    /// Returns `false` once nobody reads the report.
    pub(super) fn is_open(&self) -> bool {
        self.output.is_open()
    }

    /// Returns the status of all findings. It is not `Well` if the reader went away before the end.
    pub(super) fn status(&self) -> Status {
        Status::well_if(self.is_well && self.is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_is_one_line_or_one_object() {
        let findings = [
            (None, Finding::ok("probe", "accepted")),
            (Some("Cust1"), Finding::wrong("log", "not\n  found\n", "Run `x`")),
        ];
        let print = |json, has_list| {
            let mut output = Output::new(Vec::new());
            let mut report = Report::new(&mut output, Format { json }, has_list);
            findings.clone().into_iter().for_each(|(tenant, finding)| report.add(tenant, finding));
            let status = report.status();
            (status, String::from_utf8(output.into_writer()).unwrap())
        };
        assert_eq!(
            print(false, true),
            (Status::NeedsAttention, "ok     probe: accepted\nWRONG  Cust1 log: not found. Run `x`\n".to_owned())
        );
        let (_, lines) = print(true, true);
        let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let probe = json!({"check": "probe", "ok": true, "message": "accepted", "action": null, "tenant": null});
        let log = json!({"check": "log", "ok": false, "message": "not found", "action": "Run `x`", "tenant": "Cust1"});
        assert_eq!(lines, [probe, log]);
        let (_, lines) = print(true, false);
        assert!(!lines.contains("tenant"), "{lines}");
    }
}
