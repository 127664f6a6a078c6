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
/// The number of living rows that one comparison reads. A page has at most 1,000 records, so at least 1,500 of these
/// rows are surplus, and the brake was certain before.
const MAX_LIVING: usize = 2500;
/// The number of rows that one comparison reads, tombstones included.
const MAX_ROWS: usize = 20_000;

/// A record that is read, because the table and the list differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The record's id.
    pub id: i64,
    /// The stamp of the row that is written. `None` for a surplus row.
    pub stamp: Option<String>,
    /// A change of the row counts as a difference: an event was lost.
    pub counts_as_lost: bool,
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

/// The rules of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Decides if rows are removed.
    pub brake: Brake,
    /// The last id that was handled before an interruption. It and the ids before it are only counted.
    pub after: i64,
    /// A row that was read earlier is read again.
    pub refresh_before: Timestamp,
    /// The audit has reached the page at this time. A tombstone or a surplus row that was read later needs no further
    /// read, although the list contradicts it: the audit read it before an interruption, or an event did.
    pub reached: Option<Timestamp>,
}

/// A page that is being compared with the rows of its range.
#[derive(Debug)]
pub struct Comparison {
    records: Peekable<IntoIter<ListedRecord>>,
    /// The time of the page by SuperOffice's clock.
    date: Timestamp,
    rules: Rules,
    differences: VecDeque<Difference>,
    /// The number of the page's records.
    listed: usize,
    rows: usize,
    living: usize,
    surplus: usize,
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
    pub fn new(page: RecordPage, now: Timestamp, rules: Rules) -> Self {
        Self {
            listed: page.records.len(),
            records: page.records.into_iter().peekable(),
            date: page.date.unwrap_or(now),
            rules,
            differences: VecDeque::new(),
            rows: 0,
            living: 0,
            surplus: 0,
        }
    }

    /// Adds the next row of the range.
    pub fn add(&mut self, row: &RowHead) {
        while let Some(record) = self.records.next_if(|record| record.id < row.id) {
            self.add_missing(&record);
        }
        self.rows += 1;
        self.living += usize::from(row.is_living);
        match self.records.next_if(|record| record.id == row.id) {
            Some(record) if row.is_living => self.add_living(&record, row),
            Some(record) if !self.is_settled(row) => self.add_missing(&record),
            None if row.is_living => self.add_surplus(row),
            _ => {}
        }
    }

    /// Returns `true` if the comparison ends with the last row, although its range can have more rows.
    pub fn is_full(&self) -> bool {
        self.living >= MAX_LIVING || self.rows >= MAX_ROWS || (self.rules.brake == Brake::On && self.is_brake_certain())
    }

    /// Ends the comparison. `is_complete` if every row of the range was added, so that the rest of the page is missing.
    pub fn finish(mut self, is_complete: bool) -> Compared {
        while let Some(record) = self.records.next_if(|_| is_complete) {
            self.add_missing(&record);
        }
        let is_braked = self.rules.brake == Brake::On && self.surplus >= BRAKE && self.surplus * 2 > self.living;
        if is_braked {
            self.differences.retain(|difference| !difference.is_surplus());
        }
        Compared { differences: self.differences, is_braked }
    }

    /// Returns `true` if most rows are surplus, whatever the rest of the range has: a living row that is not surplus has
    /// a record in the page.
    fn is_brake_certain(&self) -> bool {
        self.surplus >= BRAKE && self.surplus > self.listed
    }

    /// Returns `true` if a row without a stamp was read since the audit has reached the page.
    fn is_settled(&self, row: &RowHead) -> bool {
        row.stamp.is_none() && self.rules.reached.is_some_and(|reached| row.read_at > reached)
    }

    /// Adds a record without a living row.
    fn add_missing(&mut self, record: &ListedRecord) {
        let counts_as_lost = !self.is_recent(record);
        self.add_difference(Difference { id: record.id, stamp: Some(stamp(record)), counts_as_lost });
    }

    /// Adds a record with a living row, unless they agree.
    fn add_living(&mut self, record: &ListedRecord, row: &RowHead) {
        let stamp = stamp(record);
        let is_current = row.stamp.as_ref() == Some(&stamp);
        if !is_current || row.read_at <= self.rules.refresh_before {
            let counts_as_lost = !is_current && !self.is_recent(record);
            self.add_difference(Difference { id: record.id, stamp: Some(stamp), counts_as_lost });
        }
    }

    fn add_surplus(&mut self, row: &RowHead) {
        self.surplus += 1;
        if self.rules.brake != Brake::Applied && !self.is_settled(row) {
            self.add_difference(Difference { id: row.id, stamp: None, counts_as_lost: true });
        }
    }

