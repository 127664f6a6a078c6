//! Environment variables, read with all problems reported together. One reader for every program of this workspace.

use std::fmt;

/// A reader of environment variables that collects problems. An empty value counts as unset.
pub struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<(&'static str, String)>,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("problems", &self.problems).finish_non_exhaustive()
    }
}

impl<'a> Environment<'a> {
    /// Creates a reader that looks variables up with `lookup`.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    /// Returns the value of an optional variable.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Returns `true` if the variable is set.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the value of a required variable. A missing value is a problem.
    pub fn required(&mut self, name: &'static str) -> Option<String> {
        let value = self.get(name);
        if value.is_none() {
            self.problem(name, "not set");
        }
        value
    }

    /// Returns the parsed value of an optional variable, or `None` if it is not set or has a problem.
    pub fn parse<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(&self.get(name)?).map_err(|error| self.problem(name, error)).ok()
    }

    /// Adds a problem of a variable. The text must not contain a secret.
    pub fn problem(&mut self, name: &'static str, problem: impl fmt::Display) {
        self.problems.push((name, problem.to_string()));
    }

    /// Returns what was read from several variables, or adds their problems.
    pub fn accept<T>(&mut self, read: Result<T, Vec<(&'static str, String)>>) -> Option<T> {
        read.map_err(|problems| self.problems.extend(problems)).ok()
    }

    /// Replaces the problems of `name` by their cause, a problem of another variable.
    pub fn replace_problems(&mut self, name: &str, cause: &'static str, problem: impl fmt::Display) {
        self.problems.retain(|(variable, _)| *variable != name);
        self.problem(cause, problem);
    }

    /// Returns `true` if the variable has a problem.
    pub fn has_problem(&self, name: &str) -> bool {
        self.problems.iter().any(|(variable, _)| *variable == name)
    }

    /// Returns the value if there is no problem. It may be `None` only if there is one.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigError { problems: self.problems }),
        }
    }
}

/// An invalid configuration, with every problem and its variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<(&'static str, String)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        for (variable, problem) in &self.problems {
            write!(f, "\n  {variable}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        [("NUMBER", "7"), ("WORD", "seven"), ("EMPTY", "")]
            .into_iter()
            .find_map(|(variable, value)| (variable == name).then(|| value.to_owned()))
    }

    #[test]
    fn value_without_problems_is_returned() {
        let mut env = Environment::new(&lookup);
        let number = env.parse("NUMBER", str::parse::<u32>);
        assert_eq!(env.parse("MISSING", str::parse::<u32>), None);
        assert!(!env.is_set("EMPTY"));
        assert_eq!(env.finish(number), Ok(7));
    }

    #[test]
    fn all_problems_are_reported_together() {
        let mut env = Environment::new(&lookup);
        env.parse("WORD", str::parse::<u32>);
        env.required("EMPTY");
        env.required("MISSING");
        env.replace_problems("MISSING", "MISSING_FILE", "empty");
        assert!(env.has_problem("WORD") && !env.has_problem("NUMBER"));
        assert_eq!(
            format!("{env:?}"),
            r#"Environment { problems: [("WORD", "invalid digit found in string"), ("EMPTY", "not set"), ("MISSING_FILE", "empty")], .. }"#
        );
        assert_eq!(
            env.finish(Some(())).unwrap_err().to_string(),
            "invalid configuration:\n  WORD: invalid digit found in string\n  EMPTY: not set\n  MISSING_FILE: empty"
        );
    }
}
