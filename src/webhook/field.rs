//! The fields of a body, kept as written and converted when they are read.
//!
//! SuperOffice may send a number as a string, a value of an extra table as a tagged string like `[I:6]`, and a date
//! with or without an offset. A value therefore stays JSON until a type is requested.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;

use crate::webhook::json::{self, JsonError, for_each_field};

/// The fields of a JSON object, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, FieldValue)>);

impl Fields {
    /// Parses a JSON object. A byte order mark before it is ignored.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if the text is not a JSON object.
    pub fn parse(json: &[u8]) -> Result<Self, JsonError> {
        let mut fields = Vec::new();
        for_each_field(json, |name, value| fields.push((name.to_owned(), FieldValue(value.into()))))?;
        Ok(Self(fields))
    }

    /// Returns the value of a field. If the field is repeated, its last value counts.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Returns the value of a field. The letter case of its name is ignored. If the field is repeated, its last value
    /// counts.
    pub fn get_ignore_case(&self, name: &str) -> Option<&FieldValue> {
        get_ignore_case(self.iter(), name)
    }

    /// Returns the value of a column. SuperOffice writes the names of columns inconsistently, so the name may differ in
    /// letter case and underscores: `associateId` is found as `associate_id`. The exact name precedes another letter
    /// case, which precedes other underscores. `None` if several columns match in the same way.
    pub fn column(&self, name: &str) -> Option<&FieldValue> {
        self.get(name)
            .or_else(|| self.only(|field| field.eq_ignore_ascii_case(name)))
            .or_else(|| self.only(|field| is_same_column(field, name)))
    }

    /// Returns the value of the only name that matches.
    fn only(&self, matches: impl Fn(&str) -> bool) -> Option<&FieldValue> {
        let (name, value) = self.iter().rev().find(|(field, _)| matches(field))?;
        self.iter().all(|(field, _)| field == name || !matches(field)).then_some(value)
    }

    /// Iterates over all fields, including repeated ones.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &FieldValue)> {
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

/// Returns `true` if two names of a column differ at most in letter case and underscores.
pub(crate) fn is_same_column(name: &str, other: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = char> {
        name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase())
    }
    letters(name).eq(letters(other))
}

/// Returns the value of a field, for the fields of any JSON library. The letter case of the name is ignored. If the field
/// is repeated, its last value counts.
pub fn get_ignore_case<N: AsRef<str>, V>(
    fields: impl IntoIterator<Item = (N, V), IntoIter: DoubleEndedIterator>,
    name: &str,
) -> Option<V> {
    fields.into_iter().rev().find(|(field, _)| field.as_ref().eq_ignore_ascii_case(name)).map(|(_, value)| value)
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

    /// Returns `true` if the value is one of those that SuperOffice writes for no row and no date: `null`, an empty text,
    /// 0, -1 and `0001-01-01T00:00:00`. In a column that is neither an id nor a date, 0 and -1 are values.
    pub fn is_none(&self) -> bool {
        self.is_null()
            || matches!(self.integer(), Some(0 | -1))
            || self.text().is_some_and(|text| text.is_empty() || matches!(DateTime::parse(&text), Ok(None)))
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
        parse_integer(&self.text_or_json())
    }

    /// The id of a row. `None` for 0 and -1, with which SuperOffice writes that there is no row.
    pub fn id(&self) -> Option<i64> {
        self.integer().filter(|id| !matches!(id, 0 | -1))
    }

    /// A boolean. Accepts `true`, `"true"`, `"True"` and integers: 0 is `false`, any other is `true`.
    pub fn boolean(&self) -> Option<bool> {
        match self.text_or_json().as_ref() {
            "true" | "True" => Some(true),
            "false" | "False" => Some(false),
            text => parse_integer(text).map(|number| number != 0),
        }
    }

    /// A date, in a form that [`DateTime::parse`] accepts.
    pub fn date(&self) -> Option<DateTime> {
        DateTime::parse(&self.text()?).ok()?
    }

    fn text_or_json(&self) -> Cow<'_, str> {
        self.text().map_or(Cow::Borrowed(&*self.0), Cow::Owned)
    }
}

/// Splits a tagged value: `[I:6]` into `I` and `6`.
fn untag(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.strip_suffix(']')?.split_once(':')
}

