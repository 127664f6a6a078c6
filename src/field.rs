//! Fields of a body as they were written, read into a type when asked for.
//!
//! A number may come as a string, the value of an extra table's field as a tagged string such as `[I:6]`, and a date
//! with or without an offset. So a value stays the JSON that it is until somebody says what it should be.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::civil;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::field_name;
use crate::timestamp::is_rfc3339;

/// The fields of a JSON object, in the order in which they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, FieldValue)>);

impl Fields {
    /// A field by its name as it is written; where it is given twice, the last one counts.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    fields.push((field_name(name).into_owned(), FieldValue(value.get().into())));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A field's value. What it is not, it is read as `None`; what it is stays in [`FieldValue::json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// The value as it was written, in JSON: a number has all its digits.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// The value of a string.
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(&self.0).ok()
    }

    /// An integer: `21`, `"21"` or `"[I:21]"`.
    pub fn integer(&self) -> Option<i64> {
        let content = self.content();
        untagged(&content, "I").unwrap_or(&content).parse().ok()
    }

    /// `true` or `false`; or an integer, of which `0` is `false`.
    pub fn boolean(&self) -> Option<bool> {
        match self.content().as_ref() {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => self.integer().map(|number| number != 0),
        }
    }

    /// A date and time; .NET's `0001-01-01T00:00:00` is none.
    pub fn date(&self) -> Option<DateTime> {
        let text = self.text()?;
        match untagged(&text, "DT") {
            Some(us) => DateTime::from_us(us),
            None => DateTime::from_iso(&text),
        }
    }

    /// A string's text, or the JSON of anything else.
    fn content(&self) -> Cow<'_, str> {
        self.text().map_or(Cow::Borrowed(&self.0), Cow::Owned)
    }
}

/// What stands behind a tag: `6` in `[I:6]`.
fn untagged<'t>(text: &'t str, tag: &str) -> Option<&'t str> {
    text.strip_prefix('[')?.strip_prefix(tag)?.strip_prefix(':')?.strip_suffix(']')
}

/// A date and time, which is a point in time only when it says its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateTime {
    /// With an offset, or `Z`.
    PointInTime(Timestamp),
    /// Without an offset: what a clock showed, in a time zone that the event does not tell. Whoever knows the zone
    /// makes it a point in time with [`civil::DateTime::to_zoned_datetime`] or [`civil::DateTime::in_tz`].
    Local(civil::DateTime),
}

impl DateTime {
    /// Reads `2025-05-14T10:48:07.8912039+02:00`, or the same without an offset.
    fn from_iso(text: &str) -> Option<Self> {
        let date = if is_rfc3339(text) {
            // An offset makes no date of it.
            if is_no_date(text.get(..19)?.parse().ok()?) {
                return None;
            }
            Self::PointInTime(text.parse().ok()?)
        } else if is_rfc3339(&format!("{text}Z")) {
            Self::Local(text.parse().ok()?)
        } else {
            return None;
        };
        date.unless_no_date()
    }

    /// Reads `09/16/2025 14:22:14.0000000`.
    fn from_us(text: &str) -> Option<Self> {
        civil::DateTime::strptime("%m/%d/%Y %H:%M:%S%.f", text).map(Self::Local).ok()?.unless_no_date()
    }

    fn unless_no_date(self) -> Option<Self> {
        match self {
            Self::Local(date) if is_no_date(date) => None,
            date => Some(date),
        }
    }
}

/// Whether this is .NET's `DateTime.MinValue`.
fn is_no_date(date: civil::DateTime) -> bool {
    date == civil::datetime(1, 1, 1, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> FieldValue {
        let fields: Fields = serde_json::from_str(&format!("{{\"f\":{json}}}")).unwrap();
        fields.get("f").unwrap().clone()
    }

    fn local(text: &str) -> Option<DateTime> {
        Some(DateTime::Local(text.parse().unwrap()))
    }

    fn point_in_time(text: &str) -> Option<DateTime> {
        Some(DateTime::PointInTime(text.parse().unwrap()))
    }

    #[test]
    fn values_stay_as_they_were_written() {
        for json in ["1.10", "123456789012345678901234567890", "1E400", r#""\u00e9""#, r#"{ "a" : [1 ] }"#, "null"] {
            assert_eq!(value(json).json(), json);
        }
    }

    #[test]
    fn an_integer_may_come_as_a_string_or_tagged() {
        for json in ["21", r#""21""#, r#""[I:21]""#] {
            assert_eq!(value(json).integer(), Some(21), "{json}");
        }
        assert_eq!(value(r#""[I:-6]""#).integer(), Some(-6));
        for json in
            ["null", "true", "2.5", "[21]", r#""""#, r#""x""#, r#""[F:21]""#, r#""[I:21""#, "9223372036854775808"]
        {
            assert_eq!(value(json).integer(), None, "{json}");
        }
    }

    #[test]
    fn a_boolean_may_come_as_a_number_or_a_string() {
        for json in ["true", "1", r#""True""#, r#""1""#, r#""[I:1]""#] {
            assert_eq!(value(json).boolean(), Some(true), "{json}");
        }
        for json in ["false", "0", r#""False""#, r#""[I:0]""#] {
            assert_eq!(value(json).boolean(), Some(false), "{json}");
        }
        assert_eq!(value("null").boolean(), None);
    }

    #[test]
    fn a_date_without_an_offset_is_not_a_point_in_time() {
        assert_eq!(value(r#""2020-02-16T17:50:17""#).date(), local("2020-02-16T17:50:17"));
        assert_eq!(value(r#""2020-02-16T17:50:17.8912039""#).date(), local("2020-02-16T17:50:17.8912039"));
        assert_eq!(
            value(r#""[DT:09/16/2025 14:22:14.0000000]""#).date(),
            local("2025-09-16T14:22:14"),
            "an extra table's date has no offset either"
        );
        assert_eq!(
            value(r#""2025-05-14T10:48:07.8912039+02:00""#).date(),
            point_in_time("2025-05-14T08:48:07.8912039Z")
        );
        assert_eq!(value(r#""2018-04-24T07:50:50Z""#).date(), point_in_time("2018-04-24T07:50:50Z"));
    }

    #[test]
    fn dotnets_first_day_is_no_date() {
        for text in [
            "0001-01-01T00:00:00",
            "0001-01-01T00:00:00.0000000",
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "[DT:01/01/0001 00:00:00.0000000]",
        ] {
            assert_eq!(value(&format!("\"{text}\"")).date(), None, "{text}");
        }
        assert_eq!(value(r#""0001-01-02T00:00:00""#).date(), local("0001-01-02T00:00:00"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for json in [
            "null",
            "20200216",
            r#""""#,
            r#""2020-02-30T00:00:00""#,
            r#""2020-02-16""#,
            r#""16.02.2020 17:50""#,
            r#""2020-02-16T17:50:17+02""#,
            r#""9999-12-31T23:59:59-05:00""#,
            r#""[DT:2020-02-16T17:50:17]""#,
        ] {
            assert_eq!(value(json).date(), None, "{json}");
        }
    }

    #[test]
    fn of_a_field_given_twice_the_last_counts_and_both_are_there() {
        let fields: Fields = serde_json::from_str(r#"{"a":1,"b":2,"a":3,"\ud800":4}"#).unwrap();
        assert_eq!(fields.get("a").unwrap().json(), "3");
        assert_eq!(fields.get("A"), None);
        assert_eq!((fields.len(), fields.is_empty()), (4, false));
        let values: Vec<_> = fields.iter().map(|(_, value)| value.json()).collect();
        assert_eq!(values, ["1", "2", "3", "4"]);
    }
}
