//! The facts about a tenant that one visit leaves to the next, in the tenant's log line.
//!
//! Each fact remains true: a change that has arrived never gets lost again. So an old state is as valid as the latest
//! one. It only repeats work.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use recovery::changes::RecordChange;
use recovery::comparison::Window;
use recovery::record::Record;
use serde::{Deserialize, Serialize};
use superoffice_client::changes::Change;

/// Lines may appear late, so the end of the log that was read is read again.
const READ_AGAIN: SignedDuration = SignedDuration::from_mins(5);

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
    /// The records whose change did not arrive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The window that is compared in pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older: Option<Older>,
}

impl State {
    /// Returns the time before which each change has arrived.
    pub fn arrived_until(&self) -> Option<Timestamp> {
        let unreported = self.older.iter().flat_map(|older| &older.unreported);
        let missing = self.missing.iter().chain(unreported).map(|missing| missing.changed_at);
        missing.chain(self.older.as_ref().map(|older| older.since)).chain(self.swept_until).min()
    }

    /// Returns the start of the log that the next visit needs, if changes are compared with the log from `margin`
    /// earlier.
    pub(crate) fn log_since(&self, margin: SignedDuration) -> Option<Timestamp> {
        let for_changes = self.swept_until.map(|until| before(until, margin));
        for_changes.into_iter().chain(self.log_since_for_missing()).min()
    }

    /// Returns the start of the log that was not compared with the missing records.
    pub(crate) fn log_since_for_missing(&self) -> Option<Timestamp> {
        if self.missing.is_empty() { None } else { self.read_until.map(|until| before(until, READ_AGAIN)) }
    }

    /// Moves the changes of a window and the missing records to the older window, because the log of this run does not
    /// cover them. An unfinished sweep is forgotten: what it compared belongs to the window.
    ///
    /// Changes before `oldest` are forgotten. There is room for a number of missing records: the oldest changes.
    pub(crate) fn set_aside(&mut self, window: Window, margin: SignedDuration, oldest: Timestamp, room: usize) {
        let for_missing = self.log_since_for_missing();
        let mut unreported = by_record(std::mem::take(&mut self.missing));
        let mut since = window.since;
        let mut for_earlier = None;
        if let Some(earlier) = self.older.take() {
            since = since.min(earlier.since);
            for_earlier = Some(earlier.read_until);
            for missing in earlier.unreported {
                unreported.entry(missing.record).or_insert(missing);
            }
        }
        let mut unreported: Vec<Missing> = unreported.into_values().collect();
        unreported.retain(|missing| missing.changed_at >= oldest);
        unreported.sort_by_key(|missing| (missing.changed_at, missing.record));
        let left_out = unreported.split_off(unreported.len().min(room));
        let (mut since, mut until) = (since.max(oldest), window.until);
        // The window includes the changes without room, so that they are listed and compared again.
        if let (Some(first), Some(last)) = (left_out.first(), left_out.last()) {
            since = since.min(first.changed_at);
            until = until.max(after(last.changed_at, SignedDuration::from_secs(1)));
        }
        let for_changes = before(since, margin);
        self.older = Some(Older {
            since,
            until: until.max(since),
            // One reading of the log serves all of them, so it begins where the first of them continues.
            read_until: [for_missing, for_earlier].into_iter().flatten().fold(for_changes, Timestamp::min),
            unreported: by_record(unreported).into_values().collect(),
            ..Older::default()
        });
        self.unfinished = None;
    }

    /// Replaces the missing records, as many as there is room for: contacts before persons, and the oldest changes
    /// first. Returns the time of the oldest change that is left out.
    pub(crate) fn set_missing(&mut self, mut missing: Vec<Missing>, room: usize) -> Option<Timestamp> {
        missing.sort_by_key(|missing| (missing.record.entity_order(), missing.changed_at, missing.record));
        let left_out = missing.split_off(missing.len().min(room));
        self.missing = missing;
        left_out.iter().map(|missing| missing.changed_at).min()
    }
}

