//! A page of SuperOffice's list beside the rows of its range, merged like two sorted lists.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use jiff::{SignedDuration, Timestamp};
use superoffice_client::records::{ListedRecord, RecordPage};

use crate::table::RowHead;
use crate::visit::Evidence;

/// A change is left to its event for this time.
const EVENT_MAY_ARRIVE: SignedDuration = SignedDuration::from_mins(15);
/// The number of surplus rows from which the brake can be applied.
const BRAKE: usize = 20;
/// The number of surplus rows that one comparison collects at most.
const MAX_SURPLUS: usize = 5000;

/// A record that is read, because the table and the list differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The record's id.
    pub id: i64,
    /// The stamp of the row that is written. `None` for a surplus row.
    pub stamp: Option<String>,
    /// A change of the row counts as a difference.
    pub counts: bool,
}

impl Difference {
    /// Returns `true` if the table has a living row that the list lacks.
    pub fn is_surplus(&self) -> bool {
        self.stamp.is_none()
    }

    /// Returns the word of the page.
    pub fn evidence(&self) -> Evidence {
        if self.is_surplus() { Evidence::NotInPage } else { Evidence::InPage }
    }
}

/// The rule that decides if rows are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brake {
    /// Surplus rows are removed, whatever their number.
    Off,
    /// Surplus rows are removed unless most rows are surplus.
    On,
    /// No row is removed.
    Applied,
}

/// A page that is being compared with the rows of its range.
#[derive(Debug)]
pub struct Comparison {
    records: Peekable<IntoIter<ListedRecord>>,
    /// The time of the page by SuperOffice's clock.
    date: Timestamp,
    /// Rows that were read earlier are read again.
    refresh_before: Timestamp,
    brake: Brake,
    differences: VecDeque<Difference>,
    living: usize,
    surplus: usize,
    max_surplus: usize,
}

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub struct Compared {
    /// The records to read, in the order of their ids.
    pub differences: VecDeque<Difference>,
    /// The brake was applied because of this page.
    pub is_braked: bool,
}

impl Comparison {
    /// Begins the comparison of a page. Its date is `now` if the response had none.
    pub fn new(page: RecordPage, now: Timestamp, refresh_days: u32, brake: Brake) -> Self {
        let lifetime = SignedDuration::from_hours(24 * i64::from(refresh_days));
        Self {
            // With more surplus rows than records, more than half of the rows are surplus, so the brake is certain to
            // be applied.
            max_surplus: page.records.len().max(MAX_SURPLUS),
            records: page.records.into_iter().peekable(),
            date: page.date.unwrap_or(now),
            refresh_before: now.saturating_sub(lifetime).unwrap_or(Timestamp::MIN),
            brake,
            differences: VecDeque::new(),
            living: 0,
            surplus: 0,
        }
    }

    /// Adds the next row of the range.
    pub fn add(&mut self, row: &RowHead) {
        while let Some(record) = self.records.next_if(|record| record.id < row.id) {
            self.add_missing(&record);
        }
        self.living += usize::from(row.is_living);
        match self.records.next_if(|record| record.id == row.id) {
            Some(record) if row.is_living => self.add_row(&record, row),
            Some(record) => self.add_missing(&record),
            None if row.is_living => self.add_surplus(row.id),
            None => {}
        }
    }

    /// Returns `true` if the comparison has collected as many surplus rows as it may. Then it ends with the last row.
    pub fn is_full(&self) -> bool {
        self.brake == Brake::Off && self.surplus >= self.max_surplus
    }

    /// Ends the comparison. `is_complete` if every row of the range was added, so that the rest of the page is missing.
    pub fn finish(mut self, is_complete: bool) -> Compared {
        while let Some(record) = self.records.next_if(|_| is_complete) {
            self.add_missing(&record);
        }
        let is_braked = self.brake == Brake::On && self.surplus >= BRAKE && self.surplus * 2 > self.living;
        if is_braked {
            self.differences.retain(|difference| !difference.is_surplus());
        }
        Compared { differences: self.differences, is_braked }
    }

    /// Adds a record without a living row.
    fn add_missing(&mut self, record: &ListedRecord) {
        let counts = !self.is_recent(record);
        self.differences.push_back(Difference { id: record.id, stamp: Some(stamp(record)), counts });
    }

