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

/// Replaces each of the secrets in a text that comes from elsewhere.
pub fn redact<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Sensitive>) -> String {
    let mut secrets: Vec<&Sensitive> = secrets.into_iter().filter(|secret| !secret.0.is_empty()).collect();
    // A secret may begin with another secret, whose replacement would leave the rest.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
    secrets.into_iter().fold(text.to_owned(), |text, secret| text.replace(&secret.0, "(secret)"))
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
}
