//! The secrets that no message contains.

use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};

/// The secrets that are replaced in texts from elsewhere.
#[derive(Default)]
pub(crate) struct Redactor(Mutex<Vec<SecretString>>);

impl Redactor {
    /// Adds secrets.
    pub(crate) fn hide<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets {
            if !secret.is_empty() && !known.iter().any(|known| known.expose_secret() == secret) {
                known.push(secret.into());
            }
        }
        // A secret may begin with another secret, whose replacement would leave the rest.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    }

    /// Replaces each of the secrets, which the text may contain with JSON escapes.
    pub(crate) fn redact(&self, text: &str) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().fold(text.to_owned(), |text, secret| redact_one(&text, secret.expose_secret()))
    }
}

fn redact_one(text: &str, secret: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(secret).or_else(|| strip_escaped(rest, secret)) {
            redacted.push_str("(secret)");
            rest = after;
        } else {
            redacted.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    redacted
}

/// Returns the rest of a text that begins with a secret. JSON encoders differ in the characters that they escape.
fn strip_escaped<'a>(text: &'a str, secret: &str) -> Option<&'a str> {
    secret.chars().try_fold(text, |text, expected| {
        let (found, rest) = split_json_char(text)?;
        (found == expected).then_some(rest)
    })
}

/// Splits off the first character of the content of a JSON string, which may be an escape.
fn split_json_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    match chars.next()? {
        // `\n`, `\u002b`, or the two halves of a character beyond U+FFFF.
        '\\' => [2, 6, 12].into_iter().find_map(|length| {
            let (escape, rest) = text.split_at_checked(length)?;
            Some((serde_json::from_str(&format!("\"{escape}\"")).ok()?, rest))
        }),
        literal => Some((literal, chars.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor<const N: usize>(secrets: [&str; N]) -> Redactor {
        let redactor = Redactor::default();
        redactor.hide(secrets);
        redactor
    }

    #[test]
    fn every_secret_is_replaced() {
        let redactor = redactor(["one", "", "two", "one-and-two"]);
        assert_eq!(redactor.redact("one, two and one-and-two"), "(secret), (secret) and (secret)");
    }

    #[test]
    fn secrets_with_json_escapes_are_replaced() {
        let secret = "hu\"sh\\\u{d8}\t\u{1f511}";
        let redactor = redactor([secret, "a+b/c="]);
        let quoted = serde_json::to_string(secret).unwrap();
        for (text, expected) in [
            (&*format!(r#"{{"Secret":{quoted},"at":"\n"}}"#), r#"{"Secret":"(secret)","at":"\n"}"#),
            (r#""hu\u0022sh\\\u00D8\u0009\uD83D\udd11!""#, r#""(secret)!""#),
            (r#"ø"a\u002Bb\/c\u003d""#, r#"ø"(secret)""#),
            (r"a\u002bb/c", r"a\u002bb/c"),
            (r"\u00", r"\u00"),
            (r"\ud83d", r"\ud83d"),
            // As it is, with a backslash that begins no escape.
            (secret, "(secret)"),
        ] {
            assert_eq!(redactor.redact(text), expected, "{text}");
        }
    }
}