    /// Adds a record with a living row, unless they agree.
    fn add_row(&mut self, record: &ListedRecord, row: &RowHead) {
        let stamp = stamp(record);
        let is_current = row.stamp.as_ref() == Some(&stamp);
        if !is_current || row.read_at <= self.refresh_before {
            let counts = !is_current && !self.is_recent(record);
            self.differences.push_back(Difference { id: record.id, stamp: Some(stamp), counts });
        }
    }

    fn add_surplus(&mut self, id: i64) {
        self.surplus += 1;
        if self.brake != Brake::Applied && self.surplus <= self.max_surplus {
            self.differences.push_back(Difference { id, stamp: None, counts: true });
        }
    }

    /// Returns `true` if the event of the record's last change may still be on its way.
    fn is_recent(&self, record: &ListedRecord) -> bool {
        record.latest().is_some_and(|latest| self.date.duration_since(latest) < EVENT_MAY_ARRIVE)
    }
}

/// Returns the stamp of a record: the list's own texts.
pub fn stamp(record: &ListedRecord) -> String {
    format!("{}/{}", record.registered, record.updated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-24T09:00:00Z";
    const OLD: &str = "2026-01-01T00:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record(id: i64, updated: &str) -> ListedRecord {
        ListedRecord { id, registered: OLD.into(), updated: updated.into() }
    }

    fn row(id: i64, updated: Option<&str>) -> RowHead {
        RowHead { id, is_living: true, read_at: at(NOW), stamp: updated.map(|updated| format!("{OLD}/{updated}")) }
    }

    fn tombstone(id: i64) -> RowHead {
        RowHead { is_living: false, ..row(id, None) }
    }

    fn compare(records: Vec<ListedRecord>, rows: &[RowHead], brake: Brake) -> Compared {
        let page = RecordPage { records, date: Some(at(NOW)) };
        let mut comparison = Comparison::new(page, at(NOW), 30, brake);
        rows.iter().for_each(|row| comparison.add(row));
        comparison.finish(true)
    }

    /// Returns the id, the updated text of the stamp, and the flag of each difference.
    fn differences(compared: &Compared) -> Vec<(i64, Option<&str>, bool)> {
        fn view(difference: &Difference) -> (i64, Option<&str>, bool) {
            let updated =
                difference.stamp.as_deref().and_then(|stamp| stamp.split_once('/')).map(|(_, updated)| updated);
            (difference.id, updated, difference.counts)
        }
        compared.differences.iter().map(view).collect()
    }

    #[test]
    fn lists_are_merged_by_id() {
        let records = [1, 2, 4, 6, 9].map(|id| record(id, "a")).to_vec();
        let rows = [row(2, Some("a")), row(3, Some("a")), tombstone(4), row(5, None), row(6, Some("b")), tombstone(7)];
        let expected = [
            (1, Some("a"), true),
            (3, None, true),
            (4, Some("a"), true),
            (5, None, true),
            (6, Some("a"), true),
            (9, Some("a"), true),
        ];
        assert_eq!(differences(&compare(records, &rows, Brake::On)), expected);
        assert_eq!(differences(&compare(Vec::new(), &[tombstone(1)], Brake::On)), []);
    }

    #[test]
    fn row_agrees_if_its_stamp_has_the_texts_of_the_list_and_it_is_not_old() {
        let seconds = |seconds| at(NOW) - SignedDuration::from_hours(30 * 24) + SignedDuration::from_secs(seconds);
        let with = |stamp: &str, read_at| RowHead { stamp: Some(stamp.into()), read_at, ..row(7, None) };
        for (row, expected) in [
            (with("2026-01-01T00:00:00Z/a", at(NOW)), None),
            (with("2026-01-01T00:00:00Z/a", seconds(1)), None),
            // Only the row's age.
            (with("2026-01-01T00:00:00Z/a", seconds(0)), Some(false)),
            (with("2026-01-01T00:00:00Z/b", seconds(0)), Some(true)),
            // The same time in another form.
            (with("2026-01-01T01:00:00+01:00/a", at(NOW)), Some(true)),
            (with("a/2026-01-01T00:00:00Z", at(NOW)), Some(true)),
            (row(7, None), Some(true)),
        ] {
            let compared = compare(vec![record(7, "a")], std::slice::from_ref(&row), Brake::On);
            let expected: Vec<_> = expected.into_iter().map(|counts| (7, Some("a"), counts)).collect();
            assert_eq!(differences(&compared), expected, "{row:?}");
        }
    }

    #[test]
    fn change_of_the_last_quarter_of_an_hour_is_left_to_its_event() {
        for (updated, counts) in [
            ("2026-11-24T08:45:00Z", true),
            ("2026-11-24T08:45:01Z", false),
            ("2026-11-24T10:45:00+02:00", true),
            ("2026-11-24T10:59:00+02:00", false),
            // Without an offset, a time is read as UTC, even if it is the server's local time.
            ("2026-11-24T08:59:00", false),
            ("2026-11-24T07:59:00", true),
            ("2026-11-24T10:00:00", false),
            ("0001-01-01T00:00:00", true),
            ("soon", true),
        ] {
            for rows in [&[][..], &[row(7, Some("before"))], &[tombstone(7)]] {
                let compared = compare(vec![record(7, updated)], rows, Brake::On);
                assert_eq!(differences(&compared), [(7, Some(updated), counts)], "{updated}");
            }
        }
        // The date of the page counts, and not the clock of this machine.
        let page = RecordPage { records: vec![record(7, "2026-11-24T08:50:00Z")], date: Some(at(NOW)) };
        let late = at("2026-11-24T19:00:00Z");
        let compared = Comparison::new(page.clone(), late, 30, Brake::On).finish(true);
        assert_eq!(differences(&compared), [(7, Some("2026-11-24T08:50:00Z"), false)]);
        let compared = Comparison::new(RecordPage { date: None, ..page }, late, 30, Brake::On).finish(true);
        assert_eq!(differences(&compared), [(7, Some("2026-11-24T08:50:00Z"), true)]);
    }

    #[test]
    fn brake_is_applied_if_more_than_half_and_at_least_twenty_living_rows_are_surplus() {
        for (agreeing, surplus, brake, is_braked, removed) in [
            (0, 19, Brake::On, false, 19),
            (0, 20, Brake::On, true, 0),
            (19, 20, Brake::On, true, 0),
            (20, 20, Brake::On, false, 20),
            (0, 20, Brake::Off, false, 20),
            (100, 1, Brake::Applied, false, 0),
        ] {
            let records = (1..=agreeing).map(|id| record(id, "a")).chain([record(1000, "a")]).collect();
            let mut rows: Vec<_> = (1..=agreeing).map(|id| row(id, Some("a"))).collect();
            rows.extend((500..500 + surplus).map(|id| row(id, Some("a"))));
            // Tombstones do not count.
            rows.extend((600..700).map(tombstone));
            let compared = compare(records, &rows, brake);
            let surplus_ids = compared.differences.iter().filter(|difference| difference.is_surplus()).count();
            assert_eq!((compared.is_braked, surplus_ids), (is_braked, removed), "{agreeing} {surplus} {brake:?}");
            // The other differences are mended.
            assert_eq!(compared.differences.back().unwrap().id, 1000);
        }
    }

    #[test]
    fn memory_is_bounded_however_many_rows_are_surplus() {
        let collect = |brake| {
            let page = RecordPage { records: vec![record(9_000, "a"), record(200_000, "a")], date: None };
            let mut comparison = Comparison::new(page, at(NOW), 30, brake);
            let added = (1..100_000).take_while(|id| {
                comparison.add(&row(*id, None));
                assert!(comparison.differences.len() <= MAX_SURPLUS + 1);
                !comparison.is_full()
            });
            (added.count() + 1, comparison)
        };
        let (rows, comparison) = collect(Brake::On);
        let compared = comparison.finish(true);
        assert_eq!((rows, compared.is_braked), (100_000, true));
        assert_eq!(differences(&compared), [(9_000, Some("a"), true), (200_000, Some("a"), true)]);
        let (rows, comparison) = collect(Brake::Off);
        let compared = comparison.finish(false);
        assert_eq!((rows, compared.is_braked, compared.differences.len()), (MAX_SURPLUS, false, MAX_SURPLUS));
        assert!(compared.differences.iter().all(Difference::is_surplus));
    }
}
