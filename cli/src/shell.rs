//! Words of a shell.

/// Quotes a text, so that a shell reads it as one word.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns an option with a space before it. The value is quoted if that is necessary.
pub(crate) fn option(name: &str, value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:@/+".contains(c);
    let word = if !value.is_empty() && value.chars().all(is_plain) { value.to_owned() } else { quoted(value) };
    // After a space, a hyphen would begin another option.
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!(" {name}{separator}{word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_one_word_of_the_shell() {
        for (value, expected) in [
            ("Cust1", " --tenant Cust1"),
            ("-Cust1", " --tenant=-Cust1"),
            ("", " --tenant ''"),
            ("two words", " --tenant 'two words'"),
            ("Bob's $(x)", r" --tenant 'Bob'\''s $(x)'"),
            ("æ", " --tenant 'æ'"),
        ] {
            assert_eq!(option("--tenant", value), expected);
        }
    }
}
