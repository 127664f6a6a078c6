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
            let name = name.to_lowercase();
            let (name, is_prefix) = match name.strip_suffix('*') {
                Some(prefix) => (prefix.to_owned(), true),
                None => (name, false),
            };
            if name.contains('*') {
                return Err(FilterError::MisplacedStar(name));
            }
            patterns.push(if is_prefix { Pattern::StartsWith(name) } else { Pattern::Exactly(name) });
        }
        if patterns.is_empty() { Err(FilterError::Empty) } else { Ok(Self { patterns }) }
    }
}
