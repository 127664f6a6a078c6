//! The fields of a body, kept as written and converted when they are read.
//!
//! SuperOffice may send a number as a string, a value of an extra table as a tagged string such as `[I:6]`, and a date
//! with or without an offset. A value therefore stays JSON until a type is requested.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil;
use jiff::fmt::temporal::Pieces;

use crate::webhook::json::{self, JsonError, for_each_field};

/// The fields of a JSON object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, FieldValue)>);

impl Fields {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, JsonError> {
        let mut fields = Vec::new();
        for_each_field(json, |name, value| fields.push((name.to_owned(), FieldValue(value.into()))))?;
        Ok(Self(fields))
    }

    /// Returns the value of a field. If the field is repeated, its last value counts.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.last(|field| field == name)
    }

    /// Returns the value of a field, with any letter case of its name. If the field is repeated, its last value counts.
    pub fn get_ignore_case(&self, name: &str) -> Option<&FieldValue> {
        self.last(|field| field.eq_ignore_ascii_case(name))
    }

    fn last(&self, matches: impl Fn(&str) -> bool) -> Option<&FieldValue> {
        self.0.iter().rev().find(|(field, _)| matches(field)).map(|(_, value)| value)
    }

    /// Iterates over all fields, including repeated ones.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The value of a field.
///
/// Accessors return `None` if the value has another type; its JSON stays available in [`FieldValue::json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// The JSON text as written. A number keeps all its digits.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the value is `null`.
    pub fn is_null(&self) -> bool {
        self.json() == "null"
    }

    /// The text of a string.
    pub fn text(&self) -> Option<String> {
        json::string(&self.0)
    }

    /// The texts of an array's strings. Other elements are skipped.
    pub(crate) fn texts(&self) -> Vec<String> {
        let elements: Vec<serde_json::Value> = serde_json::from_str(&self.0).unwrap_or_default();
        elements.iter().filter_map(|element| element.as_str()).map(str::to_owned).collect()
    }

    /// The fields of an object.
    pub fn object(&self) -> Option<Fields> {
        Fields::parse(self.0.as_bytes()).ok()
    }

    /// The tag and content of a tagged string, `("F", "1.5")` for `"[F:1.5]"`.
    ///
    /// Extra tables have tagged values: `I` integer, `F` float, `M` money, `D` date, `DT` date and time, `T` time, `TS`
    /// time span, `B` binary, `A` array of integers.
    pub fn tagged(&self) -> Option<(String, String)> {
        let text = self.text()?;
        let (tag, content) = untag(&text)?;
        Some((tag.to_owned(), content.to_owned()))
    }

    /// An integer: `21`, `"21"` or `"[I:21]"`.
    pub fn integer(&self) -> Option<i64> {
        let text = self.text().map_or(Cow::Borrowed(&*self.0), Cow::Owned);
        match untag(&text) {
            Some(("I", digits)) => digits.parse().ok(),
            _ => text.parse().ok(),
        }
    }

    /// A boolean: `true` or `false`, also as a string or capitalized, or an integer, of which only `0` is false.
    pub fn boolean(&self) -> Option<bool> {
        let text = self.text().map_or(Cow::Borrowed(&*self.0), Cow::Owned);
        match text.as_ref() {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            _ => self.integer().map(|number| number != 0),
        }
    }

    /// A date: ISO 8601, `"[DT:09/16/2025 14:22:14.0000000]"` or `"[D:09/16/2025]"`. .NET's `DateTime.MinValue`
    /// (`0001-01-01T00:00:00`) means that there is no date.
    pub fn date(&self) -> Option<DateTime> {
        let text = self.text()?;
        match untag(&text) {
            Some(("DT", content)) => DateTime::parse_us(content),
            Some(("D", content)) => DateTime::parse_us_date(content),
            _ => DateTime::parse_iso(&text),
        }
    }
}

/// Splits `[I:6]` into `I` and `6`.
fn untag(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')
}

/// A date, with a time and an offset as far as SuperOffice sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DateTime {
    /// With an offset or `Z`.
    PointInTime(Timestamp),
    /// Without an offset. SuperOffice does not document the time zone; samples suggest the server's local time. Convert
    /// it with [`civil::DateTime::to_zoned_datetime`] or [`civil::DateTime::in_tz`].
    Local(civil::DateTime),
    /// Without a time.
    Date(civil::Date),
}

impl DateTime {
    /// Parses `2025-05-14T10:48:07.8912039+02:00`, also without an offset or without a time.
    pub(crate) fn parse_iso(text: &str) -> Option<Self> {
        let pieces = Pieces::parse(text).ok()?;
        let Some(time) = pieces.time() else {
            return Some(Self::Date(pieces.date()));
        };
        let local = non_min(pieces.date().to_datetime(time))?;
        match pieces.to_numeric_offset() {
            Some(offset) => offset.to_timestamp(local).ok().map(Self::PointInTime),
            None => Some(Self::Local(local)),
        }
    }

