//! Points in time as SuperOffice writes them.

/// Whether a text is an RFC 3339 date-time: with `T`, seconds and an offset, and a day that exists.
///
/// jiff reads more than RFC 3339 (other separators, time zone names, no colon in the offset), so the shape is
/// checked first.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    // Without the fraction, of which jiff reads nine digits at most.
    without_fraction(text).is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
}

/// A text of the shape `YYYY-MM-DDThh:mm:ss`, an optional fraction, and `Z` or `±hh:mm`, without its fraction.
fn without_fraction(text: &str) -> Option<String> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let date_time_fits = date_time.bytes().zip(*b"0000-00-00T00:00:00").all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        _ => byte == shape,
    });
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            (offset.len() < fraction.len()).then_some(offset)?
        }
        None => rest,
    };
    let offset_fits = match offset.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) && (*h1, *h2) <= (b'2', b'3') && *m1 <= b'5'
        }
        _ => false,
    };
    (date_time_fits && offset_fits).then(|| format!("{date_time}{offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rfc_3339_passes() {
        for (text, passes) in [
            ("2018-04-24T07:50:50.6812131Z", true),
            ("2018-04-24T07:50:50Z", true),
            ("2018-04-24T07:50:50.1234567890123456789Z", true),
            ("2018-04-24t07:50:50z", true),
            ("2025-05-14T10:48:07.8912039+02:00", true),
            ("2024-02-29T00:00:00-00:30", true),
            ("2016-12-31T23:59:60Z", true),
            ("2020-02-16T17:50:17", false),
            ("2018-04-24 07:50:50Z", false),
            ("2018-04-24T07:50Z", false),
            ("2018-04-24T07:50:50.Z", false),
            ("2018-04-24T07:50:50+0200", false),
            ("2018-04-24T07:50:50+02:00[Europe/Oslo]", false),
            ("2018-04-24T07:50:50+24:00", false),
            ("2018-02-30T07:50:50Z", false),
            ("2018-04-24T24:00:00Z", false),
            ("24.04.2018", false),
            ("", false),
            ("2018-04-24T07:50:50.681213æ", false),
        ] {
            assert_eq!(is_rfc3339(text), passes, "{text}");
        }
    }
}
