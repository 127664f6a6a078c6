//! The state of an audit: its position, and the results of earlier audits.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::row::next_version;
use crate::table::{Position, TableError};

/// The time after which a failed audit is repeated.
const AFTER_FAILURE: SignedDuration = SignedDuration::from_hours(1);

/// The state of an audit of a tenant's records of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The audit in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The time of the first run that saw the tenant.
    pub first_run: Timestamp,
    /// The time of the last turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advanced: Option<Timestamp>,
    /// The time at which the last audit ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The last audit that ended has failed.
    #[serde(default)]
    pub failed: bool,
    /// An audit has reached the end of the list, so the table was filled.
    #[serde(default)]
    pub filled: bool,
    /// The time at which the last audit without failures ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
}

/// An audit in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// The last id that was handled.
    pub after: i64,
    /// The last id of the pages that were left. The next page begins after it, and is judged as a whole, even if an
    /// interruption has left only a part of it to be handled.
    #[serde(default)]
    pub page_after: i64,
    /// The time at which the audit has reached the page.
    #[serde(default)]
    pub reached: Option<Timestamp>,
    /// The number of records that failed.
    #[serde(default)]
    pub failures: u64,
    /// The brake was applied: no row is removed.
    #[serde(default)]
    pub braked: bool,
    /// The brake is off.
    #[serde(default)]
    pub may_remove: bool,
    /// Someone asked for this audit, so that it continues even if scheduled audits are turned off.
    #[serde(default)]
    pub requested: bool,
}

impl State {
    /// The state of a tenant that was not audited yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            running: None,
            first_run: now,
            advanced: None,
            ended: None,
            failed: false,
            filled: false,
            completed: None,
        }
    }

    /// Reads the state from the table.
    ///
    /// # Errors
    ///
    /// [`TableError::Unreadable`] if the text is another one than this program writes.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        serde_json::from_str(text).map_err(|_| TableError::Unreadable)
    }

    /// Returns the position that follows the version `previous`.
    pub fn position(&self, previous: Option<i64>, now: Timestamp) -> Position {
        #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialize")]
        let state = serde_json::to_string(self).expect("structs of strings and numbers always serialize");
        Position { state, version: next_version(previous, now) }
    }

    /// Returns the state at the beginning of an audit that someone asked for.
    #[must_use]
    pub fn requested(self, now: Timestamp, may_remove: bool) -> Self {
        let running = Running { may_remove, requested: true, reached: Some(now), ..Running::default() };
        Self { running: Some(running), advanced: Some(now), ..self }
    }

    /// Returns `true` if an audit is in progress or begins now. `hours` is the time between two audits; with 0, an audit
    /// begins and continues only if someone asked for it.
    pub fn is_due(&self, hours: u32, now: Timestamp) -> bool {
        match (&self.running, self.ended) {
            (Some(running), _) => hours > 0 || running.requested,
            (None, _) if hours == 0 => false,
            (None, None) => true,
            (None, Some(ended)) => {
                let pause = SignedDuration::from_hours(hours.into());
                now.duration_since(ended) >= if self.failed { pause.min(AFTER_FAILURE) } else { pause }
            }
        }
    }

    /// Ends the audit in progress. Returns `true` if it has reached the end of the list, and nothing failed or was
    /// withheld.
    pub fn end(&mut self, has_reached_end: bool, now: Timestamp) -> bool {
        let running = self.running.take().unwrap_or_default();
        let is_complete = has_reached_end && running.failures == 0 && !running.braked;
        self.ended = Some(now);
        self.failed = !is_complete;
        self.filled |= has_reached_end;
        if is_complete {
            self.completed = Some(now);
        }
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        "2026-11-24T09:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
    }

    #[test]
    fn audit_is_due_after_its_time_and_an_hour_after_a_failure() {
        let new = State::new(at(0));
        let running = State { running: Some(Running::default()), ..new.clone() };
        let requested = new.clone().requested(at(0), false);
        let ended = State { ended: Some(at(0)), ..new.clone() };
        let failed = State { failed: true, ..ended.clone() };
        let almost = |hours| at(hours) - SignedDuration::from_secs(1);
        for (state, hours, now, expected) in [
            (&new, 24, at(0), true),
            (&new, 0, at(0), false),
            (&running, 24, at(0), true),
            (&running, 0, at(0), false),
            (&requested, 0, at(0), true),
            (&requested, 24, at(0), true),
            (&ended, 24, almost(24), false),
            (&ended, 24, at(24), true),
            (&ended, 1, almost(1), false),
            (&ended, 1, at(1), true),
            (&ended, 0, at(240), false),
            (&failed, 24, almost(1), false),
            (&failed, 24, at(1), true),
            (&failed, 0, at(1), false),
        ] {
            assert_eq!(state.is_due(hours, now), expected, "{state:?} {hours} {now}");
        }
    }

    #[test]
    fn audit_is_complete_if_it_reached_the_end_and_nothing_failed_or_was_withheld() {
        for (failures, braked, has_reached_end, expected) in
            [(0, false, true, true), (1, false, true, false), (0, true, true, false), (0, false, false, false)]
        {
            let mut state = State { completed: Some(at(-24)), ..State::new(at(-48)) };
            state.running = Some(Running { after: 7, failures, braked, ..Running::default() });
            assert_eq!(state.end(has_reached_end, at(0)), expected);
            let completed = if expected { at(0) } else { at(-24) };
            assert_eq!((state.completed, state.ended), (Some(completed), Some(at(0))));
            assert_eq!((state.failed, state.filled, &state.running), (!expected, has_reached_end, &None));
            // The table stays filled.
            state.end(false, at(1));
            assert_eq!(state.filled, has_reached_end);
        }
    }

    #[test]
    fn state_is_read_as_it_was_written() {
        let state = State::new(at(0));
        let position = state.position(None, at(1));
        assert_eq!(position.state, r#"{"firstRun":"2026-11-24T09:00:00Z","failed":false,"filled":false}"#);
        assert_eq!(position.version, at(1).as_millisecond());
        assert_eq!(State::parse(&position.state), Ok(state.clone()));
        let state = State { completed: Some(at(2)), ..state.requested(at(3), true) };
        let position = state.position(Some(i64::MAX - 1), at(1));
        assert_eq!((State::parse(&position.state), position.version), (Ok(state), i64::MAX));
        assert_eq!(State::parse("{}"), Err(TableError::Unreadable));
    }
}
