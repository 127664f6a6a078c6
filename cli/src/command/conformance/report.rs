//! The table of answers.

use std::io::Write;

use serde_json::json;

use super::assumptions::{Answer, Finding};
use crate::output::{Format, Output, message};

/// Prints every answer. Returns `true` if each is yes.
pub(super) fn print(findings: &[Finding], format: Format, output: &mut Output<impl Write>) -> bool {
    for Finding { assumption, answer, evidence } in findings {
        let (name, meaning, answer) = (assumption.name(), assumption.meaning(), answer.as_str());
        if format.json {
            output.line(json!({"assumption": name, "meaning": meaning, "answer": answer, "evidence": evidence}));
        } else {
            output.line(format_args!("{answer:15} {name:24} {meaning}: {evidence}"));
        }
    }
    let count = |answer| findings.iter().filter(|finding| finding.answer == answer).count();
    let (yes, no) = (count(Answer::Yes), count(Answer::No));
    let unknown = findings.len() - yes - no;
    message(format_args!("{} assumptions: {yes} yes, {no} no, {unknown} could not tell", findings.len()));
    yes == findings.len()
}
