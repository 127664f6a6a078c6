//! Values that are never printed.

use std::fmt;

/// A secret, token or password. Its `Debug` output hides the value, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for a request that has to contain it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(..)")
    }
}

/// Replaces each of the secrets in a text that comes from elsewhere, which may contain them with JSON escapes.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Sensitive>) -> String {
    let mut secrets: Vec<&Sensitive> = secrets.into_iter().filter(|secret| !secret.0.is_empty()).collect();
    // A secret may begin with another secret, whose replacement would leave the rest.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| redact_one(&text, &secret.0))
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

    #[test]
    fn debug_output_hides_the_value() {
        assert_eq!(format!("{:?}", Sensitive::new("hunter2")), "Sensitive(..)");
    }

    #[test]
    fn redact_replaces_every_secret() {
        let secrets = ["one", "", "two", "one-and-two"].map(Sensitive::new);
        assert_eq!(redact("one, two and one-and-two", &secrets), "(secret), (secret) and (secret)");
    }

    #[test]
    fn redact_replaces_secrets_with_json_escapes() {
        let secrets = ["hu\"sh\\\u{d8}\t\u{1f511}", "a+b/c="].map(Sensitive::new);
        let quoted = serde_json::to_string(secrets[0].expose()).unwrap();
        for (text, expected) in [
            (&*format!(r#"{{"Secret":{quoted},"at":"\n"}}"#), r#"{"Secret":"(secret)","at":"\n"}"#),
            (r#""hu\u0022sh\\\u00D8\u0009\uD83D\udd11!""#, r#""(secret)!""#),
            (r#"ø"a\u002Bb\/c\u003d""#, r#"ø"(secret)""#),
            (r"a\u002bb/c", r"a\u002bb/c"),
            (r"\u00", r"\u00"),
            (r"\ud83d", r"\ud83d"),
            // As it is, with a backslash that begins no escape.
            (secrets[0].expose(), "(secret)"),
        ] {
            assert_eq!(redact(text, &secrets), expected, "{text}");
        }
    }
}
