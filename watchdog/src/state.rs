//! The facts about a tenant that one visit leaves to the next, in the tenant's log line.
//!
//! Each fact remains true: a change that has arrived never gets lost again. So an old state is as valid as the latest
//! one. It only repeats work.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a tenant after a visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// The start of the run that completed the last visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// `true` if the last visit failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_failed: bool,
    /// The time of the last reactivation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reactivated: Option<Timestamp>,
    /// Each change before this time has arrived, is one of `missing`, or belongs to `older`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_until: Option<Timestamp>,
    /// The sweep that the last visit left unfinished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
    /// The end of the log that `missing` was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_until: Option<Timestamp>,
    /// The contacts whose change did not arrive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The window that is compared in pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older: Option<Older>,
}

impl State {
    /// Returns the time before which each change has arrived.
    pub fn arrived_until(&self) -> Option<Timestamp> {
        let older = self.older.iter().flat_map(|older| older.open.iter().map(Missing::at).chain([older.since]));
        let missing = self.missing.iter().map(Missing::at);
        older.chain(missing).chain(self.swept_until).min()
    }
}

/// A contact whose change did not arrive: its key, the time of the change in seconds, and 1 if the contact may no longer
/// exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing(pub i64, pub i64, pub u8);

impl Missing {
    /// Returns the time of the change.
    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_second(self.1).unwrap_or_default()
    }
}

/// A sweep that compared a part of the contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// The last contact that was compared.
    pub after: i64,
    /// The end of the window.
    pub until: Timestamp,
    /// The time of the oldest change that had no room in the list of missing contacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
}

/// A window that is older than what a run reads for all tenants. It is compared by reading the log once from its start
/// to the present, in pieces. If it contains too many contacts, this is repeated for one range of keys after another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Older {
    /// The start of the window.
    pub since: Timestamp,
    /// The end of the window.
    pub until: Timestamp,
    /// The keys up to this one were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// The last key of the range that is being compared; `None` if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
    /// The end of the log that was read for this range.
    pub read_until: Timestamp,
    /// The contacts that changed before `read_until`, and whose change was not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Missing>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn changes_have_arrived_up_to_the_oldest_that_is_missing_or_not_compared() {
        let older = Older { since: time(70), until: time(90), read_until: time(80), ..Older::default() };
        let mut state = State { swept_until: Some(time(100)), ..State::default() };
        assert_eq!((State::default().arrived_until(), state.arrived_until()), (None, Some(time(100))));
        state.missing = vec![Missing(1, 95, 0), Missing(2, 85, 1)];
        assert_eq!(state.arrived_until(), Some(time(85)));
        state.older = Some(older.clone());
        assert_eq!(state.arrived_until(), Some(time(70)));
        state.older = Some(Older { open: vec![Missing(3, 50, 0)], ..older });
        assert_eq!(state.arrived_until(), Some(time(50)));
    }

    #[test]
    fn state_is_short() {
        let state = State { missing: vec![Missing(994_863, 1_795_510_800, 1)], ..State::default() };
        assert_eq!(serde_json::to_string(&state).unwrap(), r#"{"missing":[[994863,1795510800,1]]}"#);
        assert_eq!(serde_json::from_str::<State>(r#"{"missing":[[994863,1795510800,1]],"later":1}"#).unwrap(), state);
    }
}
