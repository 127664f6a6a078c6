//! Points in time as SuperOffice writes them.

/// Whether a text is an RFC 3339 date-time: with `T`, seconds and an offset, and a day that exists.
///
/// jiff reads more than RFC 3339 (other separators, time zone names, no colon in the offset), so the shape is
/// checked first.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    has_rfc3339_shape(text.as_bytes()) && text.parse::<jiff::Timestamp>().is_ok()
}

/// `YYYY-MM-DDThh:mm:ss`, an optional fraction, and `Z` or `±hh:mm`.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let date_time_fits = date_time.iter().zip(b"0000-00-00T00:00:00").all(|(&byte, &shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        _ => byte == shape,
    });
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    let offset_fits = match offset {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) && (*h1, *h2) <= (b'2', b'3') && *m1 <= b'5'
        }
        _ => false,
    };
    date_time_fits && offset_fits
}