/// The state of a tenant that was not visited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// The tenant.
    pub tenant: String,
    /// The state.
    pub state: State,
}

/// A record whose change did not arrive. In JSON, it is an array of the record, the time of the change in seconds, and
/// 1 if the record may no longer exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Record, i64, u8)", into = "(Record, i64, u8)")]
pub struct Missing {
    /// The record.
    pub record: Record,
    /// The time of the change, in whole seconds.
    pub changed_at: Timestamp,
    /// `true` if the record may no longer exist. A signal for it can fail, so it must not keep others waiting.
    pub may_be_gone: bool,
}

impl From<&RecordChange> for Missing {
    fn from(changed: &RecordChange) -> Self {
        let may_be_gone = matches!(changed.change, Change::Merged | Change::SoftDeleted);
        (changed.record, changed.at.as_second(), may_be_gone.into()).into()
    }
}

impl From<(Record, i64, u8)> for Missing {
    fn from((record, second, may_be_gone): (Record, i64, u8)) -> Self {
        Self { record, changed_at: Timestamp::from_second(second).unwrap_or_default(), may_be_gone: may_be_gone != 0 }
    }
}

impl From<Missing> for (Record, i64, u8) {
    fn from(missing: Missing) -> Self {
        (missing.record, missing.changed_at.as_second(), missing.may_be_gone.into())
    }
}

/// Returns missing records in order. Of two entries for one record, the last one remains.
pub(crate) fn by_record(missing: impl IntoIterator<Item = Missing>) -> BTreeMap<Record, Missing> {
    missing.into_iter().map(|missing| (missing.record, missing)).collect()
}

/// A sweep that compared a part of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// The last record that was compared.
    pub after: Record,
    /// The end of the window.
    pub until: Timestamp,
    /// The time of the oldest change that had no room in the list of missing records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_left_out: Option<Timestamp>,
}

/// A window that is older than what a run reads for all tenants. It is compared by reading the log once from its start
/// to the present, in pieces. If it contains too many records, this is repeated for one range of records after another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Older {
    /// The start of the window.
    pub since: Timestamp,
    /// The end of the window.
    pub until: Timestamp,
    /// The records up to this one were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Record>,
    /// The last record of the range that is being compared; `None` if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Record>,
    /// The end of the log that was read for this range.
    pub read_until: Timestamp,
    /// The records whose change the log before `read_until` could report, and does not.
    #[serde(rename = "open", default, skip_serializing_if = "Vec::is_empty")]
    pub unreported: Vec<Missing>,
}

/// Returns the time `length` earlier.
pub(crate) fn before(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_sub(length).unwrap_or(time)
}

