//! The fields of a JSON object, exactly as written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

/// A document that is not a JSON object. The error text never quotes the document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The document is not UTF-8; the offset is in bytes.
    #[error("not UTF-8: invalid byte at offset {0}")]
    NotUtf8(usize),
    /// The document has another Unicode encoding, named here.
    #[error("not UTF-8: encoded as {0}")]
    OtherEncoding(&'static str),
    /// The document is not JSON.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The document is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Calls `visit` with the name and the JSON text of each field, in order. Duplicate fields are visited each time. A byte
/// order mark before the document is ignored.
///
/// SuperOffice adds fields and changes their types over time, so only the syntax is checked here.
pub(crate) fn for_each_field(json: &[u8], visit: impl FnMut(&str, &str)) -> Result<(), JsonError> {
    visit_fields(json, visit).map_err(|error| other_encoding(json).map_or(error, JsonError::OtherEncoding))
}

fn visit_fields(json: &[u8], visit: impl FnMut(&str, &str)) -> Result<(), JsonError> {
    let text = std::str::from_utf8(json).map_err(|error| JsonError::NotUtf8(error.valid_up_to()))?;
    let mut deserializer = serde_json::Deserializer::from_str(without_bom(text));
    FieldVisitor(visit).deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| {
        match error.classify() {
            // The text of a data error quotes the value.
            Category::Data => JsonError::NotAnObject,
            _ => JsonError::NotJson(error),
        }
    })
}

/// Returns a text without a byte order mark before it.
pub(crate) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{FEFF}').unwrap_or(text)
}

/// Returns the Unicode encoding of a document that is not JSON in UTF-8.
///
/// The first bytes are a byte order mark, or two ASCII characters: JSON objects begin with two.
fn other_encoding(json: &[u8]) -> Option<&'static str> {
    match json {
        [0xFF, 0xFE, 0, 0, ..] | [1..=0xFF, 0, 0, 0, ..] => Some("UTF-32LE"),
        [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, 1..=0xFF, ..] => Some("UTF-32BE"),
        [0xFF, 0xFE, ..] | [1..=0xFF, 0, 1..=0xFF, 0, ..] => Some("UTF-16LE"),
        [0xFE, 0xFF, ..] | [0, 1..=0xFF, 0, 1..=0xFF, ..] => Some("UTF-16BE"),
        _ => None,
    }
}

struct FieldVisitor<F>(F);

impl<'de, F: FnMut(&str, &str)> DeserializeSeed<'de> for FieldVisitor<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for FieldVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            (self.0)(&field_name(name), value.get());
        }
        Ok(())
    }
}

/// Decodes an object key. A key with a lone surrogate, which `String` cannot represent, is kept in escaped form so that
/// it does not fail the whole document.
fn field_name(key: &RawValue) -> Cow<'_, str> {
    let quoted = key.get();
    let escaped = &quoted[1..quoted.len() - 1];
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped);
    }
    serde_json::from_str(quoted).map_or(Cow::Borrowed(escaped), Cow::Owned)
}

/// Returns the text of a JSON string, or `None` for any other value.
pub(crate) fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        for_each_field(json.as_bytes(), |name, value| fields.push((name.to_owned(), value.to_owned())))
            .map_err(|error| error.to_string())?;
        Ok(fields)
    }

    #[test]
    fn values_keep_their_json_text() {
        let pairs = fields(r#"{ "a" : 1.50e3, "b":[ {} ] , "a":"\u00e9","\u0062":null}"#).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "1.50e3"), ("b", "[ {} ]"), ("a", r#""\u00e9""#), ("b", "null")]);
    }

    #[test]
    fn key_with_lone_surrogate_is_kept_in_escaped_form() {
        assert_eq!(fields(r#"{"\ud800":1}"#).unwrap(), [(r"\ud800".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn error_gives_the_position_and_quotes_nothing() {
        for (json, error) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            (r#"{"Event":"a" "b":1}"#, "not JSON: expected `,` or `}` at line 1 column 14"),
            (r#"{"Event":"a",}"#, "not JSON: trailing comma at line 1 column 14"),
            (r#"{"Event":"a"} x"#, "not JSON: trailing characters at line 1 column 15"),
            (r#""hush""#, "not a JSON object"),
            ("[1]", "not a JSON object"),
            (
                "{\"a\u{1}\":1}",
                "not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 3",
            ),
            (
                "{\"a\":\"\t\"}",
                "not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
            ),
        ] {
            assert_eq!(fields(json).unwrap_err(), error, "{json}");
        }
        let error = for_each_field(b"{\"Event\":\"\xff\"}", |_, _| ()).unwrap_err();
        assert_eq!(error.to_string(), "not UTF-8: invalid byte at offset 10");
    }

    #[test]
    fn one_byte_order_mark_is_ignored() {
        assert_eq!(fields("\u{FEFF} {\"a\":1}").unwrap(), [("a".to_owned(), "1".to_owned())]);
        let error = "not JSON: expected value at line 1 column 1";
        for json in ["\u{FEFF}\u{FEFF}{}", " \u{FEFF}{}"] {
            assert!(fields(json).unwrap_err().starts_with("not JSON: expected value at line 1 column "), "{error}");
        }
        let error = for_each_field(b"\xef\xbb\xbf\xff", |_, _| ()).unwrap_err();
        assert_eq!(error.to_string(), "not UTF-8: invalid byte at offset 3");
    }

    #[test]
    fn other_unicode_encoding_is_named() {
        let utf_16: Vec<u16> = "{\"a\":\"北🫐\"}".encode_utf16().collect();
        let utf_32: Vec<u32> = "{\"a\":\"北🫐\"}".chars().map(u32::from).collect();
        for (name, mark, document) in [
            ("UTF-16LE", &b"\xff\xfe"[..], utf_16.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<_>>()),
            ("UTF-16BE", b"\xfe\xff", utf_16.iter().flat_map(|unit| unit.to_be_bytes()).collect()),
            ("UTF-32LE", b"\xff\xfe\0\0", utf_32.iter().flat_map(|unit| unit.to_le_bytes()).collect()),
            ("UTF-32BE", b"\0\0\xfe\xff", utf_32.iter().flat_map(|unit| unit.to_be_bytes()).collect()),
        ] {
            for document in [mark.to_vec(), document.clone(), [mark, &document].concat()] {
                let error = for_each_field(&document, |_, _| ()).unwrap_err();
                assert_eq!(error.to_string(), format!("not UTF-8: encoded as {name}"), "{document:?}");
            }
        }
        for document in [&b""[..], b"\0", b"[\0]", b"nul\0", b"\0\0\0\0", b"\0\x01\x02\x03", b"\xef\xbb"] {
            assert_eq!(other_encoding(document), None, "{document:?}");
        }
    }

    #[test]
    fn deeply_nested_values_are_accepted() {
        let json = format!(r#"{{"x":{}{},"Event":"contact.changed"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(fields(&json).unwrap().len(), 2);
    }
}
