//! Which events are forwarded.

use std::str::FromStr;

/// A list of event names and prefixes: `contact.*`, or `contact.created,person.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(String),
    StartsWith(String),
}

impl EventFilter {
    /// Whether an event of this name is forwarded. Case does not matter.
    pub fn matches(&self, event: &str) -> bool {
        let event = event.to_lowercase();
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exactly(name) => event == *name,
            Pattern::StartsWith(prefix) => event.starts_with(prefix.as_str()),
        })
    }
}

impl Default for EventFilter {
    /// `contact.*`.
    fn default() -> Self {
        Self { patterns: vec![Pattern::StartsWith("contact.".to_owned())] }
    }
}

/// Why a list of events is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A `*` does not stand at the end.
    #[error("has a * that does not end a name: {0}")]
    MisplacedStar(String),
    /// There are only commas and white space.
    #[error("names no event")]
    Empty,
}

impl FromStr for EventFilter {
    type Err = FilterError;

    fn from_str(list: &str) -> Result<Self, FilterError> {
        let mut patterns = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let pattern = match name.strip_suffix('*') {
                Some(prefix) => Pattern::StartsWith(prefix.to_lowercase()),
                None => Pattern::Exactly(name.to_lowercase()),
            };
            if name.strip_suffix('*').unwrap_or(name).contains('*') {
                return Err(FilterError::MisplacedStar(name.to_owned()));
            }
            patterns.push(pattern);
        }
        if patterns.is_empty() { Err(FilterError::Empty) } else { Ok(Self { patterns }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_forwarded_when_nothing_is_said() {
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
    fn a_list_has_names_and_prefixes_in_any_case() {
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
    fn a_list_that_means_nothing_is_refused() {
        for (list, error) in [
            (" , ", "names no event"),
            ("*.created", "has a * that does not end a name: *.created"),
            ("contact.**", "has a * that does not end a name: contact.**"),
        ] {
            assert_eq!(list.parse::<EventFilter>().unwrap_err().to_string(), error);
        }
    }
}
