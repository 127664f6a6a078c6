//! Times in requests and answers: the header `SO-TimeZone`, and HTTP dates.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use serde_json::{Value, json};

use crate::error::Refusal;
use crate::mode::{Mode, Zones};

/// The form of times in a request and its response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    offset: Offset,
    has_offsets: bool,
}

impl Times {
    /// Reads `SO-TimeZone: UTC, includeTZOffset`. Zones other than UTC stand for the server's base zone.
    pub(crate) fn requested(header: &str, mode: &Mode) -> Result<Self, Refusal> {
        let base = Self::base(mode);
        if mode.zones == Zones::Ignored {
            return Ok(base);
        }
        let has = |name: &str| header.split(',').any(|part| part.trim().eq_ignore_ascii_case(name));
        let has_offsets = has("includeTZOffset");
        if has_offsets && mode.zones == Zones::OffsetsRefused {
            return Err(Refusal::argument(format!("The time zone '{header}' is unknown")));
        }
        Ok(Self { offset: if has("UTC") { Offset::UTC } else { base.offset }, has_offsets })
    }

    /// The server's base zone, without offsets.
    pub(crate) fn base(mode: &Mode) -> Self {
        Self { offset: Offset::constant(mode.base_zone), has_offsets: false }
    }

    /// Writes a time. SuperOffice has no date for what never happened.
    pub(crate) fn write(&self, time: Option<Timestamp>) -> Value {
        let Some(time) = time else { return json!("0001-01-01T00:00:00") };
        let text = self.offset.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        if !self.has_offsets {
            return json!(text);
        }
        if self.offset == Offset::UTC { json!(format!("{text}Z")) } else { json!(format!("{text}{}:00", self.offset)) }
    }

    /// Reads a time of a filter, which may have an offset.
    pub(crate) fn read(&self, text: &str) -> Option<Timestamp> {
        text.parse().ok().or_else(|| self.offset.to_timestamp(text.parse::<DateTime>().ok()?).ok())
    }

    /// Returns the day of a time.
    pub(crate) fn day(&self, time: Timestamp) -> Date {
        self.offset.to_datetime(time).date()
    }
}

/// Writes the time of an event, with seven fractional digits.
pub(crate) fn event_time(time: Timestamp) -> Value {
    json!(time.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string())
}

/// The format of dates in HTTP headers.
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

pub(crate) fn http_date(time: Timestamp) -> String {
    time.strftime(HTTP_DATE).to_string()
}

pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    Offset::UTC.to_timestamp(DateTime::strptime(HTTP_DATE, text).ok()?).ok()
}