/// Returns the time `length` later.
pub(crate) fn after(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_add(length).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn missing(key: i64, second: i64) -> Missing {
        (Record::contact(key), second, 0).into()
    }

    #[test]
    fn changes_have_arrived_up_to_the_oldest_that_is_missing_or_not_compared() {
        let older = Older { since: time(70), until: time(90), read_until: time(80), ..Older::default() };
        let mut state = State { swept_until: Some(time(100)), ..State::default() };
        assert_eq!((State::default().arrived_until(), state.arrived_until()), (None, Some(time(100))));
        state.missing = vec![missing(1, 95), missing(2, 85)];
        assert_eq!(state.arrived_until(), Some(time(85)));
        state.older = Some(older.clone());
        assert_eq!(state.arrived_until(), Some(time(70)));
        state.older = Some(Older { unreported: vec![missing(3, 50)], ..older });
        assert_eq!(state.arrived_until(), Some(time(50)));
    }

    #[test]
    fn next_visit_needs_the_log_of_new_changes_and_of_missing_contacts() {
        let margin = SignedDuration::from_secs(10);
        let mut state = State { swept_until: Some(time(1000)), read_until: Some(time(1200)), ..State::default() };
        assert_eq!((State::default().log_since(margin), state.log_since(margin)), (None, Some(time(990))));
        state.missing = vec![missing(1, 95)];
        assert_eq!(state.log_since(margin), Some(time(900)));
    }

    #[test]
    fn window_that_is_set_aside_includes_the_earlier_one_and_the_missing_contacts() {
        let earlier = Older {
            since: time(500),
            until: time(600),
            read_until: time(550),
            after: Some(Record::contact(7)),
            last: Some(Record::contact(9)),
            unreported: vec![missing(1, 95), missing(8, 510)],
        };
        let mut state = State {
            swept_until: Some(time(1000)),
            unfinished: Some(Unfinished { after: Record::contact(5), until: time(1100), oldest_left_out: None }),
            read_until: Some(time(700)),
            missing: vec![missing(8, 900)],
            older: Some(earlier),
            ..State::default()
        };
        let window = Window { since: time(1000), until: time(2000) };
        state.set_aside(window, SignedDuration::from_secs(10), time(100), 2);
        let expected = Older {
            since: time(500),
            until: time(2000),
            // The log since 490 s is needed for the window, since 550 s for the earlier one, and since 400 s for
            // contact 8.
            read_until: time(400),
            after: None,
            last: None,
            unreported: vec![missing(8, 900)],
        };
        assert_eq!(state.older, Some(expected));
        assert_eq!((state.missing, state.unfinished, state.swept_until), (vec![], None, Some(time(1000))));
    }

    #[test]
    fn window_that_is_set_aside_includes_the_changes_without_room() {
        let earlier = Older { since: time(500), until: time(600), read_until: time(550), ..Older::default() };
        let aside = |missing: Vec<Missing>, room| {
            let older = Older { unreported: vec![self::missing(9, 300), self::missing(8, 410)], ..earlier.clone() };
            let (read_until, older) = (Some(time(700)), Some(older));
            let mut state = State { read_until, missing, older, ..State::default() };
            let window = Window { since: time(1000), until: time(2000) };
            state.set_aside(window, SignedDuration::from_secs(10), time(100), room);
            state.older.unwrap()
        };
        let found = || vec![missing(1, 2500), missing(2, 400), missing(3, 450)];
        let expected = Older {
            since: time(410),
            until: time(2501),
            read_until: time(400),
            unreported: vec![missing(2, 400), missing(9, 300)],
            ..Older::default()
        };
        assert_eq!(aside(found(), 2), expected);
        // The log is needed since 290 s for the change at 300 s.
        let everything = Older { since: time(300), read_until: time(290), unreported: vec![], ..expected };
        assert_eq!(aside(found(), 0), everything);
        // Gaps one after another do not make the state longer.
        let mut state = State::default();
        for gap in 0..4 {
            let second = 10_000 * (gap + 1);
            state.missing = (0..1500).map(|number| missing(1500 * gap + number, second)).collect();
            state.read_until = Some(time(second));
            let window = Window { since: time(second), until: time(second + 100) };
            state.set_aside(window, SignedDuration::from_secs(10), time(100), 1500);
            let older = state.older.as_ref().unwrap();
            assert_eq!((older.since, older.unreported.len()), (time(10_000), 1500));
        }
    }

    #[test]
    fn missing_records_without_room_are_persons_and_the_latest_contacts() {
        let mut state = State::default();
        let found = vec![missing(1, 30), (Record::person(4), 5, 0).into(), missing(2, 10), missing(3, 20)];
        assert_eq!(state.set_missing(found.clone(), 2), Some(time(5)));
        assert_eq!(state.missing, [missing(2, 10), missing(3, 20)]);
        assert_eq!((state.set_missing(found, 4), state.missing.len()), (None, 4));
    }

    #[test]
    fn state_is_short() {
        let missing = |record| vec![(record, 1_795_510_800, 1).into()];
        for (record, json) in [(Record::contact(994_863), "994863"), (Record::person(7), r#""person/7""#)] {
            let state = State { missing: missing(record), ..State::default() };
            let json = format!(r#"{{"missing":[[{json},1795510800,1]]"#);
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{json}}}"));
            assert_eq!(serde_json::from_str::<State>(&format!(r#"{json},"later":1}}"#)).unwrap(), state);
        }
    }
}