/// Parses an integer, tagged or not: `21` or `[I:21]`.
pub fn parse_integer(text: &str) -> Option<i64> {
    match untag(text) {
        Some(("I", digits)) => digits.parse().ok(),
        _ => text.parse().ok(),
    }
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

/// A text that is not a date of SuperOffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date: expected ISO 8601, [DT:09/16/2025 14:22:14.0000000] or [D:09/16/2025]")]
pub struct InvalidDate;

impl DateTime {
    /// Parses a date: ISO 8601 with or without an offset or a time (`2025-05-14T10:48:07.8912039+02:00`),
    /// `[DT:09/16/2025 14:22:14.0000000]` or `[D:09/16/2025]`. Returns `None` for .NET's `DateTime.MinValue`
    /// (`0001-01-01T00:00:00`), which means that there is no date.
    ///
    /// # Errors
    ///
    /// [`InvalidDate`]
    ///
    /// ```
    /// use superoffice_webhook::DateTime;
    ///
    /// let date = DateTime::parse("[DT:09/16/2025 14:22:14.0000000]")?.unwrap();
    /// assert_eq!(date.in_utc().unwrap().to_string(), "2025-09-16T14:22:14Z");
    /// assert_eq!(DateTime::parse("0001-01-01T00:00:00Z")?, None);
    /// # Ok::<(), superoffice_webhook::InvalidDate>(())
    /// ```
    pub fn parse(text: &str) -> Result<Option<Self>, InvalidDate> {
        let (date, time, offset) = Self::pieces(text).ok_or(InvalidDate)?;
        let local = date.to_datetime(time.unwrap_or_default());
        if local == civil::datetime(1, 1, 1, 0, 0, 0, 0) {
            return Ok(None);
        }
        Ok(Some(match (time, offset) {
            (None, _) => Self::Date(date),
            (Some(_), None) => Self::Local(local),
            (Some(_), Some(offset)) => Self::PointInTime(offset.to_timestamp(local).map_err(|_| InvalidDate)?),
        }))
    }

    fn pieces(text: &str) -> Option<(civil::Date, Option<civil::Time>, Option<Offset>)> {
        match untag(text) {
            Some(("DT", content)) => {
                let local = civil::DateTime::strptime("%m/%d/%Y %H:%M:%S%.f", content).ok()?;
                Some((local.date(), Some(local.time()), None))
            }
            Some(("D", content)) => Some((civil::Date::strptime("%m/%d/%Y", content).ok()?, None, None)),
            _ => {
                let pieces = Pieces::parse(text).ok()?;
                Some((pieces.date(), pieces.time(), pieces.to_numeric_offset()))
            }
        }
    }

    /// Returns the point in time. A date without an offset is read as UTC, a date without a time as midnight. `None` in
    /// the last hours of 9999, which jiff cannot represent.
    pub fn in_utc(self) -> Option<Timestamp> {
        let utc = |local: civil::DateTime| Offset::UTC.to_timestamp(local).ok();
        match self {
            Self::PointInTime(timestamp) => Some(timestamp),
            Self::Local(local) => utc(local),
            Self::Date(date) => utc(date.into()),
        }
    }
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
    fn several_forms_mean_no_value() {
        let none = ["null", r#""""#, "0", "-1", r#""0""#, r#""[I:0]""#, r#""0001-01-01T00:00:00""#];
        for json in none {
            assert!(value(json).is_none(), "{json}");
        }
        for json in ["1", "-2", "false", r#""x""#, "{}", "[]", r#""2025-01-01T00:00:00""#] {
            assert!(!value(json).is_none(), "{json}");
        }
    }

    #[test]
    fn id_is_none_where_there_is_no_row() {
        assert_eq!(
            ["7", r#""21""#, r#""[I:6]""#, "-2"].map(|json| value(json).id()),
            [Some(7), Some(21), Some(6), Some(-2)]
        );
        for json in ["0", "-1", r#""0""#, r#""[I:0]""#, "null", r#""""#] {
            assert_eq!(value(json).id(), None, "{json}");
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
    fn date_is_read_as_utc_in_every_form() {
        for (text, expected) in [
            ("2026-11-24T09:05:07", "2026-11-24T09:05:07Z"),
            ("2026-11-24T09:05:07.0000000", "2026-11-24T09:05:07Z"),
            ("2026-11-24T10:05:07+01:00", "2026-11-24T09:05:07Z"),
            ("2026-11-24T04:05:07-0500", "2026-11-24T09:05:07Z"),
            ("[DT:11/24/2026 09:05:07]", "2026-11-24T09:05:07Z"),
            ("[D:11/24/2026]", "2026-11-24T00:00:00Z"),
            ("2026-11-24", "2026-11-24T00:00:00Z"),
        ] {
            let date = DateTime::parse(text).unwrap().unwrap();
            assert_eq!(date.in_utc(), Some(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(DateTime::parse("9999-12-31T23:59:59").unwrap().unwrap().in_utc(), None);
        assert_eq!(DateTime::parse("yesterday"), Err(InvalidDate));
        assert_eq!(DateTime::parse("[DT:yesterday]"), Err(InvalidDate));
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
