//! The CloudEvents 1.0 envelope, in the JSON format.
//!
//! The envelope ends with `,"data":`, the request body without a byte order mark, and `}`. A consumer can therefore
//! extract the signed bytes as text and verify them again.

use std::str::FromStr;

use jiff::civil;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{JSON, is_sqs_char};
use crate::webhook::json::without_bom;
use crate::webhook::metadata::EventMetadata;

const DATA: &str = ",\"data\":";

/// The attributes of an event. CloudEvents does not allow empty ones.
#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'a str,
}

/// Returns an event with `data` as text, so that its bytes do not change.
pub(crate) fn event(metadata: &EventMetadata, primary_key: i64, data: &str) -> String {
    let attributes = Attributes {
        specversion: "1.0",
        id: metadata.event_id(),
        source: &source(metadata.context_identifier()),
        event_type: &format!("com.superoffice.{}", metadata.event()),
        subject: &format!("{}/{primary_key}", metadata.entity()),
        time: metadata.timestamp().filter(|timestamp| is_rfc3339(timestamp)),
        datacontenttype: JSON,
    };
    #[expect(clippy::expect_used, reason = "strings with fixed keys always serialize")]
    let mut envelope = serde_json::to_string(&attributes).expect("strings with fixed keys always serialize");
    // The body may contain JSON escapes of these characters. SQS rejects the characters themselves.
    if !envelope.chars().all(is_sqs_char) {
        envelope = envelope.replace('\u{FFFE}', r"\ufffe").replace('\u{FFFF}', r"\uffff");
    }
    [&envelope[..envelope.len() - 1], DATA, data, "}"].concat()
}

/// A received CloudEvents event.
#[derive(Deserialize)]
pub(crate) struct CloudEvent<'m> {
    #[serde(rename = "specversion")]
    _specversion: String,
    #[serde(borrow)]
    data: &'m RawValue,
}

impl<'m> CloudEvent<'m> {
    /// Parses an event, or returns `None` if the text is not a CloudEvents event with data.
    pub(crate) fn parse(text: &'m str) -> Option<Self> {
        serde_json::from_str(without_bom(text)).ok()
    }

    /// The JSON document in `data`.
    pub(crate) fn data(&self) -> &'m str {
        self.data.get()
    }
}

/// Returns the text of an event's `data`: from the first `,"data":` to the last `}`, including whitespace. `None` if the
/// event was not written by [`event`].
pub(crate) fn signed_data(text: &str) -> Option<&str> {
    // A JSON string cannot contain the separator, because its quotation marks would be escaped.
    text.split_once(DATA)?.1.strip_suffix('}')
}

/// The characters to percent-encode in a URN's namespace-specific string: all but RFC 8141's `pchar`.
const URN_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Returns the `source` of a tenant's events.
fn source(tenant: Option<&str>) -> String {
    match tenant {
        Some(tenant) => format!("urn:superoffice:{}", utf8_percent_encode(tenant, URN_ESCAPED)),
        None => "urn:superoffice:onsite".to_owned(),
    }
}

/// Returns `true` if the text is an RFC 3339 timestamp from year 1 on, without a leap second.
///
/// jiff does not see the fraction and the offset. It parses nine digits at most, and no time in the last hours of 9999.
fn is_rfc3339(text: &str) -> bool {
    let Some((date_time, rest)) = text.split_at_checked(19) else { return false };
    let is_digit = |c: char| c.is_ascii_digit();
    let fraction = rest.strip_prefix('.').filter(|fraction| fraction.starts_with(is_digit));
    let offset = fraction.map_or(rest, |fraction| fraction.trim_start_matches(is_digit));
    let is_offset = match offset.strip_prefix(['+', '-']) {
        Some(time) => is_canonical::<civil::Time>(&format!("{time}:00")),
        None => offset.eq_ignore_ascii_case("Z"),
    };
    is_offset && is_canonical::<civil::DateTime>(date_time) && !date_time.starts_with("0000")
}

/// Returns `true` if jiff would write the text. jiff parses more, for example leap seconds and other separators.
fn is_canonical<T: FromStr + ToString>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|parsed| parsed.to_string().eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_a_urn() {
        for (tenant, expected) in [
            (Some("Cust1234"), "urn:superoffice:Cust1234"),
            (Some("Default"), "urn:superoffice:Default"),
            (Some("a b/ø%?#"), "urn:superoffice:a%20b%2F%C3%B8%25%3F%23"),
            (Some("a:b@c-d.e_f~"), "urn:superoffice:a:b@c-d.e_f~"),
            (None, "urn:superoffice:onsite"),
        ] {
            assert_eq!(source(tenant), expected);
        }
    }

    #[test]
    fn only_rfc_3339_is_accepted() {
        for (text, accepted) in [
            ("2018-04-24T07:50:50.6812131Z", true),
            ("2018-04-24T07:50:50Z", true),
            ("2018-04-24T07:50:50.1234567890123456789Z", true),
            ("2018-04-24t07:50:50z", true),
            ("2025-05-14T10:48:07.8912039+02:00", true),
            ("2024-02-29T00:00:00-00:30", true),
            ("2016-12-31T23:59:60Z", false),
            ("0000-12-31T23:59:59Z", false),
            ("0001-01-01T00:00:00Z", true),
            ("-001-01-01T00:00:00Z", false),
            ("+002018-04-24T07:50:50Z", false),
            ("2018-04-24T07:50:5Z", false),
            ("9999-12-31T23:59:59.9999999Z", true),
            ("0001-01-01T00:00:00+23:59", true),
            ("2020-02-16T17:50:17", false),
            ("2018-04-24 07:50:50Z", false),
            ("2018-04-24T07:50Z", false),
            ("2018-04-24T07:50:50.Z", false),
            ("2018-04-24T07:50:50+0200", false),
            ("2018-04-24T07:50:50+02:00[Europe/Oslo]", false),
            ("2018-04-24T07:50:50+24:00", false),
            ("2018-04-24T07:50:50+02:60", false),
            ("2018-04-24T07:50:50+02", false),
            ("2018-04-24T07:50:50+02:00:00", false),
            ("2018-04-24T07:50:50.1+", false),
            ("2018-02-30T07:50:50Z", false),
            ("2018-04-24T24:00:00Z", false),
            ("24.04.2018", false),
            ("", false),
            ("2018-04-24T07:50:50.681213æ", false),
        ] {
            assert_eq!(is_rfc3339(text), accepted, "{text}");
        }
    }
}