    fn add_difference(&mut self, difference: Difference) {
        if difference.id > self.rules.after {
            self.differences.push_back(difference);
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

    fn rules(brake: Brake) -> Rules {
        Rules { brake, after: 0, refresh_before: at(NOW) - SignedDuration::from_hours(30 * 24), reached: None }
    }

    fn compare(records: Vec<ListedRecord>, rows: &[RowHead], brake: Brake) -> Compared {
        compare_with(rules(brake), records, rows)
    }

    fn compare_with(rules: Rules, records: Vec<ListedRecord>, rows: &[RowHead]) -> Compared {
        let mut comparison = Comparison::new(RecordPage { records, date: Some(at(NOW)) }, at(NOW), rules);
        rows.iter().for_each(|row| comparison.add(row));
        comparison.finish(true)
    }

    /// Returns the id, the updated text of the stamp, and the flag of each difference.
    fn differences(compared: &Compared) -> Vec<(i64, Option<&str>, bool)> {
        fn view(difference: &Difference) -> (i64, Option<&str>, bool) {
            let updated =
                difference.stamp.as_deref().and_then(|stamp| stamp.split_once('/')).map(|(_, updated)| updated);
            (difference.id, updated, difference.counts_as_lost)
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
        let compared = Comparison::new(page.clone(), late, rules(Brake::On)).finish(true);
        assert_eq!(differences(&compared), [(7, Some("2026-11-24T08:50:00Z"), false)]);
        let compared = Comparison::new(RecordPage { date: None, ..page }, late, rules(Brake::On)).finish(true);
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
    fn handled_ids_are_only_counted() {
        let records = vec![record(1, "a"), record(30, "a")];
        let rows: Vec<_> = (2..=25).map(|id| row(id, None)).collect();
        let after = Rules { after: 24, ..rules(Brake::Off) };
        let expected = [(25, None, true), (30, Some("a"), true)];
        assert_eq!(differences(&compare_with(after, records.clone(), &rows)), expected);
        let compared = compare_with(Rules { brake: Brake::On, ..after }, records, &rows);
        assert_eq!((compared.is_braked, differences(&compared)), (true, vec![expected[1]]));
    }

    #[test]
    fn row_that_was_read_since_the_page_was_reached_is_not_read_again_because_it_has_no_stamp() {
        let reached = at("2026-11-24T08:00:00Z");
        let with = |row: RowHead, read_at| RowHead { read_at, ..row };
        let later = reached + SignedDuration::from_millis(1);
        let records = [1, 2, 3, 4, 5].map(|id| record(id, "a")).to_vec();
        let rows = [
            with(tombstone(1), later),
            with(tombstone(2), reached),
            // An event wrote these rows, which do not contradict the list.
            with(row(3, None), later),
            with(row(4, Some("b")), later),
            with(row(6, None), later),
            with(row(7, None), reached),
            with(row(8, Some("a")), later),
        ];
        let rules = Rules { reached: Some(reached), ..rules(Brake::On) };
        let ids: Vec<i64> = compare_with(rules, records, &rows).differences.iter().map(|found| found.id).collect();
        assert_eq!(ids, [2, 3, 4, 5, 7, 8]);
    }

    #[test]
    fn comparison_is_bounded_however_many_rows_there_are() {
        for (brake, is_living, expected) in [
            // More surplus rows than records: the brake is certain.
            (Brake::On, true, 31),
            (Brake::On, false, MAX_ROWS),
            (Brake::Applied, true, MAX_LIVING),
            (Brake::Applied, false, MAX_ROWS),
            (Brake::Off, true, MAX_LIVING),
        ] {
            let records = (1..=30).map(|id| record(1_000_000 + id, "a")).collect();
            let mut comparison = Comparison::new(RecordPage { records, date: None }, at(NOW), rules(brake));
            let rows = (1..100_000_i64).find(|id| {
                comparison.add(&RowHead { is_living, ..row(*id, None) });
                comparison.is_full()
            });
            assert_eq!(rows.map(|rows| rows.try_into()), Some(Ok(expected)), "{brake:?} {is_living}");
            let compared = comparison.finish(false);
            let is_braked = brake == Brake::On && is_living;
            let surplus = if brake == Brake::Off { MAX_LIVING } else { 0 };
            assert_eq!((compared.is_braked, compared.differences.len()), (is_braked, surplus), "{brake:?} {is_living}");
        }
        // Fewer surplus rows than the brake needs.
        let mut comparison = Comparison::new(RecordPage { records: Vec::new(), date: None }, at(NOW), rules(Brake::On));
        (1..20).for_each(|id| comparison.add(&row(id, None)));
        assert!(!comparison.is_full());
        comparison.add(&row(20, None));
        assert!(comparison.is_full());
    }
}
