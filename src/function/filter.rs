//! The selection of events to forward.

use std::str::FromStr;

/// A list of event names and prefixes: `contact.*`, or `contact.created,person.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl EventFilter {
    /// Returns `true` if an event of this name is forwarded. Letter case is ignored.
    pub fn matches(&self, event: &str) -> bool {
        let event = event.to_lowercase();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => event == *name,
            Pattern::Prefix(prefix) => event.starts_with(prefix.as_str()),
        })
    }
}

impl Default for EventFilter {
    /// Returns `contact.*`.
    fn default() -> Self {
        Self { patterns: vec![Pattern::Prefix("contact.".to_owned())] }
    }
}

/// An invalid list of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A pattern contains `*` before its end.
    #[error("`*` is only allowed at the end of a pattern: {0}")]
    MisplacedStar(String),
    /// The list contains only commas and whitespace.
    #[error("expected at least one event name")]
    Empty,
}

impl FromStr for EventFilter {
    type Err = FilterError;

    fn from_str(list: &str) -> Result<Self, FilterError> {
        let mut patterns = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let prefix = name.strip_suffix('*');
            if prefix.unwrap_or(name).contains('*') {
                return Err(FilterError::MisplacedStar(name.to_owned()));
            }
            patterns.push(match prefix {
                Some(prefix) => Pattern::Prefix(prefix.to_lowercase()),
                None => Pattern::Exact(name.to_lowercase()),
            });
        }
        if patterns.is_empty() { Err(FilterError::Empty) } else { Ok(Self { patterns }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_contact_events() {
        let filter = EventFilter::default();
        for (event, matches) in [
            ("contact.created", true),
            ("Contact.SoftDeleted", true),
            ("contactx.created", false),
            ("person.created", false),
        ] {
            assert_eq!(filter.matches(event), matches, "{event}");
        }
    }

    #[test]
    fn list_contains_names_and_prefixes_in_any_case() {
        let filter: EventFilter = " Contact.Deleted , person.*,,sale* ".parse().unwrap();
        for (event, matches) in [
            ("contact.deleted", true),
            ("contact.created", false),
            ("PERSON.changed", true),
            ("person", false),
            ("sale", true),
            ("saleshistory.created", true),
        ] {
            assert_eq!(filter.matches(event), matches, "{event}");
        }
        assert!("*".parse::<EventFilter>().unwrap().matches("anything"));
    }

    #[test]
    fn invalid_list_is_an_error() {
        for (list, error) in [
            (" , ", "expected at least one event name"),
            ("*.created", "`*` is only allowed at the end of a pattern: *.created"),
            ("contact.**", "`*` is only allowed at the end of a pattern: contact.**"),
        ] {
            assert_eq!(list.parse::<EventFilter>().unwrap_err().to_string(), error);
        }
    }
}