    /// Parses `09/16/2025 14:22:14.0000000`.
    fn parse_us(text: &str) -> Option<Self> {
        civil::DateTime::strptime("%m/%d/%Y %H:%M:%S%.f", text).ok().and_then(non_min).map(Self::Local)
    }

    /// Parses `09/16/2025`.
    fn parse_us_date(text: &str) -> Option<Self> {
        let date = civil::Date::strptime("%m/%d/%Y", text).ok()?;
        non_min(date.at(0, 0, 0, 0)).map(|_| Self::Date(date))
    }
}

/// Filters out .NET's `DateTime.MinValue`, with or without an offset.
fn non_min(date: civil::DateTime) -> Option<civil::DateTime> {
    (date != civil::datetime(1, 1, 1, 0, 0, 0, 0)).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> FieldValue {
        let fields = Fields::parse(format!("{{\"f\":{json}}}").as_bytes()).unwrap();
        fields.get("f").unwrap().clone()
    }

    fn local(text: &str) -> Option<DateTime> {
        Some(DateTime::Local(text.parse().unwrap()))
    }

    fn point_in_time(text: &str) -> Option<DateTime> {
        Some(DateTime::PointInTime(text.parse().unwrap()))
    }

    #[test]
    fn value_keeps_its_json_text() {
        for json in ["1.10", "123456789012345678901234567890", "1E400", r#""\u00e9""#, r#"{ "a" : [1 ] }"#, "null"] {
            assert_eq!(value(json).json(), json);
        }
    }

    #[test]
    fn integer_may_be_a_string_or_tagged() {
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
    fn boolean_may_be_a_number_or_a_string() {
        for json in ["true", "1", r#""True""#, r#""1""#, r#""[I:1]""#] {
            assert_eq!(value(json).boolean(), Some(true), "{json}");
        }
        for json in ["false", "0", r#""False""#, r#""[I:0]""#] {
            assert_eq!(value(json).boolean(), Some(false), "{json}");
        }
        assert_eq!(value("null").boolean(), None);
    }

    #[test]
    fn date_without_offset_is_local() {
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
    fn date_without_time_is_a_date() {
        let date = Some(DateTime::Date(civil::date(2025, 9, 16)));
        for json in [r#""[D:09/16/2025]""#, r#""2025-09-16""#] {
            assert_eq!(value(json).date(), date, "{json}");
        }
    }

    #[test]
    fn tagged_value_is_split() {
        let tagged = |json| value(json).tagged().map(|(tag, content)| format!("{tag} {content}"));
        assert_eq!(tagged(r#""[F:1.5]""#).as_deref(), Some("F 1.5"));
        assert_eq!(tagged(r#""[TS:00:30:00]""#).as_deref(), Some("TS 00:30:00"));
        for json in [r#""F:1.5""#, r#""[1.5]""#, "1.5", r#"["a:b"]"#] {
            assert_eq!(tagged(json), None, "{json}");
        }
    }

    #[test]
    fn dotnet_min_value_is_no_date() {
        for text in [
            "0001-01-01T00:00:00",
            "0001-01-01T00:00:00.0000000",
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "[DT:01/01/0001 00:00:00.0000000]",
            "[D:01/01/0001]",
        ] {
            assert_eq!(value(&format!("\"{text}\"")).date(), None, "{text}");
        }
        assert_eq!(value(r#""0001-01-02T00:00:00""#).date(), local("0001-01-02T00:00:00"));
    }

    #[test]
    fn invalid_date_is_none() {
        for json in [
            "null",
            "20200216",
            r#""""#,
            r#""2020-02-30T00:00:00""#,
            r#""16.02.2020 17:50""#,
            r#""9999-12-31T23:59:59-05:00""#,
            r#""[DT:2020-02-16T17:50:17]""#,
            r#""[D:2020-02-16]""#,
            r#""[T:17:50:17]""#,
        ] {
            assert_eq!(value(json).date(), None, "{json}");
        }
    }

    #[test]
    fn repeated_field_last_value_counts_and_all_are_kept() {
        let fields = Fields::parse(br#"{"a":1,"b":2,"a":3,"\ud800":4}"#).unwrap();
        assert_eq!(fields.get("a").unwrap().json(), "3");
        assert_eq!(fields.get("A"), None);
        assert_eq!(fields.get_ignore_case("A").unwrap().json(), "3");
        assert_eq!((fields.len(), fields.is_empty()), (4, false));
        let values: Vec<_> = fields.iter().map(|(_, value)| value.json()).collect();
        assert_eq!(values, ["1", "2", "3", "4"]);
    }
}
